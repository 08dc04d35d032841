"""The peer that does most of the same work: the ``eventsourcing`` library on its SQLite recorder.

Its settings are its own defaults; ``settings_of`` says what they come to. Its events carry the same fields as ours; its
own ``timestamp`` takes some 70 bytes, so that a text is cut where the two must have the same size.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate

from instar.fsm.events import AnyEvent, ChangeObserved, FeedbackReceived


class Agent(Aggregate):
    """An agent as an aggregate: it counts what was reported to it."""

    class Feedback(Aggregate.Event):
        """The counterpart of FeedbackReceived."""

        task_type: str
        input: str
        output: str
        reference: str | None
        outcome: str
        confidence: float | None
        reward: float | None
        group: str | None
        source: str
        exit_code: int | None
        log: str | None

        def apply(self, aggregate: Agent) -> None:
            """Counts it."""
            aggregate.waiting += 1

    class Change(Aggregate.Event):
        """The counterpart of ChangeObserved."""

        path: str
        change: str
        before: str | None
        after: str | None
        tree: str
        monitored: bool
        size: int
        seen: bool

        def apply(self, aggregate: Agent) -> None:
            """Counts it."""
            aggregate.waiting += 1

    class Step(Aggregate.Event):
        """The counterpart of the events of a cycle."""

        content: dict[str, Any]

    def __init__(self) -> None:
        self.waiting = 0


def open_application(path: Path) -> Application[UUID]:
    """Opens an application on a database file, with the library's default settings but for longer waits."""
    return Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(path),
            "SQLITE_LOCK_TIMEOUT": "60",
            "SQLITE_POOL_TIMEOUT": "60",
        }
    )


def settings_of(application: Application[UUID]) -> str:
    """Says how durable the peer's connections are."""
    names = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
    with application.recorder.datastore.transaction(commit=False) as cursor:  # type: ignore[attr-defined]
        found = []
        for pragma in ("journal_mode", "synchronous", "wal_autocheckpoint"):
            cursor.execute(f"PRAGMA {pragma}")
            found.append(cursor.fetchone()[0])
    return f"journal_mode={found[0]}, synchronous={names[found[1]]}, wal_autocheckpoint={found[2]}"


def new_agent(application: Application[UUID]) -> Agent:
    """Saves a new agent."""
    agent = Agent()
    application.save(agent)
    return agent


def same_events(agent_id: UUID, events: Iterator[AnyEvent], *, first: int = 2) -> Iterator[Aggregate.Event]:
    """Makes the peer's events with the content and the size of ours, for one agent, from version ``first`` on."""
    for version, event in enumerate(events, first):
        yield _same_event(agent_id, version, event)


def _same_event(agent_id: UUID, version: int, event: AnyEvent) -> Aggregate.Event:
    fields: dict[str, Any] = msgspec.to_builtins(event)
    del fields["type"]
    place: dict[str, Any] = {
        "originator_id": agent_id,
        "originator_version": version,
        "timestamp": datetime.now(UTC),
    }
    if isinstance(event, FeedbackReceived):
        return Agent.Feedback(**place, **_cut(fields, "output", SURPLUS))
    if isinstance(event, ChangeObserved):
        return Agent.Change(**place, **_cut(fields, "tree", SURPLUS))
    return Agent.Step(**(place | {"content": fields}))


SURPLUS = 56
"""How many bytes a time stamp of the peer takes more than our type's name."""


def _cut(fields: dict[str, Any], name: str, count: int) -> dict[str, Any]:
    return {**fields, name: fields[name][: max(0, len(fields[name]) - count)]}


def receive(agent: Agent, number: int) -> None:
    """Lets an agent take in the counterpart of ``feedback(number)``, of the same size; the next save records it."""
    agent.trigger_event(
        Agent.Feedback,
        task_type="lookup",
        input=f"request {number:07d}: list the files of a folder",
        output="",
        reference=None,
        outcome="pass",
        confidence=0.8125,
        reward=None,
        group=None,
        source="agent",
        exit_code=0,
        log=None,
    )
