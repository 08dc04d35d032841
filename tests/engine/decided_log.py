"""A log in which every decision is the one that the engine takes; what effects would have measured is made up.

And how somebody who can write the file would change it: every row rewritten, renumbered, refolded and chained again.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from instar.engine.changes import Judged, observed
from instar.engine.diff_engine import diff_output
from instar.engine.planner_agent import BuiltinPlanner
from instar.engine.reward_model import BuiltinRewardModel
from instar.engine.verdicts import outcome_rewards, verdict
from instar.fsm import events as e
from instar.fsm.chain import GENESIS, link
from instar.fsm.codec import decode_event
from instar.fsm.decisions import (
    Return,
    finish_of,
    lineage_of,
    restored_key,
    return_to,
    seed_of,
    shell_key,
    skipped_key,
    snapshot_of,
    take_up,
    trigger_content,
    waits_for_cycle,
)
from instar.fsm.errors import IllegalTransition
from instar.fsm.evolve import evolve
from instar.fsm.policy import MutationPolicy, Policy, RetrainPolicy
from instar.fsm.rows import failure_diff, signal_row, unit_row, verdict_diff
from instar.fsm.state import AgentState, state_digest
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.clock import iso
from instar.store.log import EventLog, Pending, create_log
from instar.store.reader import LogReader
from instar.store.trees import Entry

BASE, NEW = digest_of(b"base"), digest_of(b"new")
POLICY = Policy(retrain=RetrainPolicy(rows_min=4), mutation=MutationPolicy(per_hour_max=1))
UNIT = "heuristics.py::score"


class Ticking:
    """A clock that moves on by a millisecond with every look."""

    def __init__(self) -> None:
        self.at_us = 1_700_000_000_000_000

    def now_us(self) -> int:
        self.at_us += 1000
        return self.at_us


class Story:
    """Appends what the engine would."""

    def __init__(self, folder: Path) -> None:
        create_log(folder / "log.db")
        self.log = EventLog(folder / "log.db", actor="worker", clock=Ticking())
        first = e.WorkspaceInitialized(
            workspace="w", engine="0", tree=digest_of(b"t0"), checkpoint=BASE, model="m", policy=POLICY
        )
        self.log.append(first)

    @property
    def state(self) -> AgentState:
        return self.log.state

    def outside(self, *events: e.AnyEvent) -> list[Seq]:
        return [record.seq for record in self.log.transact(lambda _: [Pending(one) for one in events])]

    def answer(self, event: e.AnyEvent) -> Seq:
        return self.log.append(event, cause=self.state.since).seq

    def feedback(self, number: int, outcome: e.Outcome = "fail", **facts: Any) -> e.FeedbackReceived:
        shared: dict[str, Any] = {"output": f"os.wrong{number}", "reference": f"os.right{number}", "confidence": 0.4}
        return e.FeedbackReceived(
            task_type="lookup", input=f"the way to do {number}", outcome=outcome, **(shared | facts)
        )

    def change(self, path: str, before: str, after: str, tree: str = "t1") -> e.ChangeObserved:
        entries = [Entry("file", 0o644, digest_of(text.encode()), len(text)) for text in (before, after)]
        monitored = self.state.policy.monitored
        return observed(path, entries[0], entries[1], digest_of(tree.encode()), monitored, Judged(self.state))

    def start(self) -> None:
        run = self.state.waiting[0]
        signals = (record.seq for record in self.log.reader.read(run.first, run.last) if waits_for_cycle(record.event))
        event = take_up(run, self.state.policy.cycle.signals_max, signals)
        self.log.append(event, cause=event.span.last)

    def signals(self) -> list[Any]:
        cycle = self.state.cycle
        assert cycle is not None
        if cycle.entry != "signals":
            return []
        found = self.log.reader.read(cycle.span.first, cycle.span.last)
        return [record for record in found if waits_for_cycle(record.event)]

    def embed(self, similarity: float = 0.4) -> None:
        """Diffs and embeds what the cycle took up."""
        signals = self.signals()
        items = [self._diff(record) for record in signals]
        self.answer(e.DiffComputed(items=tuple(items)))
        rows: list[e.EmbeddedItem] = []
        for record, item in zip(signals, items, strict=True):
            judged = self.log.reader.get(record.cause).event if isinstance(record.event, e.OutcomeRewarded) else None
            whole = signal_row(record.seq, record.cause, record.event, item, f"about {record.seq}", judged)
            rows.append(whole)
            rows += [
                replace(unit_row(whole, name, "def score"), similarity=similarity)
                for name in (*item.units_changed, *item.units_added)
            ]
        placed = tuple(replace(row, row=place) for place, row in enumerate(rows))
        space = self.state.checkpoint or Digest("")
        self.answer(e.SignalEmbedded(space=space, items=placed, vectors=digest_of(b"v"), dim=8, texts=digest_of(b"x")))

    def _diff(self, record: Any) -> e.DiffItem:
        match record.event:
            case e.FeedbackReceived() as feedback:
                item, text = diff_output(record.seq, feedback)
                return replace(item, text=digest_of(text.encode()))
            case e.ChangeObserved(path=path):
                return e.DiffItem(
                    seq=record.seq,
                    kind="code_diff",
                    subject=path,
                    similarity=0.7,
                    meaning_changed=True,
                    units_changed=("score",),
                    text=digest_of(b"d"),
                )
            case e.EffectFailed() as failure:
                return replace(failure_diff(record.seq, failure), text=digest_of(b"f"))
            case other:
                return replace(verdict_diff(record.seq, other), text=digest_of(b"r"))

    def flag(self) -> None:
        cycle = self.state.cycle
        assert cycle is not None
        content = trigger_content(cycle.triggers, iso(self.log.reader.get(self.state.since).recorded_at_us))
        self.answer(e.RetrainFlagged(triggers=cycle.triggers, path="run/t.json", content=digest_of(content)))

    def dataset(self, train: int, name: str = "d") -> None:
        self.answer(
            e.DatasetGenerated(dataset=digest_of(name.encode()), train=train, heldout=20, sources={}, left_out={})
        )

    def train(self, gain: e.Interval, brought: Digest | None = None) -> None:
        """Trains a candidate, or measures one that the order of the cycle brought."""
        state = self.state
        assert state.cycle is not None
        assert state.cycle.dataset is not None
        before, after = e.Retrieval(20, 0.4, 0.5, 0.6), e.Retrieval(20, 0.5, 0.6, 0.7)
        base = state.checkpoint or Digest("")
        trained = e.CheckpointTrained(
            checkpoint=brought or NEW,
            base=base,
            dataset=state.cycle.dataset,
            seed=seed_of(self.log.reader.get(state.since).hash),
            epochs=0 if brought else 2,
            steps=0 if brought else 4,
            loss=() if brought else (2.0, 1.0),
            before=before,
            after=after,
            gain=gain,
            lineage=lineage_of("agent", base, 0 if brought else 2, before, after),
            recipe={"rate": 1e-4},
            duration_s=3.0,
            brought=state.cycle.span.first if brought else None,
        )
        self.answer(trained)

    def judge(self, model: str = "builtin") -> None:
        """Rewards, promotes or rejects, and plans."""
        state = self.state
        cycle = state.cycle
        assert cycle is not None
        judged = cycle.candidate.seq if cycle.candidate else cycle.mutation
        rewards: tuple[e.Reward, ...] = ()
        if cycle.embedded:
            embedded = self.log.reader.get(cycle.embedded).event
            assert isinstance(embedded, e.SignalEmbedded)
            signals = [(record.seq, record.event) for record in self.signals()]
            rewards = outcome_rewards(BuiltinRewardModel(), signals, embedded.items)
        event = verdict(state, rewards, model, self.log.reader.get(judged).event if judged else None)
        if event.checkpoint:
            self.answer(self._reembedded(event.checkpoint))
        self.answer(event)
        self.plan()

    def plan(self, planner: str = "builtin") -> None:
        state = self.state
        self.answer(e.PlanChosen(steps=BuiltinPlanner().plan(state.standings, state.policy), planner=planner))

    def settle(self) -> None:
        """Goes through the cycle that was begun; there is too little to learn. A mutation is left for the caller."""
        if self.state.machine == "Diffing":
            self.embed()
        if self.state.machine == "Flagged":
            self.flag()
            self.dataset(1, f"d{self.state.head}")
        if self.state.machine == "Rewarding":
            self.judge()

    def _reembedded(self, space: Digest) -> e.MemoryReembedded:
        rows = [
            (record.seq, index)
            for span in self.state.memory
            for record in self.log.reader.read(span.first, span.last, [e.SignalEmbedded])
            if isinstance(record.event, e.SignalEmbedded)
            for index, item in enumerate(record.event.items)
            if item.row is not None
        ]
        return e.MemoryReembedded(space=space, rows=tuple(rows), vectors=digest_of(b"w"), dim=8)

    def mutation(self) -> e.TaskQueued:
        return e.TaskQueued(task="mutate", source="t", patch=digest_of(b"p"), gate=("{python}", "-m", "pytest"))

    def accept(self, path: str = "notes.txt") -> None:
        state = self.state
        assert state.cycle is not None
        assert state.tree is not None
        accepted = e.MutationAccepted(
            task=state.cycle.span.first,
            patch=digest_of(b"p"),
            gate=("/usr/bin/python", "-m", "pytest"),
            log=None,
            sandbox="rlimits",
            plan=digest_of(b"plan"),
            tree_before=state.tree,
            tree_after=digest_of(b"mutated"),
        )
        self.finish(self.answer(accepted), path, "mutated")

    def reject(self, reason: str, exit_code: int | None = None) -> None:
        cycle = self.state.cycle
        assert cycle is not None
        gate = ("/usr/bin/python", "-m", "pytest")
        self.answer(
            e.MutationRejected(
                task=cycle.span.first,
                patch=digest_of(b"p"),
                reason=reason,
                gate=gate,
                exit_code=exit_code,
                log=None,
                sandbox="rlimits",
            )
        )

    def finish(self, begun: Seq, path: str, tree: str) -> None:
        """Ends a restore, and records what it changed."""
        event = self.log.reader.get(begun).event
        assert isinstance(event, e.RollbackStarted | e.MutationAccepted)
        watched = self.state.policy.mutation.probation
        done = Pending(finish_of(begun, event, (), watched), cause=begun, key=restored_key(begun))
        own = Pending(replace(self.change(path, f"before {begun}", "after"), tree=digest_of(tree.encode())), after=1)
        self.log.transact(lambda _: [done, own])

    def roll_back(self, target: Seq) -> None:
        event = return_to(
            self.log.reader.state_at(target), self.log.state, Return(reason="asked for"), digest_of(b"plan")
        )
        assert event is not None
        head = self.state.head
        started = self.log.append(event, cause=head).seq
        then = self.log.reader.state_at(target)
        done = Pending(finish_of(started, event, (), None), cause=started, key=restored_key(started))
        own = Pending(replace(self.change("notes.txt", f"x {started}", "y"), tree=event.tree), after=1)
        self.log.transact(lambda _: [done, own])
        assert then.tree == self.state.tree


def decided_log(folder: Path) -> EventLog:
    """A promotion, a rejection, a failure, a shell command, mutations, a rollback: some 90 events."""
    story = Story(folder)
    story.outside(story.change("heuristics.py", "a", "b"), *(story.feedback(n) for n in range(8)))
    story.outside(story.feedback(8, "pass", reference=None, confidence=0.9))
    _retrain(story, 40, e.Interval(0.1, 0.05, 0.15))
    snapshot = snapshot_of(story.state, "good", "asked for")
    assert snapshot is not None
    (good,) = story.outside(snapshot)
    story.start()
    story.embed()
    story.outside(*(story.feedback(n) for n in range(10, 14)))
    _retrain(story, 60, e.Interval(0.0, -0.05, 0.05), name="e")
    story.start()
    story.answer(e.EffectFailed(effect="diff", reason="the disk was full"))
    story.start()
    story.settle()
    (queued,) = story.outside(e.TaskQueued(task="shell", source="t", command=("false",)))
    failed = story.feedback(20, reference=None, confidence=None, source="shell", exit_code=1)
    story.log.append(failed, cause=queued, key=shell_key(queued))
    skipped = e.InputSkipped(source="logs", subject="data/logs/x.log", reason="no text")
    story.log.append(skipped, key=skipped_key(skipped))
    story.start()
    story.settle()
    for accepted in (True, False):
        story.outside(story.mutation())
        while story.state.machine != "Planning":
            story.start()
            story.settle()
        if accepted:
            story.accept()
        else:
            story.reject("the budget of 1 mutations an hour is used up")
        story.judge()
    story.roll_back(good)
    story.outside(e.PolicyChanged(policy=replace(POLICY, monitored=("notes.txt",))))
    story.outside(*(story.feedback(n, "pass") for n in range(30, 40)))
    while story.state.waiting:
        story.start()
        story.settle()
    story.outside(e.TreeCaptured(tree=digest_of(b"with an empty folder")))
    return story.log


def _retrain(story: Story, rows: int, gain: e.Interval, name: str = "d") -> None:
    story.start()
    story.embed()
    story.flag()
    story.dataset(rows, name)
    story.train(gain)
    story.judge()


# ---- somebody who can write ----------------------------------------------------------------------------------------

Rows = list[dict[str, Any]]


def forged(log: EventLog, folder: Path, change: Callable[[Rows], Rows | None], *, seeds: bool = True) -> LogReader:
    """Writes a log as its own writer could have: other rows, with every hash, state and digest right again.

    Args:
        log: the true one.
        folder: where the other one is written.
        change: changes the rows, whose payloads are given as objects under ``event``; or gives others.
        seeds: derive seeds anew from the new hashes, as a careful forger would.
    """
    connection = sqlite3.connect(log.path)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM events ORDER BY seq")]
    connection.close()
    for row in rows:
        row["event"] = msgspec.json.decode(row["payload"])
    rows = change(rows) or rows
    return write_rows(folder, rows, seeds=seeds)


def write_rows(folder: Path, rows: Rows, *, seeds: bool = True, refold: bool = True) -> LogReader:
    """Writes rows into a fresh log file, renumbered and chained."""
    folder.mkdir()
    (folder / "log.db").write_bytes(_empty_log())
    connection = sqlite3.connect(folder / "log.db", isolation_level=None)
    connection.execute("BEGIN")
    state: AgentState | None = AgentState() if refold else None
    prev, hashes = str(GENESIS), [""]
    for seq, row in enumerate(rows, 1):
        row["seq"], row["prev_hash"] = seq, prev
        event = row.pop("event")
        if seeds and row["type"] == "CheckpointTrained":
            event["seed"] = seed_of(Digest(hashes[row["cause"]]))
        row["payload"] = msgspec.json.encode(event, order="sorted").decode()
        row["payload_hash"] = digest_of(row["payload"].encode())
        state = _refolded(state, row) if state is not None else None
        columns = {name: value for name, value in row.items() if name not in ("type", "payload", "hash")}
        row["hash"] = prev = link(kind=row["type"], **columns)
        hashes.append(prev)
        names = ", ".join(row)
        connection.execute(f"INSERT INTO events ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    connection.execute("COMMIT")
    connection.close()
    return LogReader(folder / "log.db")


@cache
def _empty_log() -> bytes:
    """Gives the file of a log without events, as one file: no other connection is open."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        create_log(path)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()
        return path.read_bytes()


def _refolded(state: AgentState, row: dict[str, Any]) -> AgentState | None:
    """Makes the columns that the fold gives right again, as far as the machine accepts the events."""
    event = decode_event(row["type"], row["version"], row["payload"].encode())
    try:
        after = evolve(state, event, seq=row["seq"], cause=row["cause"], at_us=row["recorded_at_us"])
    except IllegalTransition:
        return None
    current = after.cycle or state.cycle
    row["state_before"], row["state_after"] = str(state.machine), str(after.machine)
    row["cycle"] = current.number if current else 0
    row["state_digest"] = state_digest(after) if row["seq"] % 64 == 0 else None
    return after


def renumbered(rows: Rows, place: int, by: int) -> None:
    """Moves every reference to the events from ``place`` on, in causes and in payloads, as a careful forger would."""

    def moved(value: Any) -> Any:
        return value + by if isinstance(value, int) and value >= place else value

    for row in rows:
        row["cause"] = moved(row["cause"])
        row["event"] = _moved(row["event"], moved)
        if row["key"] and row["key"].startswith(("restored:", "shell:")):
            name, _, seq = row["key"].partition(":")
            row["key"] = f"{name}:{moved(int(seq))}"


_SEQS = {"seq", "first", "last", "task", "started", "target", "brought"}


def _moved(value: Any, moved: Callable[[Any], Any], name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner, moved, key) for key, inner in value.items()}
    if isinstance(value, list):
        if name == "rows":
            return [[moved(seq), index] for seq, index in value]
        return [moved(inner) if name == "events" else _moved(inner, moved, name) for inner in value]
    return moved(value) if name in _SEQS else value
