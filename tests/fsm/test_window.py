"""A window is what a tuple that is cut to length would be, whichever older window one goes on from."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from instar.fsm.window import Window

TEXTS = st.sampled_from([f"t{n}" for n in range(12)])


@given(st.lists(st.tuples(st.integers(0, 100), TEXTS, st.integers(1, 7)), max_size=60))
def test_window_is_the_end_of_a_sequence_from_any_older_one(steps: list[tuple[int, str, int]]) -> None:
    states: list[tuple[Window, tuple[str, ...]]] = [(Window(), ())]
    for origin, text, size_max in steps:
        window, plain = states[origin % len(states)] if origin < 50 else states[-1]
        states.append((window.pushed(text, size_max), (*plain, text)[-size_max:]))
    for window, plain in states:
        assert tuple(window) == plain
        assert len(window) == len(plain)
        assert {text for text in (f"t{n}" for n in range(12)) if text in window} == set(plain)
        assert window == Window(plain)
        assert hash(window) == hash(Window(plain))


@given(
    st.lists(st.tuples(st.integers(0, 100), st.lists(TEXTS, min_size=1, max_size=9), st.integers(1, 7)), max_size=40)
)
def test_window_with_several_texts_is_the_one_with_each_after_the_other(
    steps: list[tuple[int, list[str], int]],
) -> None:
    states: list[tuple[Window, tuple[str, ...]]] = [(Window(), ())]
    for origin, texts, size_max in steps:
        window, plain = states[origin % len(states)] if origin < 50 else states[-1]
        extended = window.extended(texts, size_max)
        if len(set(texts)) < len(texts) or set(texts) & set(plain):
            assert extended is None
        if extended is None:  # told so, or not told at once
            extended = window
            for text in texts:
                extended = extended.pushed(text, size_max)
        states.append((extended, (*plain, *texts)[-size_max:]))
    for window, plain in states:
        assert (tuple(window), tuple(window.texts), len(window)) == (plain, plain, len(plain))
        assert {text for text in (f"t{n}" for n in range(12)) if text in window} == set(plain)


def test_new_texts_are_taken_at_once() -> None:
    window = Window(["a"])
    extended = window.extended(["b", "c"], 2)
    assert extended is not None
    assert (tuple(extended), tuple(window)) == (("b", "c"), ("a",))
    assert "a" not in extended
    beside = window.extended(["d"], 2)
    assert beside is not None
    assert (tuple(beside), tuple(extended)) == (("a", "d"), ("b", "c"))


def test_windows_of_two_threads_do_not_mix() -> None:
    origin = Window(["a"])
    found: list[Window] = []

    def work(name: str) -> None:
        window = origin
        for n in range(2000):
            window = window.pushed(f"{name}{n}", 50)
        found.append(window)

    threads = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tuple(window)[-1] for window in found) == ["x1999", "y1999", "z1999"]
    for window in found:
        assert len({text[0] for text in window}) == 1
        assert all(text in window for text in window)
    assert tuple(origin) == ("a",)
