"""The units of Python source, each with its meaning as a digest, and what changed between two versions of a file.

A unit is a module body, a class without its methods, a method, a function, or a function inside a function. Equal
digests mean equal normal forms (see ``syntax``): a unit that was only renamed or moved keeps its digest.
"""

from __future__ import annotations

import ast
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from instar.fsm.words import Digest, digest_of

from . import sequence_diff
from .syntax import Definition, NormalForm

Kind = Literal["module", "class", "function", "method", "nested", "text"]
MODULE = "<module>"
RENAMED_NODES_MIN = 12
"""Labels below which equal digests are chance (an empty ``__init__``), not a rename."""

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_log = logging.getLogger("instar.units")


class Unit(Struct, frozen=True, kw_only=True):
    """One unit of source.

    ``source`` holds the unit's own lines: those of a class without its methods, of a module without its definitions.
    ``nodes`` is the normalised syntax tree in preorder; of a ``text`` unit (source that does not parse) the lines.
    """

    name: str
    kind: Kind
    digest: Digest
    source: str
    doc: str
    nodes: tuple[str, ...]


class Delta(Struct, frozen=True, kw_only=True):
    """What became of the units. ``renamed`` holds old and new names, which are in ``removed`` and ``added`` too.

    ``similarity`` is 1 − the share of syntax nodes, of both sides together, that changed.
    """

    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    similarity: float
    meaning_changed: bool


def units(source: str) -> dict[str, Unit]:
    """Reads the units of Python source, by qualified name; a name defined again gets ``#2``, ``#3``, ….

    Source that does not parse is one unit of kind ``text``, and the reason is logged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # An invalid escape in somebody's source is not our caller's warning.
            tree = ast.parse(source)
        return _read(tree, LINE.findall(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _log.info("source read as text, since it does not parse: %s: %s", type(error).__name__, error)
        return {MODULE: _text_unit(source)}


def delta(before: Mapping[str, Unit], after: Mapping[str, Unit]) -> Delta:
    """Compares the units of two versions. A function inside a function counts with the one that holds it."""
    changed = tuple(name for name in before if name in after and before[name].digest != after[name].digest)
    added = tuple(name for name in after if name not in before)
    removed = tuple(name for name in before if name not in after)
    renamed = _renamed(before, after, removed, added)
    known = {name for pair in renamed for name in pair}
    total = moved = 0
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if "nested" in {old and old.kind, new and new.kind}:
            continue
        size = (len(old.nodes) if old else 0) + (len(new.nodes) if new else 0)
        total += size
        if old and new and old.digest != new.digest:
            moved += sequence_diff.edits(old.nodes, new.nodes)
        elif not (old and new):
            moved += 1 if name in known else size
    return Delta(
        changed=changed,
        added=added,
        removed=removed,
        renamed=renamed,
        similarity=1.0 - moved / total if total else 1.0,
        meaning_changed=moved > 0,
    )


def similarity(before: str, after: str) -> float:
    """Gives 1 − the share of syntax nodes that differ between two versions of Python source, in 0..1."""
    return delta(units(before), units(after)).similarity


def meaning_changed(before: str, after: str) -> bool:
    """Says whether more than layout, comments, docstrings, annotations and local names differs."""
    return delta(units(before), units(after)).meaning_changed


def _read(tree: ast.Module, lines: list[str]) -> dict[str, Unit]:
    found: dict[str, Unit] = {}
    waiting: list[tuple[str, Kind, ast.Module | Definition]] = [(MODULE, "module", tree)]
    while waiting:
        name, kind, node = waiting.pop()
        form = NormalForm(node, method=kind == "method")
        inside = _inside(name, kind)
        inner_kinds = [_kind_of(inner, kind) for inner in form.found]
        apart = [inner for inner, inner_kind in zip(form.found, inner_kinds, strict=True) if inner_kind != "nested"]
        unit = Unit(
            name=_free(name, found),
            kind=kind,
            digest=digest_of("\n".join(form.labels).encode(errors="surrogatepass")),
            source=own_lines(node, apart, lines),
            doc=_first_line(ast.get_docstring(node)),
            nodes=tuple(form.labels),
        )
        found[unit.name] = unit
        names = zip(form.found, inner_kinds, strict=True)
        waiting += [(inside + inner.name, inner_kind, inner) for inner, inner_kind in names][::-1]
    return found


def _inside(name: str, kind: Kind) -> str:
    if kind == "module":
        return ""
    return f"{name}." if kind == "class" else f"{name}.<locals>."


def _kind_of(node: Definition, holder: Kind) -> Kind:
    if holder in {"function", "method", "nested"}:
        return "nested"
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if holder == "class" else "function"


def _free(name: str, taken: Mapping[str, Unit]) -> str:
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}#{count}"
    return free


def own_lines(node: ast.Module | Definition, apart: list[Definition], lines: list[str]) -> str:
    """Gives a definition's lines, blank where others stand that are units of their own."""
    first, last = (1, len(lines)) if isinstance(node, ast.Module) else extent(node)
    own = lines[first - 1 : last]
    for inner in apart:
        low, high = extent(inner)
        own[low - first : high - first + 1] = [""] * (high - low + 1)
    return "".join(own)


def extent(node: Definition) -> tuple[int, int]:
    """Gives the first line of a definition, decorators included, and its last, both counted from 1."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return first, node.end_lineno or node.lineno


def _first_line(doc: str | None) -> str:
    return next((line.strip() for line in (doc or "").splitlines() if line.strip()), "")


def _text_unit(source: str) -> Unit:
    lines = tuple(line for line in map(str.rstrip, source.splitlines()) if line)
    content = "\n".join(lines).encode(errors="surrogatepass")
    return Unit(name=MODULE, kind="text", digest=digest_of(content), source=source, doc="", nodes=lines)


def _renamed(
    before: Mapping[str, Unit], after: Mapping[str, Unit], removed: tuple[str, ...], added: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Pairs units that vanished with new ones of the same digest, each once, in the order of the source."""
    free: dict[Digest, list[str]] = defaultdict(list)
    for name in reversed(added):
        free[after[name].digest].append(name)
    return tuple(_pairs(before, removed, free))


def _pairs(
    before: Mapping[str, Unit], removed: tuple[str, ...], free: dict[Digest, list[str]]
) -> Iterator[tuple[str, str]]:
    for name in removed:
        unit = before[name]
        if len(unit.nodes) >= RENAMED_NODES_MIN and free[unit.digest]:
            yield name, free[unit.digest].pop()
