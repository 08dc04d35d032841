"""``instar search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .output import Json, Root, emit, runtime_at

if TYPE_CHECKING:
    from instar.engine.memory.answers import Answer
    from instar.engine.memory.search import Found

Names = list[str] | None


def command(
    text: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    k: Annotated[
        int | None, typer.Option("-k", min=1, max=1000, help="How many rows; 10, or 64 that vote with --answer.")
    ] = None,
    kind: Annotated[Names, typer.Option(help="Only rows of this kind: feedback, failure, code_diff, unit, …")] = None,
    task: Annotated[Names, typer.Option(help="Only rows of this task type.")] = None,
    unit: Annotated[Names, typer.Option(help="Only rows of this unit, FILE::NAME; FILE* takes all of a file.")] = None,
    since: Annotated[str | None, typer.Option(help="Only rows taken into memory at this ISO time or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only rows taken into memory at this ISO time or earlier.")] = None,
    answer: Annotated[
        bool, typer.Option("--answer", help="Say what the nearest rows know to be right, and how sure that is.")
    ] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Search the vector memory for what is nearest to a text."""
    from instar.engine.memory.answers import VOTERS
    from instar.engine.memory.answers import answer as answer_here
    from instar.engine.memory.search import filter_of, search
    from instar.engine.service import Client
    from instar.engine.status import worker_runs

    wanted = filter_of(kinds=kind or None, task_types=task or None, units=unit or None, since=since, until=until)
    runtime = runtime_at(workspace)
    try:
        serves = worker_runs(runtime.workspace) and runtime.workspace.socket.exists()
        client = Client(runtime.workspace.socket) if serves else None
        if answer:
            count = k or VOTERS
            given = client.answer(text, count, wanted) if client else answer_here(runtime, text, count, wanted)
            emit("answer", given, as_json=json, lines=_answer(given))
        else:
            rows = client.search(text, k or 10, wanted) if client else search(runtime, text, k or 10, wanted)
            emit("search", rows, as_json=json, lines=[*map(_line, rows)] or ["nothing in memory fits"])
    finally:
        runtime.close()


def _line(row: Found) -> str:
    return (
        f"{row.similarity:.3f}  {row.reference:<14} event {row.event:<6} {row.kind:<10} {row.unit[:32]:<32} "
        f"{row.text[:90]}"
    )


def _answer(given: Answer) -> list[str]:
    if given.output is None:
        return ["no row near it knows a right answer"]
    fitted = "" if given.fitted else " (the temperature was not fitted for this checkpoint)"
    sure = f"confidence {given.confidence:.2f}{fitted}, by {len(given.support)} of {given.voters} rows"
    first, *more = given.output.split("\n")
    return [first, *(f"  {line}" for line in more), sure, *map(_line, given.support[:5])]
