"""Verified replay of a long log against reading without verifying, and the state at any position against a full fold.

The peers: ``eventsourcing`` that reads and decodes events with the same content, and Temporal's Replayer, the one other
replay that verifies. The log is written once a run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from uuid import UUID

from instar.engine.replay import replay
from instar.fsm.state import AgentState
from instar.store.reader import LogReader, apply

from .compare import Work, compare
from .goals import Measure, Row, absent
from .long_log import write_long_log

EVENTS, ROUNDS, ACTIVITIES, CHUNK, PER_AGENT = 1_000_000, 3, 1600, 1000, 1000
POSITIONS = 40


def main(events: int = EVENTS) -> list[Row]:
    """Runs both comparisons; gives three rows of the table of goals."""
    with tempfile.TemporaryDirectory() as name:
        reader = _written(Path(name), events)
        try:
            return [*_replays(reader, Path(name), events), _state(reader, events)]
        finally:
            reader.close()


def _written(folder: Path, events: int) -> LogReader:
    started = time.perf_counter()
    write_long_log(folder, events).close()
    rate = events / (time.perf_counter() - started)
    reader = LogReader(folder / "log.db")
    payload = statistics.fmean(len(row[10].encode()) for row in reader.rows(1, 20_000))
    row = (folder / "log.db").stat().st_size / events
    print(
        f"wrote {events:,} events at {rate:,.0f} a second; mean payload {payload:.0f} bytes, mean row {row:.0f} bytes"
    )
    return reader


def _replays(reader: LogReader, folder: Path, events: int) -> list[Row]:
    def verified() -> int:
        return replay(reader).events

    ways: dict[str, Work] = {"instar, verified replay": verified}
    temporal, library = absent("temporalio"), absent("eventsourcing")
    if not temporal:
        ways.update(_temporal())
    if not library:
        ways.update(_eventsourcing(reader, folder, events))
    medians = compare(f"replay of {events} events", ways, rounds=ROUNDS, unit="events/s")

    def against(peer: str, goal: float, missing: str) -> tuple[Measure, ...]:
        return () if missing else (Measure(medians["instar, verified replay"] / medians[peer], goal),)

    work = f"verified replay of {events:,} events (chain, decode, fold, digests)"
    reading = "eventsourcing reading and decoding the same, unverified"
    return [
        Row(work, reading, against("eventsourcing, notifications", 3.0, library), library),
        Row(
            "the same",
            "Temporal's Replayer, history events a second",
            against("Temporal's Replayer", 100.0, temporal),
            temporal,
        ),
    ]


def _temporal() -> dict[str, Work]:
    from .temporal_peer import agent_history, replay_history

    history = agent_history(ACTIVITIES)
    print(f"Temporal: {len(history.events):,} history events of {ACTIVITIES} activities")
    return {
        "Temporal's Replayer": lambda: replay_history(history),
        "Temporal's Replayer, no sandbox": lambda: replay_history(history, sandboxed=False),
    }


def _eventsourcing(reader: LogReader, folder: Path, events: int) -> dict[str, Work]:
    """Writes the same events with the library, 1,000 an aggregate."""
    from eventsourcing.persistence import StoredEvent

    from .eventsourcing_peer import new_agent, open_application, same_events

    application = open_application(folder / "eventsourcing.db")
    recorder, mapper = application.recorder, application.mapper
    source, agents, size = reader.read(), list[UUID](), 0
    while len(agents) * PER_AGENT < events:
        agents.append(new_agent(application).id)
        content = (record.event for record in islice(source, PER_AGENT - 1))
        stored: list[StoredEvent] = [mapper.to_stored_event(event) for event in same_events(agents[-1], content)]
        size += sum(len(event.state) for event in stored)
        recorder.insert_events(stored)
    total = recorder.max_notification_id() or 0
    print(f"eventsourcing: {total:,} events, mean state {size / total:.0f} bytes")

    def notifications() -> int:
        return sum(1 for _ in _decoded(application, total))

    def repository() -> int:
        for agent in agents[:20]:
            application.repository.get(agent)
        return len(agents[:20]) * PER_AGENT

    return {"eventsourcing, repository.get": repository, "eventsourcing, notifications": notifications}


def _decoded(application: object, total: int) -> Iterator[object]:
    for start in range(1, total + 1, CHUNK):
        for notification in application.recorder.select_notifications(start, CHUNK):  # type: ignore[attr-defined]
            yield application.mapper.to_domain_event(notification)  # type: ignore[attr-defined]


def _state(reader: LogReader, events: int) -> Row:
    """Compares the state at random positions, from snapshots, with the fold from the first event to the same one."""
    chosen = sorted(Random(11).sample(range(1, events + 1), min(POSITIONS, events)))
    folded_s: dict[int, list[float]] = {seq: [] for seq in chosen}
    from_snapshot_s: list[float] = []
    for _ in range(ROUNDS):
        states = dict(_fold(reader, folded_s))
        for seq in Random(13).sample(chosen, len(chosen)):
            started = time.perf_counter()
            state = reader.state_at(seq)
            from_snapshot_s.append(time.perf_counter() - started)
            if state != states[seq]:
                raise RuntimeError(f"the state at {seq} from a snapshot is not what the fold gives")
    full_s = statistics.median(value for values in folded_s.values() for value in values)
    short_s = statistics.median(from_snapshot_s)
    print(f"state at {len(chosen)} seqs: full fold {full_s * 1000:,.0f} ms, from snapshots {short_s * 1000:.2f} ms")
    return Row(
        f"state at any seq of a {events:,}-event log, from snapshots",
        "a full fold to the same seq",
        (Measure(full_s / short_s, 200.0),),
    )


def _fold(reader: LogReader, seconds: dict[int, list[float]]) -> Iterator[tuple[int, AgentState]]:
    """Folds from the first event to the last chosen position; notes when it passes each, and yields the state there."""
    state, started = AgentState(), time.perf_counter()
    for record in reader.read(1, max(seconds)):
        state = apply(state, record)
        if record.seq in seconds:
            seconds[record.seq].append(time.perf_counter() - started)
            yield record.seq, state
