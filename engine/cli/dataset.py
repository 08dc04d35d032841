"""``instar dataset``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .output import COUNT_MAX, Json, Root, emit, reader_at, say

if TYPE_CHECKING:
    from instar.engine.dataset.report import NumberedRow, Statistics

_TEXT_CHARS = 70


def command(
    what: Annotated[str, typer.Argument(help="stats: what it holds, counted; show: its rows.")] = "stats",
    reference: Annotated[
        str, typer.Argument(help="latest, dataset:PREFIX, or any reference: the last data set up to there.")
    ] = "latest",
    row: Annotated[int | None, typer.Argument(min=1, max=COUNT_MAX, help="With show: this row alone, in full.")] = None,
    split: Annotated[
        str | None, typer.Option(help="With show: only rows of train, validation, heldout or memory.")
    ] = None,
    count: Annotated[int, typer.Option("-c", "--count", min=1, max=COUNT_MAX, help="With show: how many rows.")] = 30,
    skip: Annotated[int, typer.Option(min=0, max=COUNT_MAX, help="With show: how many rows to pass over first.")] = 0,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Show what was learned from: the rows of a data set, what each rests on, and what was kept out."""
    from instar.engine.dataset.report import find, numbered, read, statistics
    from instar.engine.dataset.rows import SPLITS
    from instar.fsm.errors import ConfigError

    if what not in ("stats", "show"):
        raise typer.BadParameter(f"{what!r} is no part of a data set: give stats or show.")
    wanted = next((known for known in SPLITS if known == split), None)
    if split is not None and wanted is None:
        raise typer.BadParameter(f"there is no split {split!r}: give one of {', '.join(SPLITS)}.")
    reader = reader_at(workspace)
    try:
        record = find(reader, reference)
        if record is None:
            say("there is no data set yet: one is made when a retrain is flagged, or by `instar train`")
            emit("dataset", None, as_json=json)
            return
        dataset = read(reader, record)
    finally:
        reader.close()
    if what == "stats":
        counted = statistics(record, dataset)
        emit("dataset", counted, as_json=json, lines=_statistics(counted))
        return
    rows = numbered(record, dataset, wanted)
    if row is not None:
        rows = [one for one in rows if one.number == row]
        if not rows:
            where = f" in split {split}" if split else ""
            raise ConfigError(f"there is no row {row}{where}: the data set has rows 1 to {len(dataset.rows)}")
        emit("dataset", rows[0], as_json=json, lines=_whole(rows[0]))
        return
    shown = rows[skip : skip + count]
    if len(rows) > skip + len(shown):
        say(f"rows {skip + 1} to {skip + len(shown)} of {len(rows)}; --skip {skip + count} goes on")
    emit("dataset", shown, as_json=json, lines=[*map(_line, shown)] or ["no row"])


def _statistics(found: Statistics) -> list[str]:
    lines = [f"data set {found.dataset[:12]}, event {found.event}, {found.time}"]
    for kind, by in found.grouping.items():
        lines.append(f"  {kind}: grouped by {by}")
    lines.append(
        f"  {'split':<11}{'rows':>7}{'groups':>8}{'answers':>9}{'events':>8}{'wrong':>7}{'near':>6}  verified by"
    )
    for name, of in found.splits.items():
        verified = ", ".join(f"{count} {by}" for by, count in of.verified_by.items())
        lines.append(
            f"  {name:<11}{of.rows:>7}{of.groups:>8}{of.answers:>9}{of.events:>8}{of.negatives:>7}{of.confusable:>6}"
            f"  {verified}"
        )
    sources = ", ".join(f"{count} {kind}" for kind, count in found.splits["train"].sources.items())
    lines.append(f"  learned from: {sources or 'nothing'}")
    lines += [f"  merged: {count} {reason}" for reason, count in found.merged.items()]
    lines += [f"  left out: {count} {reason}" for reason, count in found.left_out.items()]
    return lines


def _line(one: NumberedRow) -> str:
    row = one.row
    return (
        f"{one.number:>6}  {row.split:<10} {row.type:<16} {row.verified_by or 'unknown':<10} "
        f"{_events(row.events):<20} {_cut(row.input)} → {_cut(row.output)}"
    )


def _whole(one: NumberedRow) -> list[str]:
    row = one.row
    told = [
        ("reference", one.reference),
        ("split", row.split),
        ("group", row.group),
        ("type", row.type),
        ("verified by", row.verified_by or "unknown"),
        ("events", ", ".join(map(str, row.events)) or "none: it comes from a log file"),
        ("input", row.input),
        ("output", row.output),
        *(("wrong", text) for text in row.negatives),
        *(("near", text) for text in row.confusable),
    ]
    return [
        f"{name if number == 0 else '':<12} {line}"  # no line of a text stands where a name does
        for name, text in told
        for number, line in enumerate(text.split("\n"))
    ]


def _events(events: Sequence[int]) -> str:
    if not events:
        return "log file"
    more = f" +{len(events) - 2}" if len(events) > 2 else ""
    return ", ".join(map(str, events[:2])) + more


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_CHARS else line[: _TEXT_CHARS - 1] + "…"
