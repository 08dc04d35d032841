"""A log in which each kind of event rests on something known: learning, a rollback, mutations, an erasure."""

from __future__ import annotations

from pathlib import Path

import msgspec

from instar.engine.generate_dataset import Row
from instar.fsm import events as e
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.policy import DriftPolicy, GatePolicy, Policy, RetrainPolicy
from instar.fsm.react import react
from instar.fsm.retention import Retention
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.collected import list_digests
from instar.store.log import EventLog, Pending, create_log

POLICY = Policy(retrain=RetrainPolicy(rows_min=1), gate=GatePolicy(heldout_min=1))
BASE, FIRST, SECOND = (digest_of(name) for name in (b"base", b"first", b"second"))
OLD, GOOD, BAD, MUTATED = (digest_of(name) for name in (b"old", b"good", b"bad", b"mutated"))
TREE_OLD, TREE_GOOD, TREE_BAD, TREE_MUTATED = (digest_of(b"tree" + name) for name in (b"0", b"1", b"2", b"3"))
SCORE = e.Retrieval(20, 0.4, 0.5, 0.6)
OUTSIDE = (
    e.ChangeObserved,
    e.FeedbackReceived,
    e.TaskQueued,
    e.InputSkipped,
    e.TreeCaptured,
    e.SnapshotTaken,
    e.PolicyChanged,
)


class Ticking:
    """A clock that goes a second on each time it is asked."""

    def __init__(self) -> None:
        self.at_us = 1_767_225_600_000_000

    def now_us(self) -> int:
        self.at_us += 1_000_000
        return self.at_us


class Story:
    """Appends events as the engine would, each with the cause that it would have."""

    def __init__(self, root: Path) -> None:
        create_log(root / "log.db")
        self.log = EventLog(root / "log.db", actor="worker", clock=Ticking())

    def add(self, event: e.AnyEvent, cause: int | None = None) -> Seq:
        effect = react(self.log.state)
        if cause is None and not isinstance(event, OUTSIDE):
            cause = event.span.last if isinstance(event, e.CycleStarted) else effect.answers if effect else None
        return self.log.append(event, cause=None if cause is None else Seq(cause)).seq

    def start(self) -> Seq:
        run = self.log.state.waiting[0]
        return self.add(e.CycleStarted(entry=run.entry, span=e.Span(run.first, run.last), count=run.count))

    def flag(self) -> Seq:
        assert self.log.state.cycle is not None
        return self.add(
            e.RetrainFlagged(triggers=self.log.state.cycle.triggers, path="trigger.json", content=digest_of(b"c"))
        )

    def dataset(self, *rows: Row) -> Digest:
        content = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        train = sum(row.split == "train" for row in rows)
        digest = self.log.blobs.put(content)
        self.add(e.DatasetGenerated(dataset=digest, train=train, heldout=len(rows) - train, sources={}, left_out={}))
        return digest

    def trained(self, checkpoint: Digest, base: Digest, dataset: Digest, gain: float) -> Seq:
        return self.add(
            e.CheckpointTrained(
                checkpoint=checkpoint,
                base=base,
                dataset=dataset,
                seed=1,
                epochs=1,
                steps=2,
                loss=(1.0, 0.5),
                before=SCORE,
                after=SCORE,
                gain=e.Interval(gain, gain, gain),
                lineage=e.Lineage("agent_base", 1, 0.1),
                recipe={},
                duration_s=3.0,
            )
        )

    def rewarded(self, verdict: str, subject: str = "outcomes", **facts: object) -> Seq:
        shared: dict[str, object] = {"rewards": (), "reason": f"the {subject} were {verdict}", "model": "builtin"}
        return self.add(e.OutcomeRewarded(**(shared | {"subject": subject, "verdict": verdict} | facts)))  # type: ignore[arg-type]

    def planned(self, *types: str) -> Seq:
        steps = tuple(e.PlanStep(rank, name, "retrain", "low") for rank, name in enumerate(types, 1))
        return self.add(e.PlanChosen(steps=steps, planner="builtin"))

    def settle(self) -> None:
        """Lets a cycle embed what waits, with one row each that raises no flag."""
        run = self.log.state.waiting[0]
        seqs = [
            record.seq
            for record in self.log.reader.read(run.first, run.last)
            if isinstance(record.event, e.OutcomeRewarded | e.ChangeObserved)
        ]
        self.start()
        self.add(e.DiffComputed(items=tuple(diffed(seq) for seq in seqs)))
        self.add(embedded(*(item(seq, row=n) for n, seq in enumerate(seqs)), space=FIRST))


def feedback(number: int, **facts: object) -> e.FeedbackReceived:
    shared: dict[str, object] = {"task_type": "find", "output": "x", "outcome": "fail", "confidence": 0.9}
    return e.FeedbackReceived(**(shared | {"input": f"request {number}"} | facts))  # type: ignore[arg-type]


def changed(before: Digest | None, after: Digest | None, tree: Digest) -> e.ChangeObserved:
    return e.ChangeObserved(
        path="fsm.py", change="modified", before=before, after=after, tree=tree, monitored=True, size=3
    )


def diffed(seq: int) -> e.DiffItem:
    return e.DiffItem(seq=Seq(seq), kind="code_diff", subject="s", similarity=0.5, meaning_changed=True)


def item(seq: int, kind: str = "failure", row: int | None = None, **facts: object) -> e.EmbeddedItem:
    shared: dict[str, object] = {"unit": "find", "text": "t"}
    return e.EmbeddedItem(**(shared | {"seq": Seq(seq), "kind": kind, "row": row} | facts))  # type: ignore[arg-type]


def embedded(*items: e.EmbeddedItem, space: Digest = BASE) -> e.SignalEmbedded:
    return e.SignalEmbedded(space=space, items=items, vectors=digest_of(b"v"), dim=8, texts=digest_of(b"x"))


def row(number: int, *events: int, split: str = "train", kind: str = "task") -> Row:
    return Row(
        input=f"request {number}",
        output="right",
        type=kind,  # type: ignore[arg-type]
        events=tuple(Seq(event) for event in events),
        group="g",
        split=split,  # type: ignore[arg-type]
    )


def learned(root: Path) -> Story:
    """Events 1 to 16: failures and a change are embedded, flagged, learned from; a checkpoint is promoted."""
    story = Story(root)
    story.add(
        e.WorkspaceInitialized(workspace="w", engine="0", tree=TREE_OLD, checkpoint=BASE, model="m", policy=POLICY)
    )
    story.add(feedback(2))
    story.add(feedback(3, confidence=0.1))
    story.add(e.TaskQueued(task="shell", source="agent", command=("true",)))
    story.add(feedback(5, source="shell"), cause=4)
    story.add(changed(OLD, GOOD, TREE_GOOD))
    story.start()
    story.add(e.DiffComputed(items=tuple(diffed(seq) for seq in (2, 3, 5, 6))))
    failures = [item(seq, row=n, outcome="fail", task_type="find") for n, seq in enumerate((2, 3, 5))]
    unit = item(6, "unit", 3, unit="fsm.py::f", similarity=0.4, monitored=True, meaning_changed=True)
    story.add(embedded(*failures, unit))
    story.flag()
    dataset = story.dataset(row(1, 2), row(2, 3, 9, kind="failed_embedding"), row(3, 5, split="heldout"))
    story.trained(FIRST, BASE, dataset, gain=0.1)
    story.add(
        e.MemoryReembedded(space=FIRST, rows=tuple((Seq(9), n) for n in range(4)), vectors=digest_of(b"w"), dim=8)
    )
    scores = tuple(e.Reward(Seq(seq), "find", 0.25, "fail") for seq in (2, 3, 5))
    verdict = e.Reward(Seq(12), "retrain", 0.75, "pass")
    story.rewarded("promoted", "checkpoint", checkpoint=FIRST, rewards=(*scores, verdict))
    story.planned("find", "retrain")
    story.add(e.SnapshotTaken(name="good", tree=TREE_GOOD, checkpoint=FIRST, reason="asked for"))
    return story


def rolled_back(root: Path) -> Story:
    """Events 17 to 34: a bad edit drifts, a data set fails, the edit is rolled back, and its correction is learned."""
    story = learned(root)
    story.add(changed(GOOD, BAD, TREE_BAD))
    story.start()
    story.add(e.DiffComputed(items=(diffed(14), diffed(17))))
    unit = item(17, "unit", 1, unit="fsm.py::f", similarity=0.3, monitored=True, meaning_changed=True)
    story.add(embedded(item(14, "retrain", 0), unit, space=FIRST))
    story.flag()
    story.add(e.EffectFailed(effect="generate", reason="the disk was full"))
    then = story.log.reader.state_at(16)
    story.add(
        e.RollbackStarted(
            target=Seq(16),
            plan=digest_of(b"p"),
            tree=TREE_GOOD,
            checkpoint=FIRST,
            memory=then.memory,
            reason="asked for",
            trained=then.trained,
            trained_rows=then.trained_rows,
        ),
        cause=22,
    )
    story.add(e.RollbackFinished(started=Seq(23), tree=TREE_GOOD, checkpoint=FIRST))
    story.add(changed(BAD, GOOD, TREE_GOOD), cause=24)
    story.add(e.PolicyChanged(policy=msgspec.structs.replace(POLICY, drift=DriftPolicy(threshold=0.6))))
    story.start()
    story.add(e.DiffComputed(items=(diffed(22), diffed(25))))
    unit = item(25, "unit", 1, unit="fsm.py::f", similarity=0.8, meaning_changed=True)
    story.add(embedded(item(22, row=0, outcome="fail", task_type="engine:generate"), unit, space=FIRST))
    story.flag()
    dataset = story.dataset(
        row(1, 2), row(2, 3, 9, kind="failed_embedding"), row(4, 25, kind="code_diff"), row(3, 5, split="heldout")
    )
    story.trained(SECOND, FIRST, dataset, gain=-0.1)
    story.rewarded("rejected", "checkpoint", rewards=(e.Reward(Seq(32), "retrain", 0.25, "fail"),))
    story.planned("find", "retrain")
    return story


def full_log(root: Path) -> Story:
    """Events 35 to 63: a mutation is rejected, one applied; an ordered retrain finds nothing; a payload is erased."""
    story = rolled_back(root)
    for accepted in (False, True):
        task = story.add(e.TaskQueued(task="mutate", source="cli", patch=digest_of(b"patch"), gate=("true",)))
        story.settle()
        story.start()
        shared = {"task": task, "patch": digest_of(b"patch"), "gate": ("true",), "log": None, "sandbox": "rlimits"}
        if not accepted:
            story.add(e.MutationRejected(reason="the gate failed", exit_code=1, **shared))  # type: ignore[arg-type]
            story.rewarded("rejected", "mutation")
        else:
            story.add(
                e.MutationAccepted(
                    plan=digest_of(b"p"),
                    tree_before=TREE_GOOD,
                    tree_after=TREE_MUTATED,
                    **shared,  # type: ignore[arg-type]
                )
            )
            applied = story.add(e.MutationApplied(task=task, tree=TREE_MUTATED, probation=1))
            story.add(changed(GOOD, MUTATED, TREE_MUTATED), cause=applied)
            story.rewarded("kept", "mutation")
        story.planned("mutation")
    story.settle()
    story.add(e.TaskQueued(task="self_train", source="agent"))
    story.start()
    story.flag()
    story.dataset()
    story.rewarded("none")
    story.planned()
    story.add(e.InputSkipped(source="watcher", subject="pipe", reason="a fifo", tree=TREE_MUTATED))
    story.add(e.TreeCaptured(tree=TREE_OLD))
    target = story.log.reader.get(2)
    erasure = e.PayloadErased(
        target=Seq(2),
        payload_hash=target.payload_hash,
        remains=encode_event(remains_of(target.event)).decode(),
        reason="asked for by the person",
    )
    story.log.erase([erasure])
    listed = [digest_of(b"gone")]
    collection = e.BlobsCollected(
        retention=Retention(days=0),
        cutoff_us=0,
        kept_from=Seq(1),
        points=(),
        blobs=story.log.blobs.put(list_digests(listed)),
        count=1,
        bytes=4,
    )
    story.log.collect(lambda _: (collection, listed))
    _watched(story)
    return story


def _watched(story: Story) -> None:
    """An outcome ends the probation of the mutation."""
    passed = story.add(feedback(9))
    story.start()
    story.add(e.DiffComputed(items=(diffed(passed),)))
    story.add(embedded(item(passed, row=0, outcome="pass", task_type="find"), space=FIRST))
    story.rewarded("none", rewards=(e.Reward(passed, "find", 1.0, "pass"),))
    story.planned()
    (probation,) = story.log.state.mutation_probations
    story.add(
        e.ProbationEnded(applied=probation.applied, verdict="kept", reason="r", watched=probation.watched),
        cause=probation.due,
    )


def one_cycle(folder: Path, outcomes: str, **policy: object) -> Story:
    """Takes up feedback of some outcomes (``f`` or ``p``), embeds it and, if one failed, flags it."""
    story = Story(folder)
    story.add(
        e.WorkspaceInitialized(
            workspace="w",
            engine="0",
            tree=TREE_OLD,
            checkpoint=BASE,
            model="m",
            policy=Policy(**policy),  # type: ignore[arg-type]
        )
    )
    names = {"f": "fail", "p": "pass"}
    story.log.transact(lambda _: [Pending(feedback(n, outcome=names[one])) for n, one in enumerate(outcomes)])
    story.start()
    seqs = range(2, 2 + len(outcomes))
    story.add(e.DiffComputed(items=tuple(diffed(seq) for seq in seqs)))
    items = [item(seq, row=n, outcome=names[outcomes[n]], task_type="find") for n, seq in enumerate(seqs)]
    story.add(embedded(*items))
    if "f" in outcomes:
        story.flag()
    return story
