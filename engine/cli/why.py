"""``instar why``."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from .output import Json, Root, emit, reader_at


def command(
    reference: Annotated[
        str,
        typer.Argument(
            help="Any reference to an event; or checkpoint:PREFIX, mutation:SEQ, memory:SEQ.ITEM, dataset:PREFIX[#ROW]."
        ),
    ],
    depth: Annotated[int | None, typer.Option(min=1, help="How many levels to draw; all by default.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fold nothing, however many events are alike.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Show what something rests on, back to the signals, as a tree."""
    from instar.engine.provenance.tree import render
    from instar.engine.provenance.why import trace, why

    with closing(reader_at(workspace)) as reader:
        if json:
            emit("why", why(reader, reference), as_json=True)
            return
        lines = render(trace(reader, reference), depth=depth, everything=everything)
    emit("why", None, as_json=False, lines=lines)
