"""How much of a normal form changed, and how grave the gravest part of it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instar.engine.differences import sequence_diff

EXPONENT: Final = 0.7
"""A rewritten half counts more than half: what is left stands for something else."""

_CLASSES: Final[dict[str, tuple[float, float]]] = {
    "flow": (0.40, 1.0),
    "comparison": (0.38, 1.0),
    "operator": (0.36, 1.0),
    "name": (0.36, 1.0),
    "local": (0.34, 0.5),
    "constant": (0.33, 0.8),
    "text": (0.32, 0.6),
    "node": (0.34, 0.4),
    "sign": (0.32, 0.0),
}
"""For each kind of label how grave a change of it is at least, and what it weighs in the size."""
_FLOW: Final = frozenset(
    """
    If IfExp For AsyncFor While Return Raise Break Continue Try TryStar ExceptHandler With AsyncWith Yield
    YieldFrom Await Assert Match match_case Global Nonlocal Delete BoolOp And Or Not
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_COMPARISONS: Final = frozenset(
    """
    Eq NotEq Lt LtE Gt GtE Is IsNot In NotIn
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_OPERATORS: Final = frozenset(
    """
    Add Sub Mult Div FloorDiv Mod Pow LShift RShift BitOr BitXor BitAnd MatMult UAdd USub Invert
    """.split()  # noqa: SIM905 (a list of words is read more easily so)
)
_NAMES: Final = ("name ", "bound ", "=", "itself", "alias", "Def")
_CONSTANTS: Final = ("int ", "float ", "complex ", "bool ", "NoneType ", "ellipsis ")


def kind_of(label: str) -> str:
    """Sorts a label of a normal form: what it is part of."""
    if label in _FLOW:
        return "flow"
    if label in _COMPARISONS:
        return "comparison"
    if label in _OPERATORS:
        return "operator"
    if label in {"]", "-"}:
        return "sign"
    if label.startswith(("str ", "bytes ")):
        return "text"
    if label.startswith(_CONSTANTS):
        return "constant"
    if label.startswith(_NAMES):
        return "name"
    if label.startswith(("local ", "parameter ", "receiver")):
        return "local"
    return "node"


def mass(labels: Sequence[str]) -> float:
    """Weighs labels."""
    return sum(_CLASSES[kind_of(label)][1] for label in labels)


def difference(before: Sequence[str], after: Sequence[str]) -> tuple[float, float, int]:
    """Compares two normal forms.

    Returns:
        How grave the gravest changed label is; the share of the weight of both sides that changed, in 0..1; and how
        many labels of both sides changed.
    """
    gravest, moved, count = 0.0, 0.0, 0
    for change in sequence_diff.changes(before, after):
        labels = [*before[change.a_low : change.a_high], *after[change.b_low : change.b_high]]
        count += len(labels)
        moved += mass(labels)
        gravest = max(gravest, *(_CLASSES[kind_of(label)][0] for label in labels))
    total = mass(before) + mass(after)
    return gravest, min(1.0, moved / total) if total else 0.0, count


def graded(gravest: float, share: float) -> float:
    """Gives the score of a changed definition: never under its gravest part, 1 when all of it changed."""
    part: float = min(1.0, share) ** EXPONENT
    return round(gravest + (1.0 - gravest) * part, 6)
