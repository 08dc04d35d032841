"""A group that was served wakes by chains; nobody is forgotten, whatever becomes of those in front."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

import pytest

from instar.fsm.errors import LogUnavailable
from instar.store import combining
from instar.store.combining import Combiner, Request
from tests.store.interruptions import interrupted_at


class Numbered(Request):
    """A request with a number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Interrupted(Numbered):
    """A request whose thread is interrupted in its sleep, as by Ctrl-C."""

    __slots__ = ()

    def sleep(self) -> None:
        super().sleep()
        raise KeyboardInterrupt


def test_every_request_of_many_threads_is_served_once() -> None:
    served: list[int] = []

    def serve(group: Sequence[Numbered]) -> None:
        served.extend(request.number for request in group)

    combiner = Combiner(serve, group_max=7)

    def work(thread: int) -> None:
        for number in range(50):
            combiner.submit(Numbered(thread * 50 + number))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(served) == list(range(800))


@pytest.mark.parametrize("interrupted", [{1}, {1, 2}, {2, 3, 5}, set(range(1, 8))])
def test_interrupted_thread_does_not_keep_the_others_asleep(interrupted: set[int]) -> None:
    entered, go = threading.Event(), threading.Event()
    served: list[int] = []

    def serve(group: Sequence[Numbered]) -> None:
        served.extend(request.number for request in group)
        entered.set()
        go.wait(30)

    combiner = Combiner(serve)
    back: list[int] = []

    def work(number: int) -> None:
        request = Interrupted(number) if number in interrupted else Numbered(number)
        try:
            combiner.submit(request)
        except KeyboardInterrupt:
            return
        back.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(12)]
    threads[0].start()
    assert entered.wait(30)
    for count, thread in enumerate(threads[1:], 1):
        thread.start()
        while len(combiner._waiting) < count:
            pass
    go.set()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(back) == sorted(set(range(12)) - interrupted)
    assert len(served) == len(set(served))
    assert set(served) >= set(back)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="where a handler runs is a matter of CPython")
@pytest.mark.parametrize("together", [False, True])
def test_turn_is_given_back_wherever_an_interruption_falls(together: bool) -> None:
    for nth in range(1, 400):
        combiner = Combiner[Numbered](lambda group: None)
        if together:
            combiner._last = 2  # as after a group of two: one waits for more
        again = interrupted_at(nth, {combining.__file__}, lambda combiner=combiner: combiner.submit(Numbered(1)))  # type: ignore[misc]
        other = threading.Thread(target=combiner.submit, args=(Numbered(2),), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), nth
        if not again:
            break
    assert 3 < nth < 400


def test_append_in_the_midst_of_one_of_the_same_thread_is_refused() -> None:
    combiner: Combiner[Numbered]

    def serve(group: Sequence[Numbered]) -> None:
        for request in group:
            if request.number == 1:
                with pytest.raises(LogUnavailable, match="signal handler"):
                    combiner.submit(Numbered(2))

    combiner = Combiner(serve)
    combiner.submit(Numbered(1))
    combiner.submit(Numbered(3))


def test_process_that_was_forked_off_while_a_thread_served_does_not_wait_for_it() -> None:
    entered, go = threading.Event(), threading.Event()

    def serve(group: Sequence[Numbered]) -> None:
        if group[0].number == 1:
            entered.set()
            go.wait(30)

    combiner = Combiner(serve)
    thread = threading.Thread(target=combiner.submit, args=(Numbered(1),))
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        threading.Timer(10, os._exit, (1,)).start()
        combiner.submit(Numbered(2))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    thread.join(30)
