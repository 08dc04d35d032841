"""``instar log``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from instar.engine.visible import visible

from .output import COUNT_MAX, Json, Root, emit, plain, reader_at, runtime_at, write_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from instar.fsm.record import Recorded
    from instar.store.follow import Follower
    from instar.store.reader import LogReader


def command(
    path: Annotated[
        str | None, typer.Argument(help="All versions of this file, in place of the latest events.")
    ] = None,
    count: Annotated[
        int, typer.Option("-c", "--count", min=1, max=COUNT_MAX, help="How many events, from the head back.")
    ] = 30,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only events before this one; the latest of them.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="Only events after this one; the first of them.")] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with each event as it is recorded, until Ctrl-C.")
    ] = False,
    cursor: Annotated[
        str | None,
        typer.Option(help="With --follow: begin after the last event that was shown under this name, and remember it."),
    ] = None,
    workspace: Root = None,
    json: Json = False,
    *,
    context: typer.Context,
) -> None:
    """List the latest events, or all versions of one file.

    With --follow each event is shown as it is recorded, with --json then one object a line.
    """
    from instar.fsm.errors import ConfigError

    source = context.get_parameter_source("count")
    counted = source is not None and source.name != "DEFAULT"
    if path is not None:
        if kind or follow or cursor or counted or before is not None or after is not None:
            raise ConfigError(
                "a file's versions take no --count, --type, --before, --after, --follow or --cursor: leave out the "
                "path, or these"
            )
        versions(path, workspace, as_json=json)
        return

    _require_types(kind or ())
    if follow and (before is not None or after is not None):
        raise ConfigError("--follow goes on with new events: leave out --before and --after")
    if cursor is not None and not follow:
        raise ConfigError("--cursor remembers how far --follow has come: give both")
    if cursor is not None and counted:
        raise ConfigError("--cursor says where to begin, after the last event that was shown: leave out it or --count")
    if follow:
        _follow(workspace, count, kind or (), cursor, as_json=json)
        return
    events(workspace, count, kind or (), before=before, after=after, as_json=json)


def events(
    workspace: Path | None,
    count: int,
    kinds: Collection[str] = (),
    *,
    before: int | None = None,
    after: int | None = None,
    as_json: bool,
) -> None:
    """Shows the latest events, the latest before one, or the first after one; oldest first.

    Raises:
        ConfigError: there is no such type, no such position, or both ends are named.
    """
    from itertools import islice

    from instar.engine.references import DIGITS_MAX
    from instar.fsm.codec import TYPES
    from instar.fsm.errors import ConfigError

    _require_types(kinds)
    if before is not None and after is not None:
        raise ConfigError("--before goes back and --after goes on: give one of them")
    if max(before or 0, after or 0) >= 10**DIGITS_MAX:
        raise ConfigError(f"a number of over {DIGITS_MAX} digits is no position of this log")
    types = [TYPES[name] for name in kinds]
    reader = reader_at(workspace)
    if after is None:
        records = reader.tail(count, types, before=before)
    else:
        records = list(islice(reader.read(after + 1, types=types, chunk_max=min(count, 1000)), count))
    reader.close()
    emit("log", [_row(record) for record in records], as_json=as_json, lines=map(_line, records))


def _require_types(kinds: Collection[str]) -> None:
    from instar.fsm.codec import TYPES
    from instar.fsm.errors import ConfigError

    unknown = [name for name in kinds if name not in TYPES]
    if unknown:
        raise ConfigError(f"there is no event type {unknown[0]!r}. Known: {', '.join(sorted(TYPES))}.")


def versions(path: str, workspace: Path | None, *, as_json: bool) -> None:
    """Shows each version of a file, oldest first."""
    from instar.engine.restoring.restore_path import tree_path
    from instar.engine.trees.path_versions import versions
    from instar.store.blobs import BlobStore
    from instar.store.clock import iso
    from instar.store.tree_nodes import NodeReader

    reader = reader_at(workspace)
    root = reader.path.parent.parent
    named = tree_path(root, path, Path.cwd() if workspace is None else None)
    found = versions(reader, NodeReader(BlobStore(reader.path.with_name("blobs"), reader)), named)
    reader.close()
    rows = [{**plain(one), "path": named, "time": iso(one.at_us)} for one in found]
    lines = [
        f"{one.seq:>6}  {iso(one.at_us)[:19]}Z  {one.change:<8}  {one.size:>9}  {(one.blob or 'gone')[:12]:<12}"
        f"{f'  by the restore that ended with event {one.cause}' if one.cause else ''}".rstrip()
        for one in found
    ]
    emit("log", rows, as_json=as_json, lines=lines)


def _follow(workspace: Path | None, count: int, kinds: Collection[str], name: str | None, *, as_json: bool) -> None:
    """Shows the last events, or what came after the cursor, and then each new one."""
    if name is None:
        from instar.fsm.words import Seq
        from instar.store.follow import Follower

        reader = reader_at(workspace)
        _refuse_watched_output(reader)
        first = Seq(max(1, reader.head() - count + 1))
        _show(Follower(reader, None, start=first, record=lambda _name, _record: None), kinds, as_json=as_json)
        reader.close()
        return
    runtime = runtime_at(workspace)
    _refuse_watched_output(runtime.reader)
    _show(runtime.log.follow(name), kinds, as_json=as_json, remember=True)
    runtime.close()


def _refuse_watched_output(reader: LogReader) -> None:
    from .own_output import refuse_watched_output

    refuse_watched_output(reader.path.parent.parent, reader.state_at().policy.capture)


def _show(follower: Follower, kinds: Collection[str], *, as_json: bool, remember: bool = False) -> None:
    """Shows events until Ctrl-C: as an exception within a statement, SQLite would take it for a refusal."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: follower.stop_soon())
    for record in follower:
        if not kinds or type(record.event).__name__ in kinds:
            if as_json:
                write_json(msgspec.json.encode(plain(_row(record))).decode())
            else:
                sys.stdout.write(f"{visible(_line(record))}\n")
            sys.stdout.flush()
        if remember:
            follower.acknowledge(record)


def _row(record: Recorded) -> dict[str, Any]:
    from instar.engine.describe import describe
    from instar.store.clock import iso

    return {
        "seq": record.seq,
        "type": type(record.event).__name__,
        "time": iso(record.recorded_at_us),
        "actor": record.actor,
        "cycle": record.cycle,
        "cause": record.cause,
        "state_before": record.state_before,
        "state_after": record.state_after,
        "about": describe(record.event),
        "hash": record.hash,
    }


def _line(record: Recorded) -> str:
    from instar.engine.describe import describe
    from instar.store.clock import iso

    moved = record.state_before != record.state_after
    states = f"{record.state_before} → {record.state_after}" if moved else f"{record.state_after}"
    name, about = type(record.event).__name__, describe(record.event)
    return f"{record.seq:>6}  {iso(record.recorded_at_us)[11:19]}  {name:<20}  {states:<24}  {about}"[:220]
