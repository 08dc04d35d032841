"""A window over the latest texts of a sequence: what was judged lately, for a fold that remembers the last few hundred.

States of neighbouring positions share one growing list, of which each sees its own part (as Go's slices do): adding to
the newest window costs the same however large it is, and no window ever changes. Adding to an older one copies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class Window:
    """The latest texts, oldest first; immutable to whoever holds it."""

    __slots__ = ("_end", "_first", "_places", "_texts")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts = list(texts)
        self._places = {text: place for place, text in enumerate(self._texts)}
        self._first, self._end = 0, len(self._texts)

    def pushed(self, text: str, size_max: int) -> Window:
        """Gives the window with one text more, and no more than ``size_max`` in all."""
        end = self._end
        first = max(self._first, end + 1 - size_max)
        texts, places = self._texts, self._places
        if len(texts) == end and end < 4 * size_max:
            texts.append(text)
        if len(texts) == end or texts[end] is not text:  # too long a list, an older window, or another thread's text
            return Window([*texts[first:end], text])
        if places.get(text, -1) < end:
            places[text] = end
        return _window(texts, places, first, end + 1)

    def extended(self, new: Sequence[str], size_max: int) -> Window | None:
        """Gives the window with several texts more, one or more, each of which is in none before it.

        Returns:
            None if that is not so, or cannot be told at once.
        """
        if len(set(new)) < len(new) or not self._places.keys().isdisjoint(new):
            return None
        end = self._end
        after = end + len(new)
        first = max(self._first, after - size_max)
        texts, places = self._texts, self._places
        if len(texts) == end and end < 4 * size_max:
            texts.extend(new)
        if len(texts) == end or texts[end] is not new[0]:  # as in ``pushed``
            return Window([*texts[self._first : end], *new][first - after :])
        places.update(zip(new, range(end, after), strict=True))
        return _window(texts, places, first, after)

    @property
    def texts(self) -> list[str]:
        """All of them, oldest first, in a list of one's own."""
        return self._texts[self._first : self._end]

    def __contains__(self, text: object) -> bool:
        place = self._places.get(text)  # type: ignore[call-overload]
        if place is None:
            return False
        if place < self._end:
            return bool(place >= self._first)
        return text in self._texts[self._first : self._end]  # a later window holds it again

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts[self._first : self._end])

    def __len__(self) -> int:
        return self._end - self._first

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Window) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Window({list(self)!r})"


def _window(texts: list[str], places: dict[str, int], first: int, end: int) -> Window:
    """Makes the window that sees a part of a shared list."""
    window = Window.__new__(Window)
    window._texts, window._places, window._first, window._end = texts, places, first, end
    return window
