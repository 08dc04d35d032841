"""What an import brings: another origin of a name is another behaviour, though no line that uses it differs."""

from __future__ import annotations

import ast

from .result import WEAK, UnitDrift, What
from .source import STAR, Source

IMPORTED_LEAST = 0.38
IMPORTS = "<imports>"
LINES_MAX = 6


def imports(before: Source, after: Source) -> UnitDrift | None:
    """Compares what the imports at the top of two versions bring; None where they bring the same."""
    if _lines(before) == _lines(after):
        return None
    read = after.read
    elsewhere = after.bound | _imported_within(after)
    changed: list[str] = []
    weak: list[str] = []
    changed += (f"all names of {name.removeprefix(STAR)} no longer imported" for name in _stars(before, after))
    changed += (f"all names of {name.removeprefix(STAR)} imported" for name in _stars(after, before))
    for name, origin in before.origins.items():
        if name.startswith(STAR):
            continue
        other = after.origins.get(name)
        if other is None and name in read and name not in elsewhere:
            changed.append(f"import of {origin} removed, but {name} is still used")
        elif other is None and name not in before.read:
            weak.append(f"unused import of {origin} removed")
        elif other is not None and other != origin:
            (changed if name in read else weak).append(f"{name} imported from {other}, was {origin}")
    for name, origin in after.origins.items():
        if name not in before.origins and name not in read and not name.startswith(STAR):
            weak.append(f"unused import of {origin} added")
    if changed:
        drift, told = IMPORTED_LEAST, changed
    elif weak:
        drift, told = WEAK["imports"], weak
    else:
        return None
    share = len(changed) / max(1, len(after.origins))
    what: What = "changed" if changed else "imports"
    return UnitDrift(name=IMPORTS, what=what, drift=drift, share=round(share, 6), because=tuple(told[:LINES_MAX]))


def _stars(source: Source, other: Source) -> list[str]:
    """Imports of all names that only one version has: which names they bind is not known."""
    return [name for name in source.origins if name.startswith(STAR) and name not in other.origins]


def _lines(source: Source) -> set[tuple[str, str]]:
    return set(source.origins.items())


def _imported_within(source: Source) -> set[str]:
    """Names that imports below the top bind, in branches and functions."""
    return {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(source.tree)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node not in source.tree.body
        for alias in node.names
    }
