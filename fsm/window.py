"""A window over the latest texts of a sequence: what was judged lately, for a fold that remembers the last few hundred.

States of neighbouring positions share one growing list, of which each sees its own part (as Go's slices do): adding to
the newest window costs the same however large it is, and no window ever changes. Adding to an older one copies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


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
        after = Window.__new__(Window)
        after._texts, after._places, after._first, after._end = texts, places, first, end + 1
        return after

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
