"""``instar replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .output import Json, Root, emit, reader_at

if TYPE_CHECKING:
    from instar.fsm.words import Seq
    from instar.store.reader import LogReader


def command(
    verify: Annotated[
        bool,
        typer.Option("--verify/--no-verify", help="Compare every row with the fold; without it only the end is told."),
    ] = True,
    to: Annotated[str | None, typer.Option(help="Fold up to this reference.")] = None,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Fold the log again from its first event, and compare every transition and digest. Runs no effect."""
    from instar.engine.references import resolve
    from instar.engine.replay import replay

    reader = reader_at(workspace)
    position = resolve(reader, to) if to is not None else None
    if not verify:
        _fold_only(reader, position, as_json=json)
        return
    replayed = replay(reader, to=position)
    reader.close()
    state = replayed.state
    content = {
        "verified": True,
        "events": replayed.events,
        "transitions": replayed.transitions,
        "digests": replayed.digests,
        "cycles": replayed.cycles,
        "head_hash": replayed.head_hash,
        "state_digest": replayed.state_digest,
        "state": state.machine,
        "tree": state.tree,
        "checkpoint": state.checkpoint,
    }
    lines = [
        f"verified: {replayed.events} events, {replayed.transitions} transitions, {replayed.digests} state digests, "
        f"{replayed.cycles} cycles in {replayed.duration_s:.2f} s",
        f"  head hash     {replayed.head_hash}",
        f"  state digest  {replayed.state_digest}",
        f"  ends in       {state.machine}, tree {(state.tree or 'none')[:12]}, "
        f"checkpoint {(state.checkpoint or 'none')[:12]}",
    ]
    emit("replay", content, as_json=json, text="\n".join(lines))


def _fold_only(reader: LogReader, position: Seq | None, *, as_json: bool) -> None:
    from instar.fsm.state import state_digest

    state = reader.state_at(position)
    reader.close()
    content = {"verified": False, "events": state.head, "state": state.machine, "state_digest": state_digest(state)}
    content |= {"tree": state.tree, "checkpoint": state.checkpoint}
    text = f"folded to event {state.head}, not verified: {state.machine}, state digest {content['state_digest']}"
    emit("replay", content, as_json=as_json, text=text)
