"""A group that was served wakes by chains; nobody is forgotten, whatever becomes of those in front."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from instar.store.combining import Combiner, Request


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
