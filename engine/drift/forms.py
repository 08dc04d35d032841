"""Normal forms of the definitions of one version, each made when it is first asked for."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable

from instar.engine.differences.syntax import Definition, NormalForm

from .canonical import canonical, weakened
from .facets import Facet, facets
from .reorder import only_reordered
from .source import Place, Source

LABELS_MAX = 60_000
"""Labels of a definition above which only its plain form is compared."""


class Forms:
    """The forms of a version's definitions: the plain one, and those that undo rewriting."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._labels: dict[tuple[str, str], list[str]] = {}
        self._facets: dict[str, Counter[Facet]] = {}
        self._trees: dict[tuple[str, bool, bool], ast.Module | Definition] = {}

    def plain(self, name: str) -> list[str]:
        """The form that ``units`` reads: without layout, comments, docstrings and names of locals."""
        place = self.source.places[name]
        return self._cached(name, "plain", lambda: NormalForm(place.node, method=place.method).labels)

    def told(self, name: str, *, annotations: bool = True, messages: bool = True, loose: bool = True) -> list[str]:
        """The form of what a definition means: see ``canonical``; ``loose`` where names of parameters do not count."""
        place = self.source.places[name]
        key = f"{annotations}{messages}{loose}"

        def make() -> list[str]:
            tree = self._tree(name, place, annotations, messages)
            return NormalForm(tree, method=place.method, loose=loose).labels

        return self._cached(name, key, make)

    def facets(self, name: str) -> Counter[Facet]:
        """What a definition does, piece by piece."""
        if name not in self._facets:
            self._facets[name] = facets(self._tree(name, self.source.places[name], True, True))
        return self._facets[name]

    def reordered(self, name: str, other: Forms, new_name: str) -> bool:
        """Whether a module or class only holds its statements in another order in the other version."""
        before, after = self.source.places[name], other.source.places[new_name]
        if "module" not in {before.kind, after.kind} and "class" not in {before.kind, after.kind}:
            return False
        left, right = self._tree(name, before, True, True), other._tree(new_name, after, True, True)
        header = _header(left)
        fields = isinstance(left, ast.ClassDef) and bool(header)
        return header == _header(right) and only_reordered(left.body, right.body, fields=fields)

    def is_large(self, name: str) -> bool:
        """Whether a definition is so large that rewriting it would take seconds."""
        return len(self.plain(name)) > LABELS_MAX

    def _tree(self, name: str, place: Place, annotations: bool, messages: bool) -> ast.Module | Definition:
        key = (name, annotations, messages)
        if key not in self._trees:
            if annotations and messages:
                holder = name.split(".")[-2] if place.method else None
                tree = canonical(place.node, self.source.origins, holder)
            else:
                tree = weakened(self._tree(name, place, True, True), annotations=annotations, messages=messages)
            self._trees[key] = tree
        return self._trees[key]

    def _cached(self, name: str, key: str, make: Callable[[], list[str]]) -> list[str]:
        found = self._labels.get((name, key))
        if found is None:
            found = self._labels[name, key] = make()
        return found


def _header(node: ast.Module | Definition) -> list[str]:
    """What a class is beside its body."""
    if not isinstance(node, ast.ClassDef):
        return [type(node).__name__]
    bases = [base for base in node.bases if not (isinstance(base, ast.Name) and base.id == "object")]
    return [ast.dump(one) for one in (*node.decorator_list, *bases, *node.keywords)]
