"""``instar replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Json, Root, emit, reader_at

if TYPE_CHECKING:
    from instar.engine.replay import Replayed
    from instar.fsm.words import Seq
    from instar.store.reader import LogReader

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
        typer.Option(help="Check too that the log still holds this head: a line of `instar anchor`, or a file."),
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
    if diff is not None:
        from .replay_diff import show as show_diff

        show_diff(workspace, *diff, as_json=json)
    elif what_if:
        from .replay_what_if import show as show_what_if

        show_what_if(workspace, what_if, to, as_json=json)
    elif reexecute is not None:
        _reexecute(workspace, reexecute.split(","), as_json=json)
    else:
        _replay(workspace, verify, level, first, to, anchor or [], jobs, as_json=json)


def _reexecute(workspace: Path | None, effects: list[str], *, as_json: bool) -> None:
    from .replay_reexecute import show

    show(workspace, effects, as_json=as_json)


def _replay(
    workspace: Path | None,
    verify: bool,
    level: str,
    first: str | None,
    to: str | None,
    anchors: list[str],
    jobs: int | None,
    *,
    as_json: bool,
) -> None:
    from instar.engine.references import resolve
    from instar.engine.replay import Level, level_of, replay

    wanted = level_of(level)
    reader = reader_at(workspace)
    position = resolve(reader, to) if to is not None else None
    if not verify:
        _fold_only(reader, position, as_json=as_json)
        return
    begin = resolve(reader, first) if first is not None else None
    compared = Level.DECISIONS if wanted is Level.EFFECTS else wanted
    replayed = replay(reader, to=position, first=begin, level=compared, jobs=jobs)
    held = _check_anchors(reader, anchors)
    reader.close()
    with_effects = wanted is Level.EFFECTS
    if not (with_effects and as_json):  # the envelope is then that of the effects: there is one a command
        emit("replay", _content(replayed, held), as_json=as_json, text="\n".join([*_text(replayed), *held]))
    if with_effects:
        _reexecute(workspace, ["all"], as_json=as_json)


def _check_anchors(reader: LogReader, given: list[str]) -> list[str]:
    """Checks the log against anchors, each a line or a file; gives a line on each."""
    if not given:
        return []
    from instar.engine.bundles.anchor import FORMAT, check_anchors, parse_anchors

    texts = [text if text.startswith(FORMAT) else _read(text) for text in given]
    anchors = [anchor for text in texts for anchor in parse_anchors(text)]
    return [
        f"  anchored      event {held.anchor.seq}, {held.since} events since; signature {held.signature}"
        for held in check_anchors(reader, anchors)
    ]


def _read(path: str) -> str:
    from instar.fsm.errors import ConfigError

    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the anchor {path} cannot be read: {error}") from error


def _content(replayed: Replayed, held: list[str]) -> dict[str, Any]:
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
        "anchors": len(held),
        "jobs": replayed.jobs,
        "duration_s": replayed.duration_s,
        "head_hash": replayed.head_hash,
        "state_digest": replayed.state_digest,
        "state": state.machine,
        "tree": state.tree,
        "checkpoint": state.checkpoint,
    }


def _text(replayed: Replayed) -> list[str]:
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


def _fold_only(reader: LogReader, position: Seq | None, *, as_json: bool) -> None:
    from instar.fsm.state import state_digest

    state = reader.state_at(position)
    reader.close()
    content = {"verified": False, "events": state.head, "state": state.machine, "state_digest": state_digest(state)}
    content |= {"tree": state.tree, "checkpoint": state.checkpoint}
    text = f"folded to event {state.head}, not verified: {state.machine}, state digest {content['state_digest']}"
    emit("replay", content, as_json=as_json, text=text)
