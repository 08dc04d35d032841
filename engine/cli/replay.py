"""``instar replay``."""

from __future__ import annotations

from functools import partial
from typing import Annotated, assert_never

import typer

from .anchors import given_anchors, held
from .output import Json, Root, reader_at
from .replay_options import Mode, mode_of

LEVELS = "chain, decode, transitions, digests, decisions or effects; each includes those before it."


def command(
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Compare every row with the fold, which is the default; with --no-verify only the end is told.",
        ),
    ] = None,
    level: Annotated[str | None, typer.Option(help=f"How deep to look, by default to decisions: {LEVELS}")] = None,
    to: Annotated[str | None, typer.Option(help="Fold, and run effects again, up to this reference.")] = None,
    first: Annotated[
        str | None,
        typer.Option(
            "--from", help="Compare, and run effects again, from this reference on; what lies before is taken as it is."
        ),
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
    given = {
        "--verify": verify is True,
        "--no-verify": verify is False,
        "--level": level is not None,
        "--to": to is not None,
        "--from": first is not None,
        "--anchor": bool(anchor),
        "--jobs": jobs is not None,
        "--reexecute": reexecute is not None,
        "--diff": diff is not None,
        "--what-if": bool(what_if),
    }
    mode = mode_of([option for option, is_given in given.items() if is_given])
    anchors = given_anchors(anchor or [])
    match mode:
        case Mode.VERIFY:
            from instar.engine.replay import level_of

            from .replay_verify import verify as show_verified

            wanted = level_of(level or "decisions")
            show = partial(show_verified, level=wanted, first=first, to=to, jobs=jobs)
        case Mode.FOLD:
            from .replay_verify import fold as show_folded

            show = partial(show_folded, to=to)
        case Mode.REEXECUTE:
            from instar.engine.reexecution.reexecute import chosen

            from .replay_reexecute import show as show_reexecuted

            show = partial(show_reexecuted, effects=chosen((reexecute or "").split(",")), first=first, to=to)
        case Mode.WHAT_IF:
            from instar.engine.what_if import parse

            from .replay_what_if import show as show_what_if

            show = partial(show_what_if, policy=parse(what_if or []), to=to)
        case Mode.DIFF:
            from .replay_diff import show as show_diff

            a, b = diff or ("", "")
            show = partial(show_diff, a=a, b=b)
        case _:
            assert_never(mode)
    reader = reader_at(workspace)
    try:
        show(reader, held(reader, anchors), as_json=json)  # whatever is asked: first that it is this log at all
    finally:
        reader.close()
