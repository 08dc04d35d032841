"""What became of one definition: nothing that counts, something that only its readers see, or a change."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

from instar.engine.differences.bindings import bound

from .align import Aligned
from .facets import explained
from .forms import Forms
from .measure import difference, graded
from .renames import renamed
from .result import WEAK, UnitDrift, What

NAMES_MAX: Final = 4
_WEAKER: Final[tuple[tuple[What, bool, bool], ...]] = (
    ("messages", True, False),
    ("annotations", False, True),
    ("annotations", False, False),
)
"""Forms that leave something out: what differs only there, whether annotations count, whether messages do."""


_SEEN: Final[dict[What, frozenset[str]]] = {
    "messages": frozenset({"text"}),
    "annotations": frozenset({"text", "name", "attribute", "constant", "operator"}),
}
"""Kinds of what code does that a difference of that sort can touch: where another differs, it is no such difference."""


def judged(old: Forms, new: Forms, pair: Aligned, names: Mapping[str, str]) -> UnitDrift | None:
    """Compares two definitions that correspond; None where neither their lines nor their names differ.

    Args:
        old: forms of the last version.
        new: forms of the new version.
        pair: the definition's names.
        names: names that were exchanged throughout.
    """
    was, name = pair
    moved = was != name
    if old.source.places[was].text == new.source.places[name].text and not moved:
        return None
    if old.plain(was) == new.plain(name):
        return _kept(pair, _move(pair)) if moved else _kept(pair, "layout", *_locals(old, new, pair))
    if old.is_large(was) or new.is_large(name):
        return _changed(old, new, pair, old.plain(was), new.plain(name))
    left, right = renamed(old.told(was), names), new.told(name)
    if left == right:
        return _rewritten(old, new, pair, names)
    if old.reordered(was, new, name):
        return _kept(pair, "rewritten", "statements in another order, none of which touches what another gives")
    before, after = old.facets(was), new.facets(name)
    differing = {kind for kind, _ in (before - after) + (after - before)}
    for what, typed, messages in _WEAKER:
        if not differing <= _SEEN[what]:
            continue
        one = renamed(old.told(was, annotations=typed, messages=messages), names)
        if one == new.told(name, annotations=typed, messages=messages):
            return _kept(pair, what, *explained(before, after))
    plain = renamed(old.plain(was), names), new.plain(name)
    if difference(*plain)[1] < difference(left, right)[1]:
        left, right = plain[0], plain[1]
    return _changed(old, new, pair, left, right)


def alone(forms: Forms, name: str, what: What, least: float) -> UnitDrift:
    """Judges a definition that only one version has."""
    return UnitDrift(name=name, what=what, drift=least, share=1.0, because=(f"{what} {_called(forms, name)}",))


def _rewritten(old: Forms, new: Forms, pair: Aligned, names: Mapping[str, str]) -> UnitDrift:
    was, name = pair
    if was != name:
        return _kept(pair, _move(pair))
    strict = renamed(old.told(was, loose=False), names), new.told(name, loose=False)
    if strict[0] != strict[1]:
        if _names(old, was) != _names(new, name) and sorted(_names(old, was)) == sorted(_names(new, name)):
            return _changed(old, new, pair, *strict)  # the same names in another order
        return _kept(pair, "parameters", *_parameters(old, new, pair))
    if old.told(was) == new.told(name):
        return _kept(pair, "rewritten", "rewritten, the same steps")
    used = {label for label in old.told(was) if label not in set(new.told(name))}
    told = [f"renamed {a} → {b}: no change" for a, b in names.items() if any(label.endswith(a) for label in used)]
    return _kept(pair, "renamed", *told[:NAMES_MAX])


def _move(pair: Aligned) -> What:
    return "moved" if pair.before.rpartition(".")[2] == pair.after.rpartition(".")[2] else "renamed"


def _kept(pair: Aligned, what: What, *because: str) -> UnitDrift:
    """Judges a definition that means what it meant."""
    was = pair.before if pair.before != pair.after else None
    told = because
    if not told:
        told = (f"{what} {was} → {pair.after}: no change",) if was else ("layout, comments or docstrings: no change",)
    return UnitDrift(name=pair.after, what=what, drift=WEAK[what], share=0.0, because=told, was=was)


def _changed(old: Forms, new: Forms, pair: Aligned, left: list[str], right: list[str]) -> UnitDrift:
    was, name = pair
    gravest, share, count = difference(left, right)
    because: list[str] = []
    if not (old.is_large(was) or new.is_large(name)):
        because = explained(old.facets(was), new.facets(name))
    if not because:
        because.append("order of statements or flow of values changed")
    because.append(f"{count} of {len(left) + len(right)} syntax nodes ({share:.0%} by weight)")
    moved = was if was != name else None
    return UnitDrift(
        name=name,
        what="changed",
        drift=graded(gravest, share),
        share=round(share, 6),
        because=tuple(because),
        was=moved,
    )


def _called(forms: Forms, name: str) -> str:
    kind = forms.source.places[name].kind
    return f"{kind} of {len(forms.plain(name))} syntax nodes"


def _locals(old: Forms, new: Forms, pair: Aligned) -> list[str]:
    """Names the locals that were renamed, where both trees have as many names in the same order."""
    left, right = old.source.places[pair.before].node, new.source.places[pair.after].node
    if not isinstance(left, (ast.FunctionDef, ast.AsyncFunctionDef)) or type(left) is not type(right):
        return []
    assert isinstance(right, (ast.FunctionDef, ast.AsyncFunctionDef))
    names, others = list(bound(left.body)), list(bound(right.body))
    found = dict(zip(names, others, strict=True)) if len(names) == len(others) else {}
    told = [f"renamed local {a} → {b}: no change" for a, b in found.items() if a != b]
    return told if len(told) <= NAMES_MAX else [*told[:NAMES_MAX], f"and {len(told) - NAMES_MAX} more locals renamed"]


def _names(forms: Forms, name: str) -> list[str]:
    """Names of a function's parameters, in order."""
    node = forms.source.places[name].node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return []
    return [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]


def _parameters(old: Forms, new: Forms, pair: Aligned) -> list[str]:
    names = _names(old, pair.before), _names(new, pair.after)
    told = [
        f"renamed parameter {a} → {b}: callers by keyword would see it" for a, b in zip(*names, strict=False) if a != b
    ]
    return told[:NAMES_MAX] or ["renamed parameters of an inner function"]
