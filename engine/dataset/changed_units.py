"""Which units of two versions of Python differ, found once for each pair: to parse them takes most of a data set."""

from __future__ import annotations

from typing import NamedTuple

from instar.engine.differences.units import Unit, units
from instar.fsm.words import Digest

from .heard import clean


class Changed(NamedTuple):
    """A unit that two versions have, and not alike: its name, and on either side its digest and its source."""

    name: str
    old: Digest
    new: Digest
    asked: str
    right: str


class ChangedUnits:
    """Compares versions, and remembers what came of it."""

    def __init__(self) -> None:
        self.chars = 0
        """About what is remembered takes."""
        self._known: dict[tuple[Digest, Digest], tuple[Changed, ...] | None] = {}
        self._last: dict[Digest, dict[str, Unit] | None] = {}
        """The units of the last pair: the newer version often is the older one of the next."""

    def of(self, before: tuple[Digest, bytes], after: tuple[Digest, bytes]) -> tuple[Changed, ...] | None:
        """Gives the units that differ; None if a version has none, or is no Python.

        Args:
            before: the older version, its digest and content.
            after: the newer one.
        """
        pair = before[0], after[0]
        if pair not in self._known:
            self._last = {digest: self._units(digest, content) for digest, content in (before, after)}
            found = _compared(*(self._last[digest] for digest in pair))
            self._known[pair] = found
            self.chars += 300 + sum(len(one.asked) + len(one.right) for one in found or ())
        return self._known[pair]

    def _units(self, digest: Digest, content: bytes) -> dict[str, Unit] | None:
        return self._last[digest] if digest in self._last else _read(content)


def _read(content: bytes) -> dict[str, Unit] | None:
    try:
        read = units(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None
    return None if any(unit.kind == "text" for unit in read.values()) else read


def _compared(before: dict[str, Unit] | None, after: dict[str, Unit] | None) -> tuple[Changed, ...] | None:
    if not before or not after:
        return None
    both = ((name, old, after[name]) for name, old in before.items() if name in after)
    return tuple(
        Changed(name, old.digest, new.digest, clean(old.source), clean(new.source))
        for name, old, new in both
        if old.digest != new.digest and "nested" not in (old.kind, new.kind)  # that is told with what holds it
    )
