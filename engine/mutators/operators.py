"""The mutator ``operators``: small edits of the syntax, ordered by how suspect their line is and how usual such a fix.

Single random edits find repairs as often as a genetic search does (RSRepair, Qi et al. 2014), so edits are neither
combined nor evolved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from . import expressions, names, statements
from .port import Proposal, RepairRequest
from .source import Edit, Source
from .suspicion import Suspicion

Operator = Callable[[Source], Iterator[Edit]]
OPERATORS: Final[tuple[Operator, ...]] = (
    expressions.comparisons,
    expressions.arithmetic,
    expressions.logic,
    expressions.constants,
    expressions.off_by_one,
    names.variables,
    names.attributes,
    names.exceptions,
    names.arguments,
    names.defaults,
    names.results,
    statements.deletions,
    statements.insertions,
)


class Operators:
    """Proposes edits of the syntax, one at a time."""

    name: Final = "operators"

    def propose(self, request: RepairRequest) -> Iterator[Proposal]:
        """Yields every edit once, the most suspect and usual first; the seed decides among equals."""
        sources = read_all(request)
        suspicion = Suspicion(request, sources)
        ranked = [
            (-suspicion.of(path, edit.line) * edit.weight, tie(request.seed, path, edit), path, edit)
            for path, source in sources.items()
            for edit in edits_of(source, request.output)
        ]
        ranked.sort(key=lambda item: item[:3])
        for _, _, path, edit in ranked:
            content = sources[path].edited(edit)
            if content is not None:
                yield Proposal(path, content, f"{path}:{edit.line}: {edit.description}")


def edits_of(source: Source, output: str = "") -> Iterator[Edit]:
    """Yields what every operator makes of a source, in no order that matters."""
    for operator in OPERATORS:
        yield from operator(source)
    yield from statements.guards(source, output)


def read_all(request: RepairRequest) -> dict[str, Source]:
    """Reads the files that may be changed; those that do not parse are left out."""
    read = ((path, Source.read(content)) for path, content in sorted(request.files.items()))
    return {path: source for path, source in read if source is not None}


def tie(seed: int, path: str, edit: Edit) -> bytes:
    """Gives what decides between edits that are otherwise equal."""
    return hashlib.sha256(f"{seed}:{path}:{edit.start}:{edit.end}:".encode() + edit.text).digest()
