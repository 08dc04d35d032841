"""``instar show``."""

from __future__ import annotations

import shlex
from typing import Annotated

import msgspec
import typer

from instar.engine.visible import visible

from .output import Json, Root, emit, plain, reader_at


def command(
    reference: Annotated[
        str, typer.Argument(help="A seq, latest, latest~N, snapshot:NAME, checkpoint:PREFIX, a time.")
    ],
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Show one event: its facts, its cause, its hashes."""
    from instar.engine.references import resolve
    from instar.store.clock import iso

    reader = reader_at(workspace)
    record = reader.get(resolve(reader, reference))
    content = {**plain(record), "type": type(record.event).__name__, "version": record.event.VERSION}
    content["time"] = iso(record.recorded_at_us)
    payload = msgspec.json.format(msgspec.json.encode(plain(record.event)), indent=2).decode()
    lines = [
        f"event {record.seq}  {type(record.event).__name__} v{record.event.VERSION}",
        f"  time    {iso(record.recorded_at_us)}  by {record.actor}",
        f"  state   {record.state_before} → {record.state_after}   cycle {record.cycle}",
        f"  cause   {record.cause if record.cause is not None else 'none: a signal from outside'}",
        f"  hash    {record.hash}",
        f"  before  {record.prev_hash}",
        *payload.split("\n"),
    ]
    lines += _displaced_lines(record.seq, record.event)
    if record.seq > 0 and (text := _diff_text(reader, record.event)):
        lines += ["", *text.removesuffix("\n").split("\n")]
    reader.close()
    emit("show", content, as_json=json, lines=lines)


def _displaced_lines(seq: int, event: object) -> list[str]:
    """Says how to get at the bytes that a restore set aside."""
    kept = getattr(event, "displaced", ())
    return [
        f"set aside: {one.path}  `instar restore {shlex.quote(one.path)} --displaced {seq}` gives it back"
        for one in kept
    ]


def _diff_text(reader: object, event: object) -> str:
    """Gives the unified diff of a recorded change, so that one need not look for the blob."""
    from instar.engine.diff_engine import diff_change
    from instar.fsm.events import ChangeObserved
    from instar.fsm.words import Seq
    from instar.store.blobs import BlobStore
    from instar.store.reader import LogReader

    if not isinstance(event, ChangeObserved) or not isinstance(reader, LogReader):
        return ""
    blobs = BlobStore(reader.path.with_name("blobs"), reader)
    before = blobs.get(event.before) if event.before else None
    after = blobs.get(event.after) if event.after else None
    return diff_change(Seq(0), visible(event.path), before, after)[1]
