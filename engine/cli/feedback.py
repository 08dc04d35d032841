"""``instar feedback``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .asked import actor
from .output import Json, Root, emit, runtime_at, say


def command(
    jsonl: Annotated[
        str | None,
        typer.Option(
            help="Rows {task_type,input,output,reference,outcome,confidence,reward,group,source}, one a line; the "
            "first two must be there. - reads stdin."
        ),
    ] = None,
    task_type: Annotated[str | None, typer.Option(help="What kind of task it was.")] = None,
    input: Annotated[str | None, typer.Option(help="What was asked.")] = None,
    output: Annotated[str | None, typer.Option(help="What the agent gave.")] = None,
    reference: Annotated[str | None, typer.Option(help="What would have been right.")] = None,
    outcome: Annotated[str | None, typer.Option(help="pass, fail or skip; by default pass.")] = None,
    confidence: Annotated[float | None, typer.Option(help="How sure the agent was, 0..1.")] = None,
    reward: Annotated[float | None, typer.Option(help="A score of your own, 0..1.")] = None,
    group: Annotated[str | None, typer.Option(help="What the held-out split must not cut in two.")] = None,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Record outcomes of the agent's work, one by options or many by --jsonl. A malformed row is counted as skipped."""
    from instar.engine.feedback_rows import check_feedback
    from instar.fsm.errors import InputRefused

    row: dict[str, Any] = {"task_type": task_type, "input": input, "output": output, "reference": reference}
    row |= {"outcome": outcome, "confidence": confidence, "reward": reward, "group": group}
    given = {name: value for name, value in row.items() if value is not None}
    if jsonl is None and (task_type is None or input is None):
        raise InputRefused("give --task-type and --input, what was asked; or rows by --jsonl FILE")
    if jsonl is None:
        event = check_feedback({**given, "source": actor()})
        runtime = runtime_at(workspace)
        record = runtime.log.append(event)
        runtime.close()
        emit(
            "feedback",
            {"taken": 1, "skipped": 0, "seq": record.seq},
            as_json=json,
            lines=[f"recorded as event {record.seq}"],
        )
        return
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputRefused(f"give rows by --jsonl or one row by options, not both: leave out {options}")
    taken, skipped = _take_rows(jsonl, workspace)
    if skipped and not json:
        say(f"{skipped} rows were skipped; `instar log --type InputSkipped` says why")
    told = f"{taken} rows recorded, {skipped} skipped"
    emit("feedback", {"taken": taken, "skipped": skipped}, as_json=json, lines=[told])


def _take_rows(source: str, workspace: Path | None) -> tuple[int, int]:
    from instar.engine.feedback_rows import read_jsonl
    from instar.fsm.errors import InputRefused
    from instar.fsm.events import FeedbackReceived
    from instar.store.log import Pending

    runtime = runtime_at(workspace)
    taken = skipped = 0
    try:
        lines = sys.stdin.buffer if source == "-" else Path(source).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputRefused(f"{source} cannot be read: {error}") from error
    try:
        batch: list[Pending] = []
        for event in read_jsonl(lines, "stdin" if source == "-" else source):
            taken += isinstance(event, FeedbackReceived)
            skipped += not isinstance(event, FeedbackReceived)
            batch.append(Pending(event))
            if len(batch) == 500:
                whole, batch = batch, []
                runtime.log.transact(lambda _, whole=whole: whole)  # type: ignore[misc]
        runtime.log.transact(lambda _: batch)
    finally:
        lines.close()
        runtime.close()
    return taken, skipped
