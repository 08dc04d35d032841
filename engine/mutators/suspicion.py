"""Which lines a failure points at: those that a traceback names, then what is called from there.

A simple stand-in for spectrum-based fault localisation (Jones & Harrold 2005; Wong et al. 2016): nothing is run again
to see which lines the failing tests execute. A frame names a line and its function. A frame in a file that may not be
changed, such as a test, points at the functions that it names. What those call is suspected less with each step.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Final

from .port import RepairRequest
from .source import Function, Source, parsed

FRAME: Final = re.compile(r'File "([^"\n]+)", line (\d+)(?:, in ([\w.<>]+))?')
"""A frame as Python and unittest write it."""
PYTEST_FRAME: Final = re.compile(r"^([\w./+-]+\.py):(\d+):", re.M)
QUOTED: Final = re.compile(r"'(\w+)'|\b(\w+)\(\) ")
"""What a message names: `name 'x' is not defined`, `f() missing 1 required …`."""

LINE, FUNCTION, CALLED, CHANGED, ELSEWHERE = 1.0, 0.6, 0.5, 0.35, 0.05
_STEP = 0.7
"""What is left of a suspicion in what a suspected function calls."""
_DEPTH = 3
_FLOOR = 0.3
"""Of the suspicion of what every test mentions."""


class Suspicion:
    """How suspect each line of the files that may be changed is, in 0..1.

    Args:
        request: what failed.
        sources: the files that may be changed and that parse, by path.
    """

    def __init__(self, request: RepairRequest, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._lines: dict[str, dict[int, float]] = defaultdict(dict)
        self._functions: dict[str, list[tuple[str, Function]]] = defaultdict(list)
        for path, source in sources.items():
            for function in source.functions:
                self._functions[function.name].append((path, function))
        named: dict[str, float] = {}
        outside: dict[str, list[int]] = defaultdict(list)
        for path, line in _frames(request):
            if path in sources:
                self._frame(path, line, named)
            elif path in request.context:
                outside[path].append(line)
        for path, lines in outside.items():
            for name, value in _named_by(request.context[path], lines).items():
                named[name] = max(named.get(name, 0.0), value)
        for quoted in QUOTED.findall(request.output):
            named.setdefault(quoted[0] or quoted[1], FUNCTION)
        self._spread(named)
        self._of_edits(request)

    def of(self, path: str, line: int) -> float:
        """Says how suspect a line is."""
        return self._lines[path].get(line, ELSEWHERE)

    def _frame(self, path: str, line: int, named: dict[str, float]) -> None:
        self._raise(path, range(line, line + 1), LINE)
        for function in self._sources[path].functions:
            if function.lineno <= line <= (function.end_lineno or 0):
                self._raise(path, _lines_of(function), FUNCTION)
                for name in _names_in(function):
                    named[name] = max(named.get(name, 0.0), CALLED * _STEP)

    def _spread(self, named: dict[str, float]) -> None:
        """Suspects the functions of these names, and what they call."""
        for _ in range(_DEPTH):
            further: dict[str, float] = {}
            for name, value in named.items():
                for path, function in self._functions.get(name, ()):
                    self._raise(path, _lines_of(function), value)
                    for called in _names_in(function):
                        if value * _STEP > max(further.get(called, 0.0), named.get(called, 0.0)):
                            further[called] = value * _STEP
            named = further

    def _of_edits(self, request: RepairRequest) -> None:
        """Suspects the functions that changed last, the latest most."""
        value = CHANGED
        for edit in request.edits:
            source = self._sources.get(edit.path)
            before = parsed(edit.before) if source else None
            if source is None or before is None:
                continue
            old = {function.name: ast.dump(function) for function in ast.walk(before) if isinstance(function, Function)}
            for function in source.functions:
                if old.get(function.name) != ast.dump(function):
                    self._raise(edit.path, _lines_of(function), value)
            value *= _STEP

    def _raise(self, path: str, lines: Iterable[int], value: float) -> None:
        known = self._lines[path]
        for line in lines:
            known[line] = max(known.get(line, ELSEWHERE), value)


def _frames(request: RepairRequest) -> list[tuple[str, int]]:
    """Finds the frames in files of the request; the gate ran in another folder, so that paths agree at their ends."""
    known = [*request.files, *request.context]
    found: list[tuple[str, int]] = []
    for where, line in [*((f[0], f[1]) for f in FRAME.findall(request.output)), *PYTEST_FRAME.findall(request.output)]:
        ends = [path for path in known if where == path or where.endswith(f"/{path}")]
        if ends and len(line) < 9:
            found.append((max(ends, key=len), int(line)))
    return list(dict.fromkeys(found))


def _named_by(content: bytes, lines: list[int]) -> dict[str, float]:
    """Weighs the names that failing tests mention by how few of the others do (Ochiai's coefficient).

    Args:
        content: a file that may not be changed.
        lines: those that a traceback names.
    """
    tree = parsed(content)
    if tree is None:
        return {}
    tests = {node: _names_in(node) for node in ast.walk(tree) if isinstance(node, Function)}
    failed = {test for test in tests for line in lines if test.lineno <= line <= (test.end_lineno or 0)}
    if not failed:
        around = [node for node in tree.body for line in lines if node.lineno <= line <= (node.end_lineno or 0)]
        return {name: CALLED for node in around for name in _names_in(node)}
    everywhere = Counter(name for names in tests.values() for name in names)
    here = Counter(name for test in failed for name in tests[test])
    return {name: CALLED * max(_FLOOR, n / sqrt(len(failed) * everywhere[name])) for name, n in here.items()}


def _names_in(node: ast.AST) -> set[str]:
    found = set[str]()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            found.add(inner.attr)
    # A class that is called runs its constructor.
    return found | ({"__init__", "__new__"} if any(name[:1].isupper() for name in found) else set())


def _lines_of(function: Function) -> range:
    return range(function.lineno, (function.end_lineno or function.lineno) + 1)
