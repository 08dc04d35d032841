"""``instar taint``."""

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
    everything: Annotated[bool, typer.Option("--all", help="Fold nothing, and list the background too.")] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Show everything that was derived from something, and whether what is active now rests on it."""
    from instar.engine.provenance.report import render
    from instar.engine.provenance.taint import taint

    with closing(reader_at(workspace)) as reader:
        found = taint(reader, reference)
    emit("taint", found, as_json=json, lines=() if json else render(found, everything=everything))
