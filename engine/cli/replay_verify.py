"""``instar replay``: the log folded again and every row compared, or folded alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .anchors import anchor_lines
from .output import emit

if TYPE_CHECKING:
    from instar.engine.bundles.anchor import Anchored
    from instar.engine.replay import Level, Replayed
    from instar.store.reader import LogReader


def verify(
    reader: LogReader,
    anchored: list[Anchored],
    *,
    level: Level,
    first: str | None,
    to: str | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Compares every row with the fold, and tells how much was compared; then, if asked, runs effects again.

    Args:
        reader: the log.
        anchored: what was found of the anchors that were given.
        level: how deep to look.
        first: the reference to compare from; the first event by default.
        to: the reference to end with; the head by default.
        jobs: how many processes share a large log.
        as_json: print one envelope, that of the effects where they are run.
    """
    from instar.engine.references import resolve
    from instar.engine.replay import Level, replay

    last = resolve(reader, to) if to is not None else reader.head()
    begin = resolve(reader, first) if first is not None else None
    with_effects = level is Level.EFFECTS
    compared = Level.DECISIONS if with_effects else level
    replayed = replay(reader, to=last, first=begin, level=compared, jobs=jobs)
    if not (with_effects and as_json):  # the envelope is then that of the effects: there is one a command
        lines = [*_lines(replayed), *anchor_lines(anchored)]
        emit("replay", _content(replayed, len(anchored)), as_json=as_json, lines=lines)
    if with_effects:
        from .replay_reexecute import show

        told = anchored if as_json else []
        show(reader, told, effects=("all",), first=begin, to=last, as_json=as_json)


def fold(reader: LogReader, anchored: list[Anchored], *, to: str | None, as_json: bool) -> None:
    """Folds the log, compares nothing, and tells where it ends."""
    from instar.engine.references import resolve
    from instar.fsm.state import state_digest

    state = reader.state_at(resolve(reader, to) if to is not None else None)
    content = {"verified": False, "events": state.head, "state": state.machine, "state_digest": state_digest(state)}
    content |= {"tree": state.tree, "checkpoint": state.checkpoint, "anchors": len(anchored)}
    text = f"folded to event {state.head}, not verified: {state.machine}, state digest {content['state_digest']}"
    emit("replay", content, as_json=as_json, lines=[text, *anchor_lines(anchored)])


def _content(replayed: Replayed, anchored: int) -> dict[str, Any]:
    state = replayed.state
    return {
        "verified": True,
        "level": replayed.level,
        "first": replayed.first,
        "start": replayed.start,
        "events": replayed.events,
        "transitions": replayed.transitions,
        "digests": replayed.digests,
        "cycles": replayed.cycles,
        "decisions": replayed.decisions,
        "untaken": replayed.untaken,
        "anchors": anchored,
        "jobs": replayed.jobs,
        "duration_s": replayed.duration_s,
        "head_hash": replayed.head_hash,
        "state_digest": replayed.state_digest,
        "state": state.machine,
        "tree": state.tree,
        "checkpoint": state.checkpoint,
    }


def _lines(replayed: Replayed) -> list[str]:
    state, rate = replayed.state, replayed.events / max(replayed.duration_s, 1e-9)
    counted = [f"{replayed.events} events"]
    if replayed.state_digest:
        counted.append(f"{replayed.transitions} transitions")
        counted.append(f"{replayed.digests} state digests")
        counted.append(f"{replayed.cycles} cycles")
    shared = f", {replayed.jobs} processes" if replayed.jobs > 1 else ""
    took = f"{replayed.duration_s:.2f} s ({rate:,.0f}/s{shared})"
    lines = [f"verified to level {replayed.level}: {', '.join(counted)} in {took}"]
    if replayed.first > 1:
        lines.append(f"  from          event {replayed.first}, {replayed.start or 'the hash in front of it as it is'}")
    if replayed.decisions:
        lines.append(f"  taken again   {_counts(replayed.decisions)}")
    lines += [f"  not decided   {count} {what}" for what, count in replayed.untaken.items()]
    lines.append(f"  head hash     {replayed.head_hash}")
    if replayed.state_digest:
        lines.append(f"  state digest  {replayed.state_digest}")
        lines.append(
            f"  ends in       {state.machine}, tree {(state.tree or 'none')[:12]}, "
            f"checkpoint {(state.checkpoint or 'none')[:12]}"
        )
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())
