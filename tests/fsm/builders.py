"""One valid event of each type, and short ways to fold them."""

from __future__ import annotations

from msgspec.structs import replace

from instar.fsm import events as e
from instar.fsm.evolve import evolve
from instar.fsm.policy import Policy
from instar.fsm.react import react
from instar.fsm.retention import Retention
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq, digest_of

D = digest_of(b"")
TREE = digest_of(b"tree")
BASE = digest_of(b"base")
NEW = digest_of(b"new")
GAIN = e.Interval(0.1, 0.05, 0.15)
SPAN = e.Span(Seq(2), Seq(2))

INIT = e.WorkspaceInitialized(workspace="w", engine="0", tree=TREE, checkpoint=BASE, model="m", policy=Policy())
FEEDBACK = e.FeedbackReceived(task_type="find", input="open a file", output="os.open", outcome="fail", confidence=0.3)
CHANGE = e.ChangeObserved(
    path="fsm.py", change="modified", before=D, after=NEW, tree=digest_of(b"t2"), monitored=True, size=3
)


def item(seq: int, **facts: object) -> e.EmbeddedItem:
    shared: dict[str, object] = {"kind": "feedback", "unit": "find", "text": "t", "row": 0}
    return e.EmbeddedItem(seq=Seq(seq), **(shared | facts))  # type: ignore[arg-type]


def embedded(*items: e.EmbeddedItem, space: Digest = BASE) -> e.SignalEmbedded:
    return e.SignalEmbedded(space=space, items=items, vectors=D, dim=384, texts=D)


def trained(gain: e.Interval = GAIN, pairs: int = 40) -> e.CheckpointTrained:
    score = e.Retrieval(pairs, 0.5, 0.6, 0.7)
    return e.CheckpointTrained(
        checkpoint=NEW,
        base=BASE,
        dataset=D,
        seed=1,
        epochs=1,
        steps=1,
        loss=(1.0,),
        before=score,
        after=score,
        gain=gain,
        lineage=e.Lineage("x", 1, 0.1),
        recipe={},
        duration_s=1.0,
    )


def dataset(train: int = 100) -> e.DatasetGenerated:
    return e.DatasetGenerated(dataset=D, train=train, heldout=40, sources={}, left_out={})


def rewarded(verdict: str = "none", **facts: object) -> e.OutcomeRewarded:
    shared: dict[str, object] = {"subject": "outcomes", "rewards": (), "verdict": verdict, "reason": "", "model": "b"}
    return e.OutcomeRewarded(**(shared | facts))  # type: ignore[arg-type]


EVENTS: tuple[e.AnyEvent, ...] = (
    INIT,
    FEEDBACK,
    CHANGE,
    e.TaskQueued(task="self_train", source="t"),
    e.InputSkipped(source="watcher", subject="x", reason="y"),
    e.TreeCaptured(tree=digest_of(b"t3")),
    e.ModelAdopted(checkpoint=NEW, model="m"),
    e.PolicyChanged(policy=Policy()),
    e.SnapshotTaken(name="n", tree=TREE, checkpoint=BASE, reason="r"),
    e.PayloadErased(target=Seq(1), payload_hash=D, remains="{}", reason="asked for"),
    e.BlobsCollected(retention=Retention(), cutoff_us=0, kept_from=Seq(1), points=(), blobs=D, count=1, bytes=10),
    e.CycleStarted(entry="signals", span=SPAN, count=1),
    e.CycleStarted(entry="self_train", span=SPAN, count=1),
    e.CycleStarted(entry="mutate", span=SPAN, count=1),
    e.DiffComputed(items=()),
    embedded(item(2)),
    embedded(item(2, outcome="pass")),
    embedded(item(2, outcome="fail", confidence=0.1)),
    e.RetrainFlagged(triggers=(), path="p", content=D),
    dataset(),
    dataset(train=1),
    e.TrainingProgressed(step=1, steps=2, loss=0.5),
    trained(),
    e.MemoryReembedded(space=NEW, rows=(), vectors=D, dim=384),
    rewarded(),
    e.PlanChosen(steps=(), planner="b"),
    e.EffectFailed(effect="train", reason="r"),
    e.MutationRejected(task=Seq(2), patch=D, reason="r", gate=(), exit_code=1, log=None, sandbox="s"),
    e.MutationAccepted(task=Seq(2), patch=D, gate=(), log=None, sandbox="s", plan=D, tree_before=TREE, tree_after=NEW),
    e.MutationApplied(task=Seq(2), tree=NEW),
    e.ProbationEnded(applied=Seq(2), verdict="kept", reason="r", watched=()),
    e.RollbackStarted(target=Seq(1), plan=D, tree=TREE, checkpoint=BASE, memory=(), reason="r"),
    e.RollbackFinished(started=Seq(2), tree=TREE, checkpoint=BASE),
)


def fold(state: AgentState, *events: e.AnyEvent, at_us: int = 1_000_000) -> AgentState:
    """Folds events, each with the cause that the state asks for."""
    for event in events:
        state = evolve(state, event, seq=Seq(state.head + 1), cause=_cause(state, event), at_us=at_us)
    return state


def _cause(state: AgentState, event: e.AnyEvent) -> Seq | None:
    if isinstance(event, e.CycleStarted):
        return event.span.last
    if isinstance(event, e.RollbackFinished | e.MutationApplied):
        return state.restoring.seq if state.restoring else None
    if isinstance(event, e.PayloadErased):
        return event.target
    if isinstance(event, e.BlobsCollected):
        return None
    effect = react(state)
    return effect.answers if effect else None


def start(state: AgentState) -> e.CycleStarted:
    """The event that takes up what waits first."""
    run = state.waiting[0]
    return e.CycleStarted(entry=run.entry, span=e.Span(run.first, run.last), count=run.count)


def settled(state: AgentState) -> AgentState:
    """Lets the cycle run that puts a verdict into memory."""
    state = fold(state, start(state), e.DiffComputed(items=()))
    return fold(state, embedded(item(state.head), space=state.checkpoint or BASE))


def fresh(**policy: object) -> AgentState:
    return fold(AgentState(), replace(INIT, policy=Policy(**policy)))  # type: ignore[arg-type]


def cycle_at_training() -> AgentState:
    """A state in Training, after one failed feedback."""
    state = fold(fresh(), FEEDBACK)
    state = fold(state, start(state), e.DiffComputed(items=()), embedded(item(2, outcome="fail")))
    return fold(state, e.RetrainFlagged(triggers=state.cycle.triggers, path="p", content=D), dataset())  # type: ignore[union-attr]
