"""Writes the golden log of the present schema: every event type, as this version writes it.

Run it once when the schema or an event's version changes, and commit the new file beside the old ones. An old file is
never written again: it stands for the logs that users have.
"""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.codec import TYPES, encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.policy import DriftPolicy, Policy
from instar.fsm.probation import subject_of
from instar.fsm.retention import Retention
from instar.fsm.words import Seq, digest_of
from instar.store.collected import list_digests
from instar.store.log import EventLog
from instar.store.reader import SCHEMA_HEAD
from tests.engine.dashboard_log import NEW, append, feedback, sample_log

D = digest_of(b"d")


def start(log: EventLog) -> None:
    """Takes up what waits first."""
    run = log.state.waiting[0]
    append(log, e.CycleStarted(entry=run.entry, span=e.Span(run.first, run.last), count=run.count))


def remember(log: EventLog) -> None:
    """Takes up all that waits."""
    while log.state.waiting:
        start(log)
        append(log, e.DiffComputed(items=()))
        append(log, e.SignalEmbedded(space=NEW, items=(), vectors=None, dim=8))


def finish(log: EventLog, verdict: str) -> None:
    """Ends a cycle that stands in Rewarding."""
    reward = e.OutcomeRewarded(subject="mutation", rewards=(), verdict=verdict, reason="r", model="b")  # type: ignore[arg-type]
    append(log, reward)
    append(log, e.PlanChosen(steps=(), planner="builtin"))


def computed_here(log: EventLog) -> None:
    """Runs a cycle whose outcomes say where they were computed."""
    environment = e.Environment(
        engine="0.1.0",
        python="3.11.7",
        processor="x86_64",
        threads=2,
        precision="float32",
        libraries={"torch": "2.13.0"},
    )
    change = e.ChangeObserved(
        path="rules_engine.py", change="added", before=None, after=NEW, tree=digest_of(b"t4"), monitored=False, size=3
    )
    append(log, change)
    while log.state.waiting:
        start(log)
        append(log, e.DiffComputed(items=(), environment=environment))
        append(log, e.SignalEmbedded(space=NEW, items=(), vectors=None, dim=0, environment=environment))


def erase_one(log: EventLog) -> None:
    """Erases the text of the first feedback."""
    record = next(log.reader.read(types=[e.FeedbackReceived]))
    remains = encode_event(remains_of(record.event)).decode()
    erasure = e.PayloadErased(target=record.seq, payload_hash=record.payload_hash, remains=remains, reason="asked for")
    log.erase([erasure])


def collect_one(log: EventLog) -> None:
    """Collects a blob that no event names."""
    gone = [log.blobs.put(b"of an effect that crashed")]
    collection = e.BlobsCollected(
        retention=Retention(days=0),
        cutoff_us=log.now_us(),
        kept_from=Seq(log.state.head + 1),
        points=(),
        blobs=log.blobs.put(list_digests(gone)),
        count=1,
        bytes=42,
    )
    log.collect(lambda _: (collection, gone))


def watch_one(log: EventLog) -> None:
    """Applies two mutations, and lets the probation of the later end with the outcome that follows."""
    for name, outcomes in ((b"t6", 100_000), (b"t7", 1)):
        remember(log)
        task = append(log, e.TaskQueued(task="mutate", source="golden", patch=D, gate=("true",)))
        start(log)
        tree, after = log.state.tree, digest_of(name)
        assert tree is not None
        facts = {"task": task, "patch": D, "gate": ("true",), "log": None, "sandbox": "rlimits", "plan": D, "runs": 3}
        append(log, e.MutationAccepted(**facts, tree_before=tree, tree_after=after))  # type: ignore[arg-type]
        append(log, e.MutationApplied(task=task, tree=after, probation=outcomes, beside=True))
        finish(log, "kept")
    end_watch(log, 3)


def end_watch(log: EventLog, number: int) -> None:
    """Lets a probation end with an outcome that follows."""
    seq = append(log, replace(feedback(number, "pass"), task_type="sort"))
    start(log)
    row = e.EmbeddedItem(seq=seq, kind="feedback", unit="sort", text="t", row=None, outcome="pass", task_type="sort")
    append(log, e.DiffComputed(items=()))
    append(log, e.SignalEmbedded(space=NEW, items=(row,), vectors=None, dim=0))
    rewards = (e.Reward(seq, "sort", 0.9, "pass"),)
    append(log, e.OutcomeRewarded(subject="outcomes", rewards=rewards, verdict="none", reason="r", model="b"))
    append(log, e.PlanChosen(steps=(), planner="builtin"))
    watch = log.state.due
    assert watch is not None
    ended = e.ProbationEnded(
        applied=watch.applied, verdict="kept", reason="r", watched=watch.watched, subject=subject_of(watch)
    )
    append(log, ended)


def judge_one(log: EventLog, *, promoted: bool = False) -> None:
    """Has weights judged that were trained elsewhere; what is promoted is watched over one outcome."""
    brought = digest_of(b"trained better elsewhere" if promoted else b"trained elsewhere")
    gain = e.Interval(0.1, 0.05, 0.15) if promoted else e.Interval(0.0, -0.05, 0.05)
    remember(log)
    task = append(log, e.TaskQueued(task="self_train", source="golden", checkpoint=brought))
    start(log)
    assert log.state.cycle is not None
    append(log, e.RetrainFlagged(triggers=log.state.cycle.triggers, path="p", content=D))
    append(
        log,
        e.DatasetGenerated(
            dataset=digest_of(b"d3" if promoted else b"d2"), train=40, heldout=20, sources={}, left_out={}
        ),
    )
    append(log, e.TrainingProgressed(step=1, steps=10, loss=0.25))
    measured = e.Retrieval(20, 0.4, 0.5, 0.6)
    candidate = e.CheckpointTrained(
        checkpoint=brought,
        base=NEW,
        dataset=digest_of(b"d3" if promoted else b"d2"),
        seed=1,
        epochs=0,
        steps=0,
        loss=(),
        before=measured,
        after=measured,
        gain=gain,
        lineage=e.Lineage("agent_new", 0, 0.0),
        recipe={"rate": 1e-4},
        duration_s=3.0,
        brought=task,
    )
    append(log, candidate)
    if promoted:
        append(log, e.MemoryReembedded(space=brought, rows=(), vectors=D, dim=8))
    judged = e.OutcomeRewarded(
        subject="checkpoint",
        rewards=(),
        verdict="promoted" if promoted else "rejected",
        reason="r",
        model="b",
        checkpoint=brought if promoted else None,
        probation=1 if promoted else None,
    )
    append(log, judged)
    append(log, e.PlanChosen(steps=(), planner="builtin"))
    if promoted:
        while log.state.waiting:
            start(log)
            append(log, e.DiffComputed(items=()))
            append(log, e.SignalEmbedded(space=brought, items=(), vectors=None, dim=8))
        end_watch(log, 4)


def adopt_one(log: EventLog) -> None:
    """Goes back to where there was no model, and takes one."""
    tree = log.state.tree
    assert tree is not None
    append(log, e.RollbackStarted(target=Seq(1), plan=D, tree=tree, checkpoint=None, memory=(), reason="r"))
    append(log, e.RollbackFinished(started=Seq(log.state.head), tree=tree, checkpoint=None))
    append(log, e.ModelAdopted(checkpoint=digest_of(b"adopted"), model="m"))


def write(root: Path) -> Path:
    """Writes a log with every event type."""
    log = sample_log(root)
    append(log, e.PolicyChanged(policy=Policy(drift=DriftPolicy(threshold=0.6))))
    append(log, e.InputSkipped(source="watcher", subject="pipe", reason="a fifo", tree=digest_of(b"t")))
    append(log, e.SnapshotTaken(name="good", tree=digest_of(b"t"), checkpoint=NEW, reason="asked for"))
    change = e.ChangeObserved(
        path="fsm.py", change="modified", before=D, after=NEW, tree=digest_of(b"t2"), monitored=True, size=3
    )
    append(log, change)
    start(log)
    append(log, e.EffectFailed(effect="diff", reason="the disk was full"))
    start(log)
    append(log, e.RollbackStarted(target=Seq(1), plan=D, tree=digest_of(b"t"), checkpoint=NEW, memory=(), reason="r"))
    append(log, e.RollbackFinished(started=Seq(log.state.head), tree=digest_of(b"t"), checkpoint=NEW))
    for accepted in (False, True):
        while log.state.waiting:
            start(log)
            append(log, e.DiffComputed(items=()))
            append(log, e.SignalEmbedded(space=NEW, items=(), vectors=None, dim=8))
        task = append(log, e.TaskQueued(task="mutate", source="golden", patch=D, gate=("true",)))
        start(log)
        if accepted:
            append(
                log,
                e.MutationAccepted(
                    task=task,
                    patch=D,
                    gate=("true",),
                    log=None,
                    sandbox="rlimits",
                    plan=D,
                    tree_before=digest_of(b"t"),
                    tree_after=digest_of(b"t3"),
                ),
            )
            append(log, e.MutationApplied(task=task, tree=digest_of(b"t3"), probation=0))
            finish(log, "kept")
        else:
            rejected = e.MutationRejected(
                task=task, patch=D, reason="gate", gate=("false",), exit_code=1, log=None, sandbox="rlimits"
            )
            append(log, rejected)
            finish(log, "rejected")
    append(log, e.TreeCaptured(tree=digest_of(b"t5")))
    computed_here(log)
    watch_one(log)
    judge_one(log)
    judge_one(log, promoted=True)
    adopt_one(log)
    erase_one(log)
    collect_one(log)
    while log.reader.head() < 300:
        append(log, feedback(log.reader.head(), "pass"))
    missing = set(TYPES) - {type(record.event).__name__ for record in log.reader.read()}
    assert not missing, missing
    log.close()
    return root / ".instar" / "log.db"


if __name__ == "__main__":
    import sqlite3
    import tempfile

    names = (f"schema_{SCHEMA_HEAD}{number}.db" for number in chain([""], map("_{}".format, count(2))))
    target = next(path for path in map(Path(__file__).parent.joinpath, names) if not path.exists())
    with tempfile.TemporaryDirectory() as folder, sqlite3.connect(write(Path(folder))) as source:
        source.execute("VACUUM INTO ?", (str(target),))
