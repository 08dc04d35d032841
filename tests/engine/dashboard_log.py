"""A log with one whole cycle in it, appended as the engine would: the machine accepts every event."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from instar.fsm import events as e
from instar.fsm.policy import Policy
from instar.fsm.react import react
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.log import EventLog, Pending, create_log

BASE, NEW = digest_of(b"base"), digest_of(b"new")
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def append(log: EventLog, event: e.AnyEvent) -> Seq:
    """Appends an event with the cause that the state asks for."""
    effect = react(log.state)
    cause = event.span.last if isinstance(event, e.CycleStarted) else effect.answers if effect else None
    outside = (e.ChangeObserved, e.FeedbackReceived, e.TaskQueued, e.InputSkipped, e.SnapshotTaken, e.PolicyChanged)
    return log.append(event, cause=None if isinstance(event, outside) else cause).seq


def vectors(log: EventLog, count: int, seed: int) -> Digest:
    """Stores unit vectors."""
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype("<f4")
    return log.blobs.put((rows / np.linalg.norm(rows, axis=1, keepdims=True)).tobytes())


def feedback(number: int, outcome: e.Outcome = "fail") -> e.FeedbackReceived:
    """One outcome; every third holds text that must never become markup."""
    text = HOSTILE if number % 3 == 0 else f"request {number}"
    return e.FeedbackReceived(task_type="find", input=text, output="x", outcome=outcome, confidence=0.4)


def empty_log(root: Path) -> EventLog:
    """A workspace's log with its first event."""
    (root / ".instar").mkdir(parents=True)
    create_log(root / ".instar" / "log.db")
    log = EventLog(root / ".instar" / "log.db", actor="worker")
    first = e.WorkspaceInitialized(
        workspace="w", engine="0", tree=digest_of(b"t"), checkpoint=BASE, model="m", policy=Policy()
    )
    log.append(first)
    return log


def sample_log(root: Path, signals: int = 9) -> EventLog:
    """A log in which failures were embedded, learned from, and a checkpoint was promoted."""
    log = empty_log(root)
    log.transact(lambda _: [Pending(feedback(number)) for number in range(signals)])
    last = Seq(log.state.head)
    append(log, e.CycleStarted(entry="signals", span=e.Span(Seq(2), last), count=signals))
    append(log, e.DiffComputed(items=()))
    seqs = [Seq(2 + number) for number in range(signals)]
    items = tuple(
        e.EmbeddedItem(
            seq=seq, kind="failure", unit="find", text=feedback(n).input, row=n, outcome="fail", task_type="find"
        )
        for n, seq in enumerate(seqs)
    )
    texts = log.blobs.put(msgspec.json.encode([item.text for item in items]))
    embedded = append(
        log, e.SignalEmbedded(space=BASE, items=items, vectors=vectors(log, signals, 1), dim=8, texts=texts)
    )
    assert log.state.cycle is not None
    append(log, e.RetrainFlagged(triggers=log.state.cycle.triggers, path="p", content=digest_of(b"c")))
    append(log, e.DatasetGenerated(dataset=digest_of(b"d"), train=40, heldout=20, sources={}, left_out={}))
    before, after = e.Retrieval(20, 0.4, 0.5, 0.6), e.Retrieval(20, 0.5, 0.6, 0.7)
    append(
        log,
        e.CheckpointTrained(
            checkpoint=NEW,
            base=BASE,
            dataset=digest_of(b"d"),
            seed=1,
            epochs=2,
            steps=4,
            loss=(2.0, 1.5, 1.2, 1.0),
            before=before,
            after=after,
            gain=e.Interval(0.1, 0.05, 0.15),
            lineage=e.Lineage("agent_base", 2, 0.1),
            recipe={"rate": 1e-4},
            duration_s=3.0,
            origin=BASE,
        ),
    )
    again = e.MemoryReembedded(
        space=NEW, rows=tuple((embedded, n) for n in range(signals)), vectors=vectors(log, signals, 2), dim=8
    )
    append(log, again)
    rewards = tuple(e.Reward(seq, "find", 0.1, "fail") for seq in seqs)
    append(
        log,
        e.OutcomeRewarded(
            subject="checkpoint", rewards=rewards, verdict="promoted", reason="gain", model="b", checkpoint=NEW
        ),
    )
    append(log, e.PlanChosen(steps=(e.PlanStep(1, "find", "retrain", "mean reward 0.10"),), planner="builtin"))
    return log
