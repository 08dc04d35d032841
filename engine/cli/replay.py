"""``instar replay``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from .anchors import given_anchors, held
from .output import Json, Root, reader_at

LEVELS = "chain, decode, transitions, digests, decisions or effects; each includes those before it."


def command(
    verify: Annotated[
        bool,
        typer.Option("--verify/--no-verify", help="Compare every row with the fold; without it only the end is told."),
    ] = True,
    level: Annotated[str, typer.Option(help=f"How deep to look: {LEVELS}")] = "decisions",
    to: Annotated[str | None, typer.Option(help="Fold up to this reference.")] = None,
    first: Annotated[
        str | None, typer.Option("--from", help="Compare from this reference on; what lies before is taken as it is.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="Check first that the log still holds this head: a line of `instar anchor`, or a file."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that share a large log; by default one for each core.")
    ] = None,
    reexecute: Annotated[
        str | None,
        typer.Option(help="Run recorded effects again and compare: all, or some of diff,embed,dataset,train."),
    ] = None,
    diff: Annotated[
        tuple[str, str] | None, typer.Option(help="Compare the agent at two references.", metavar="A B")
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            help="List the decisions that would have been others, such as drift.threshold=0.6; keys as in [policy].",
            metavar="KEY=VALUE",
        ),
    ] = None,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Fold the log again from its first event, and compare every row, transition, digest and decision with it."""
    if sum(mode is not None for mode in (diff, what_if, reexecute)) > 1:
        raise typer.BadParameter("--diff, --what-if and --reexecute are three things: give one of them.")
    anchors = given_anchors(anchor or [])
    if diff is not None:
        from .replay_diff import show as show_diff

        show = partial(show_diff, a=diff[0], b=diff[1])
    elif what_if:
        from instar.engine.what_if import parse

        from .replay_what_if import show as show_what_if

        show = partial(show_what_if, policy=parse(what_if), to=to)
    elif reexecute is not None:
        from instar.engine.reexecution.reexecute import chosen

        from .replay_reexecute import show as show_reexecute

        show = partial(show_reexecute, effects=chosen(reexecute.split(",")))
    elif verify:
        from instar.engine.replay import level_of

        from .replay_verify import verify as show_verified

        show = partial(show_verified, level=level_of(level), first=first, to=to, jobs=jobs)
    else:
        from .replay_verify import fold as show_folded

        show = partial(show_folded, to=to)
    reader = reader_at(workspace)
    try:
        show(reader, held(reader, anchors), as_json=json)  # whatever is asked: first that it is this log at all
    finally:
        reader.close()
