"""A long log of an agent at work: feedback and changes of 300 to 400 bytes, and whole cycles over them.

The agent reports faster than cycles take up (two signals a cycle, by its recorded policy), as in a busy hour. Four of
five events are signals. A cycle ends with rewards and a plan; every eighth has a failure in it and raises a flag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from instar.fsm import events as e
from instar.fsm.events import AnyEvent, WorkspaceInitialized
from instar.fsm.policy import CyclePolicy, Policy
from instar.fsm.words import Digest, Seq, digest_of
from instar.store.log import EventLog, Pending, create_log

BATCH, SIGNALS, EVERY_NAMED = 1000, 24, 400
"""Events a commit; signals between two cycles; cycles between two named snapshots."""

_TEXT = "read write list find parse open close a the every file folder line path error result answer test of in"
_WORDS = _TEXT.split()
_TASKS = ("lookup", "edit", "refactor", "explain", "test")
_PATHS = tuple(
    f"services/{part}/{name}.py" for part in ("search", "ranking", "api") for name in ("fsm", "views", "jobs")
)


def write_long_log(folder: Path, count: int) -> EventLog:
    """Writes a log of ``count`` events in batches; gives it open."""
    create_log(folder / "log.db")
    log = EventLog(folder / "log.db")
    policy = Policy(cycle=CyclePolicy(signals_max=2))
    first = WorkspaceInitialized(
        workspace="benchmark", engine="0", tree=digest_of(b""), checkpoint=digest_of(b"base"), model="", policy=policy
    )
    log.append(first)
    life = islice(_Life().pending(), count - 1)
    while batch := list(islice(life, BATCH)):
        log.transact(lambda _, batch=batch: batch)  # type: ignore[misc]
    return log


class _Life:
    """Makes the events of one agent in the order of the log."""

    def __init__(self) -> None:
        self._random = Random(7)
        self._seq = Seq(1)
        self._begin = Seq(2)
        """Where the run of waiting signals begins."""
        self._waiting: deque[tuple[Seq, AnyEvent]] = deque()
        self._files: dict[str, Digest] = {}

    def pending(self) -> Iterator[Pending]:
        """Yields events without end, each with its cause."""
        cycle = 0
        while True:
            for _ in range(SIGNALS):
                event = self._feedback() if self._random.random() < 0.6 else self._change()
                self._seq = Seq(self._seq + 1)
                self._waiting.append((self._seq, event))
                yield Pending(event)
            cycle += 1
            for pending in self._cycle(failed=cycle % 8 == 0):
                self._seq = Seq(self._seq + 1)
                yield pending
            if cycle % EVERY_NAMED == 0:
                self._seq = Seq(self._seq + 1)
                tree = digest_of(b"%d" % self._seq)
                yield Pending(e.SnapshotTaken(name=f"point-{cycle}", tree=tree, checkpoint=None, reason="benchmark"))

    def _text(self, size: int) -> str:
        text = " ".join(self._random.choices(_WORDS, k=size // 4))
        return text[:size]

    def _feedback(self) -> e.FeedbackReceived:
        return e.FeedbackReceived(
            task_type=self._random.choice(_TASKS),
            input=self._text(self._random.randint(50, 90)),
            output=self._text(self._random.randint(60, 110)),
            confidence=round(self._random.uniform(0.75, 1.0), 3),
            exit_code=0,
        )

    def _change(self) -> e.ChangeObserved:
        path = self._random.choice(_PATHS)
        after = digest_of(b"%s at %d" % (path.encode(), self._seq))
        before, self._files[path] = self._files.get(path), after
        return e.ChangeObserved(
            path=path,
            change="modified" if before else "added",
            before=before,
            after=after,
            tree=digest_of(after.encode()),
            monitored=path.endswith("fsm.py"),
            size=self._random.randint(500, 20_000),
        )

    def _cycle(self, *, failed: bool) -> Iterator[Pending]:
        """Yields a whole cycle over the two signals that waited longest; each event answers the one before it."""
        taken = [self._waiting.popleft() for _ in range(2)]
        last = taken[-1][0]
        yield Pending(e.CycleStarted(entry="signals", span=e.Span(self._begin, last), count=2), cause=last)
        self._begin = Seq(last + 1)
        yield Pending(e.DiffComputed(items=tuple(_difference(*one) for one in taken)), after=1)
        items = tuple(_embedded(row, *one, failed=failed) for row, one in enumerate(taken))
        vectors = digest_of(b"vectors %d" % last)
        embedded = e.SignalEmbedded(space=digest_of(b"base"), items=items, vectors=vectors, dim=384, texts=vectors)
        yield Pending(embedded, after=1)
        if failed:
            trigger = e.Trigger("feedback", 0.0, 0.5, (items[0].seq,), "1 failures; rewards low: none")
            flag = e.RetrainFlagged(triggers=(trigger,), path="run/checkpoints/retrain_trigger.json", content=vectors)
            yield Pending(flag, after=1)
            yield Pending(
                e.DatasetGenerated(dataset=vectors, train=0, heldout=0, sources={"tasks": 2}, left_out={}), after=1
            )
        rewards = tuple(e.Reward(item.seq, item.task_type or "edit", 0.9, "pass") for item in items)
        reason = "outcomes of two signals were scored"
        judged = e.OutcomeRewarded(
            subject="outcomes", rewards=rewards, verdict="none", reason=reason, model="builtin.outcomes"
        )
        yield Pending(judged, after=1)
        steps = tuple(
            e.PlanStep(rank, task, "practise", f"mean reward 0.90 over the last outcomes of {task}")
            for rank, task in enumerate(_TASKS[:2], 1)
        )
        yield Pending(e.PlanChosen(steps=steps, planner="builtin.need"), after=1)


def _difference(seq: Seq, event: AnyEvent) -> e.DiffItem:
    change = isinstance(event, e.ChangeObserved)
    return e.DiffItem(
        seq=seq,
        kind="code_diff" if change else "output_diff",
        subject=event.path if isinstance(event, e.ChangeObserved) else "lookup",
        similarity=0.97,
        meaning_changed=False,
        lines_added=int(change),
        text=digest_of(b"%d" % seq),
    )


def _embedded(row: int, seq: Seq, event: AnyEvent, *, failed: bool) -> e.EmbeddedItem:
    if failed and row == 0:
        return e.EmbeddedItem(
            seq=seq, kind="failure", unit="lookup", text="x", row=row, outcome="fail", task_type="lookup"
        )
    if isinstance(event, e.FeedbackReceived):
        return e.EmbeddedItem(
            seq=seq,
            kind="feedback",
            unit=event.task_type,
            text=event.input,
            row=row,
            confidence=event.confidence,
            outcome="pass",
            task_type=event.task_type,
        )
    return e.EmbeddedItem(seq=seq, kind="code_diff", unit="module", text="x", row=row, similarity=0.97, outcome="skip")
