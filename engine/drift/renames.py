"""Names that were exchanged for others throughout a source: a rename is no change, wherever the name is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from instar.engine.differences import sequence_diff

from .source import Source

Labels = Sequence[str]
_PREFIXES: Final = ("name ", "bound ", "=", "str '")
ALIKE_MIN: Final = 0.6
"""Share of labels, as a bag, that two definitions of different names have in common to be one that was renamed."""
COMPARED_MAX: Final = 40_000
"""Pairs of vanished and new definitions that are compared; beyond it only equal ones are paired."""


def renames(before: Source, after: Source, pairs: Iterable[tuple[Labels, Labels]]) -> dict[str, str]:
    """Finds the names that vanished, each with the one that stands in its place everywhere.

    A name qualifies only if the source itself gives it to something, it is nowhere in the other version, and what takes
    its place is so too: a changed call names something that was there, or something that nobody defined.

    Args:
        before: the last version.
        after: the new version.
        pairs: normal forms of definitions that correspond.
    """
    votes: Counter[tuple[str, str, bool]] = Counter()
    for left, right in pairs:
        for change in sequence_diff.changes(left, right):
            if change.a_high - change.a_low == change.b_high - change.b_low:
                votes.update(_named(left[change.a_low : change.a_high], right[change.b_low : change.b_high]))
    if not votes:
        return {}  # before the whole of both sources is searched for names
    gone = before.bound - after.identifiers
    new = after.bound - before.identifiers
    open_gone, open_new = before.named_from_outside, after.named_from_outside
    found: dict[str, str] = {}
    for (name, other, by_text), _ in votes.most_common():
        if by_text and not (name in open_gone and other in open_new):
            continue  # a text that reads like a local variable is no name of it
        if name in gone and other in new and name not in found and other not in found.values():
            found[name] = other
    return found


def _named(left: Labels, right: Labels) -> Iterable[tuple[str, str, bool]]:
    for old, now in zip(left, right, strict=True):
        for prefix in _PREFIXES:
            if old.startswith(prefix) and now.startswith(prefix):
                name, other = old.removeprefix(prefix).strip("'"), now.removeprefix(prefix).strip("'")
                if name != other:
                    yield name, other, prefix == _PREFIXES[-1]


def renamed(labels: Labels, names: Mapping[str, str]) -> list[str]:
    """Gives a normal form with names exchanged."""
    table = {f"{prefix}{old}": f"{prefix}{new}" for old, new in names.items() for prefix in _PREFIXES[:-1]}
    table |= {f"str {old!r}": f"str {new!r}" for old, new in names.items()}
    return [table.get(label, label) for label in labels] if table else list(labels)


def alike(left: Labels, right: Labels) -> float:
    """Gives the share of labels that two normal forms have in common, wherever they stand, in 0..1."""
    total = len(left) + len(right)
    return 2 * (Counter(left) & Counter(right)).total() / total if total else 1.0
