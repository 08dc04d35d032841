"""Which definition of one version is which of the other: by name, and where a name is gone, by what it is."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from instar.engine.differences.units import RENAMED_NODES_MIN

from .forms import Forms
from .renames import ALIKE_MIN, COMPARED_MAX, alike, renames


class Aligned(NamedTuple):
    """A definition under its name in either version."""

    before: str
    after: str


class Alignment(NamedTuple):
    """What corresponds; ``names`` were exchanged throughout the source."""

    both: list[Aligned]
    added: list[str]
    removed: list[str]
    names: dict[str, str]


def aligned(old: Forms, new: Forms) -> Alignment:
    """Pairs the definitions of two versions."""
    before, after = old.source.places, new.source.places
    both = [Aligned(name, name) for name in before if name in after]
    gone = [name for name in before if name not in after]
    fresh = [name for name in after if name not in before]
    moved = [pair for pair in _moved(old, new, gone, fresh) if not _is_missed(old, new, pair)]
    differing = [
        pair
        for pair in both
        if before[pair.before].text != after[pair.after].text and old.plain(pair.before) != new.plain(pair.after)
    ]
    forms = [(old.told(pair.before), new.told(pair.after)) for pair in (*differing, *moved) if _fit(old, new, pair)]
    names = renames(old.source, new.source, forms) if forms else {}
    known = {pair.before for pair in moved}
    taken = {pair.after for pair in moved}
    return Alignment(
        both=[*both, *moved],
        added=[name for name in fresh if name not in taken],
        removed=[name for name in gone if name not in known],
        names=names,
    )


def _is_missed(old: Forms, new: Forms, pair: Aligned) -> bool:
    """Says whether one version asks for a definition by the name that only the other gives it."""
    name, other = _last(pair.before), _last(pair.after)
    return name != other and any(one in forms.source.missed for forms, one in ((new, name), (old, other)))


def _fit(old: Forms, new: Forms, pair: Aligned) -> bool:
    return not (old.is_large(pair.before) or new.is_large(pair.after))


def _moved(old: Forms, new: Forms, gone: list[str], fresh: list[str]) -> list[Aligned]:
    """Pairs what vanished with what is new: equal ones first, then the most alike, each once."""
    if not gone or not fresh:
        return []
    free: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in reversed(fresh):
        free[tuple(new.plain(name))].append(name)
    found: dict[str, str] = {}
    for name in gone:
        same = free[tuple(old.plain(name))]
        own = [one for one in same if _last(one) == _last(name)]
        if same and (own or len(old.plain(name)) >= RENAMED_NODES_MIN):
            found[name] = own[-1] if own else same[-1]
            same.remove(found[name])
    taken = set(found.values())
    left, right = [name for name in gone if name not in found], [name for name in fresh if name not in taken]
    if len(left) * len(right) <= COMPARED_MAX:
        for _, name, other in sorted(_likely(old, new, left, right), key=lambda one: (-one[0], one[1], one[2])):
            if name not in found and other not in taken:
                found[name] = other
                taken.add(other)
    for name, other in _holders(found):
        if name in left and other in right and name not in found and other not in taken:
            found[name] = other
            taken.add(other)
    return [Aligned(name, other) for name, other in found.items()]


def _holders(found: dict[str, str]) -> list[tuple[str, str]]:
    """Classes whose methods were paired: too small by themselves to be known again."""
    pairs = [(name.rpartition("."), other.rpartition(".")) for name, other in found.items()]
    return [(a[0], b[0]) for a, b in pairs if a[0] and b[0] and a[2] == b[2]]


def _likely(old: Forms, new: Forms, left: list[str], right: list[str]) -> list[tuple[float, str, str]]:
    places, others = old.source.places, new.source.places
    found = []
    for name in left:
        for other in right:
            if places[name].kind in {"class", "module"} and others[other].kind != places[name].kind:
                continue
            a, b = old.plain(name), new.plain(other)
            if min(len(a), len(b)) < ALIKE_MIN / 2 * max(len(a), len(b)):
                continue
            score = alike(a, b)
            same = _last(name) == _last(other)
            small = min(len(a), len(b)) < RENAMED_NODES_MIN
            if score >= ALIKE_MIN and (same or not small):
                found.append((score + same, name, other))
    return found


def _last(name: str) -> str:
    return name.rpartition(".")[2]
