"""The facts that the log holds: past tense, immutable, versioned.

Every event is a tagged struct; its tag is its type in the log, its ``VERSION`` the version of its shape. A changed
shape gets a new version and an upcaster (see ``codec``), so that an old log stays readable for ever. The catalogue in
``docs/events.md`` is generated from this file.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

from .policy import Policy
from .retention import Retention
from .values import (
    GAIN_LEVEL,
    GAIN_OF,
    PARTS,
    Ability,
    DiffItem,
    Displaced,
    EmbeddedItem,
    Entry,
    Environment,
    GainOf,
    Interval,
    Level,
    Lineage,
    Outcome,
    Part,
    PlanStep,
    Repair,
    Retrieval,
    Reward,
    Span,
    Trigger,
    Watched,
    WindowDrift,
)
from .words import Digest, Seq

__all__ = [
    "GAIN_LEVEL",
    "GAIN_OF",
    "PARTS",
    "Ability",
    "AnyEvent",
    "BlobsCollected",
    "ChangeObserved",
    "CheckpointTrained",
    "CycleStarted",
    "DatasetGenerated",
    "DiffComputed",
    "DiffItem",
    "Displaced",
    "EffectFailed",
    "EmbeddedItem",
    "Entry",
    "Environment",
    "Event",
    "FeedbackReceived",
    "GainOf",
    "InputSkipped",
    "Interval",
    "Level",
    "Lineage",
    "MemoryReembedded",
    "ModelAdopted",
    "MutationAccepted",
    "MutationApplied",
    "MutationRejected",
    "Outcome",
    "OutcomeRewarded",
    "Part",
    "PayloadErased",
    "PlanChosen",
    "PlanStep",
    "PolicyChanged",
    "ProbationEnded",
    "Repair",
    "RetrainFlagged",
    "Retrieval",
    "Reward",
    "RollbackFinished",
    "RollbackStarted",
    "SignalEmbedded",
    "SnapshotTaken",
    "Span",
    "TaskQueued",
    "TrainingProgressed",
    "TreeCaptured",
    "Trigger",
    "Watched",
    "WindowDrift",
    "WorkspaceInitialized",
]


class Event(Struct, frozen=True, gc=False, tag_field="type", tag=str, kw_only=True):
    """The base of every event."""

    VERSION: ClassVar[int] = 1
    SIGNAL: ClassVar[Entry | None] = None
    """How a cycle takes this event up, if it is a signal that starts one."""


# ---- signals: facts from outside -----------------------------------------------------------------------------------


class ChangeObserved(Event, frozen=True, kw_only=True):
    """A file under watch is no longer what the last recorded tree holds."""

    SIGNAL: ClassVar[Entry | None] = "signals"

    path: str
    change: Literal["added", "modified", "deleted"]
    before: Digest | None
    after: Digest | None
    tree: Digest
    """The tree after this and every other change of the same scan."""
    monitored: bool
    size: int
    seen: bool = False
    """The same change was taken up before, so no cycle takes this one up."""


class FeedbackReceived(Event, frozen=True, kw_only=True):
    """An outcome of the agent's work: what was asked, answered and right, how sure it was, how it ended."""

    SIGNAL: ClassVar[Entry | None] = "signals"

    task_type: str
    input: str
    output: str = ""
    reference: str | None = None
    outcome: Outcome = "pass"
    confidence: float | None = None
    reward: float | None = None
    group: str | None = None
    """What must not be cut in two by the held-out split; the reference's own text when absent."""
    source: str = "agent"
    exit_code: int | None = None
    log: Digest | None = None
    """Blob of the captured output, whole."""


class TaskQueued(Event, frozen=True, kw_only=True):
    """A command for the engine. ``self_train`` and ``mutate`` start a cycle of their own; ``shell`` already runs."""

    VERSION: ClassVar[int] = 4

    task: Literal["self_train", "mutate", "shell"]
    source: str
    note: str = ""
    patch: Digest | None = None
    gate: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    recipe: dict[str, float | int | str] = {}
    """Of a training: the parts that are to be otherwise than configured."""
    repair: Repair | None = None
    """Of a mutation without a patch: how one is to be found that passes the gate."""
    checkpoint: Digest | None = None
    """Of a training: weights from elsewhere that the gate is to judge in place of trained ones."""


class InputSkipped(Event, frozen=True, kw_only=True):
    """Something from outside that could not be taken as a signal; what it was and why."""

    source: Literal["watcher", "feedback", "trigger_file", "logs"]
    subject: str
    reason: str
    excerpt: str = ""
    tree: Digest | None = None
    """The tree that records a path as unmanaged, if a scan skipped it."""


class TreeCaptured(Event, frozen=True, kw_only=True):
    """A scan found another tree in which no file differs: empty folders came or went, or what is left out went."""

    tree: Digest


# ---- the workspace -------------------------------------------------------------------------------------------------


class WorkspaceInitialized(Event, frozen=True, kw_only=True):
    """The first event of every log: what stood there when Instar came."""

    VERSION: ClassVar[int] = 2

    workspace: str
    engine: str
    tree: Digest
    checkpoint: Digest | None
    model: str
    policy: Policy


class ModelAdopted(Event, frozen=True, kw_only=True):
    """A workspace that was set up without a model has one from here on; what came before stays out of its memory."""

    checkpoint: Digest
    model: str


class PolicyChanged(Event, frozen=True, kw_only=True):
    """Decisions from here on rest on another policy."""

    VERSION: ClassVar[int] = 2

    policy: Policy


class SnapshotTaken(Event, frozen=True, kw_only=True):
    """A named point to which a user can return."""

    name: str
    tree: Digest
    checkpoint: Digest | None
    reason: str


class PayloadErased(Event, frozen=True, kw_only=True):
    """The payload of an earlier event was erased on request; its hash stays in the chain, what is left stands here."""

    target: Seq
    payload_hash: Digest
    remains: str
    """Canonical JSON of the same event without its free text; it folds to the same state."""
    reason: str
    blobs: tuple[Digest, ...] = ()
    """Blobs that were erased with it."""


class BlobsCollected(Event, frozen=True, kw_only=True):
    """Blobs that no kept event needs were taken out of the store; the events that name them stand."""

    retention: Retention
    cutoff_us: int
    """The recorded time before which an event was old."""
    kept_from: Seq
    """This event and all after it were kept whole."""
    points: tuple[Seq, ...]
    """The older events that were kept whole too."""
    blobs: Digest
    """Blob that lists what is gone: their sha256, 32 bytes each, in order, each once."""
    count: int
    bytes: int
    """What they took in the store."""


# ---- the cycle -----------------------------------------------------------------------------------------------------


class CycleStarted(Event, frozen=True, kw_only=True):
    """The waiting signals (or the one task) in ``span`` are taken up."""

    entry: Entry
    span: Span
    count: int


class DiffComputed(Event, frozen=True, kw_only=True):
    """Each signal of the cycle has its difference."""

    VERSION: ClassVar[int] = 3

    items: tuple[DiffItem, ...]
    environment: Environment | None = None


class SignalEmbedded(Event, frozen=True, kw_only=True):
    """Each difference and each feedback of the cycle is in memory, as vectors of one embedding space."""

    VERSION: ClassVar[int] = 3

    space: Digest
    """The checkpoint that made the vectors; empty in a workspace without a model, where no row has a vector."""
    items: tuple[EmbeddedItem, ...]
    vectors: Digest | None
    """Blob of the vectors: float32, little-endian, (rows, dim) row by row."""
    dim: int
    texts: Digest | None = None
    """Blob of the texts that were embedded, one a row: a JSON array, so that a promotion can embed them again."""
    environment: Environment | None = None
    restored: tuple[Seq, ...] | None = None
    """The changes among the signals that a restore made: our own doing, they raise no flag. None before version 3."""
    windows: tuple[WindowDrift, ...] | None = None
    """Tests of outcomes against earlier ones, where another window of a task type is full. None before version 3."""


class RetrainFlagged(Event, frozen=True, kw_only=True):
    """A retrain is asked for, in ``retrain_trigger.json`` too."""

    triggers: tuple[Trigger, ...]
    path: str
    content: Digest


class DatasetGenerated(Event, frozen=True, kw_only=True):
    """The training set stands: ``train`` rows to learn from, ``heldout`` pairs to judge by, others counted below."""

    VERSION: ClassVar[int] = 3

    dataset: Digest
    train: int
    heldout: int
    sources: dict[str, int]
    left_out: dict[str, int]
    logs: Digest | None = None
    """Blob of the failures that the log files held: they lie outside the event log, so what was read is kept."""
    environment: Environment | None = None
    validation: int = 0
    memory: int = 0
    """Old pairs that went well, for rehearsal."""
    grouping: dict[str, Literal["answer", "input"]] | None = None
    """What the rows of each task type are grouped by; later data sets keep what was trained. None before version 3."""
    space: Digest | None = None
    """The checkpoint that made the vectors."""
    vectors: Digest | None = None
    """Blob of the vectors, float32, of the inputs and answers that are learned from or rehearsed, by which labels were
    suspected and wrong answers mined."""
    dim: int = 0


class TrainingProgressed(Event, frozen=True, kw_only=True):
    """How far a training has come: ten times in its course, once each however often it is taken up again."""

    VERSION: ClassVar[int] = 1

    step: int
    """The step that was done, 1 to ``steps``."""
    steps: int
    loss: float
    """Of that step."""


class CheckpointTrained(Event, frozen=True, kw_only=True):
    """A candidate checkpoint, measured on the held-out pairs before and after."""

    VERSION: ClassVar[int] = 7

    checkpoint: Digest
    base: Digest
    dataset: Digest
    seed: int
    epochs: int
    steps: int
    loss: tuple[float, ...]
    """Training loss by step, thinned to at most 256 values."""
    before: Retrieval
    after: Retrieval
    gain: Interval
    """Of the log score (nats) over the same held-out pairs, paired; before version 5 of the reciprocal rank. The log
    score of a pair is the logarithm of the probability of its right answer, under the temperature at which the model
    scores best on these pairs: a space that is merely wider or narrower gains nothing."""
    lineage: Lineage
    recipe: dict[str, float | int | str]
    duration_s: float
    replaceable: bool = False
    environment: Environment | None = None
    abilities: tuple[Ability, ...] | None = None
    """What it could do before, and still can. None before version 3, where nothing of that was measured."""
    temperature: float | None = None
    """Under which the candidate's confidence means what it says (see ``engine/memory/calibration.py``), fitted on
    pairs that it did not learn from; None where there were too few."""
    base_temperature: float | None = None
    """The same of the base, fitted on the same pairs."""
    validated: tuple[float, ...] = ()
    """Mean reciprocal rank on the validation pairs before the training and after each epoch, where it may stop early;
    the best epoch was kept."""
    probes: Digest | None = None
    """Blob of the configured pairs that abilities were measured on."""
    general: Digest | None = None
    """Blob of the general texts that were to stay where they lay under ``origin``: a JSON array."""
    gain_level: Level = GAIN_LEVEL
    """What share of chances the gain's interval covers, 0.5 … 0.999: 0.9, and before version 4 0.95."""
    gain_of: GainOf = GAIN_OF
    """What the gain was measured by: the log score, and before version 5 the reciprocal rank."""
    origin: Digest | None = None
    """The checkpoint that this one descends from in the end, under which the general texts lay where they were to
    stay: what one training after another forgets does not add up. None before version 6, where that was the base, and
    where no general text was held."""
    brought: Seq | None = None
    """The TaskQueued that brought these weights: nothing was trained then, the data set and the recipe say what they
    were measured on. None where they were trained, as all were before version 7."""


class MemoryReembedded(Event, frozen=True, kw_only=True):
    """The live memory, in the space of another checkpoint."""

    VERSION: ClassVar[int] = 2

    space: Digest
    rows: tuple[tuple[Seq, int], ...]
    """For each vector the event and the item that it stands for."""
    vectors: Digest
    dim: int
    environment: Environment | None = None


class OutcomeRewarded(Event, frozen=True, kw_only=True):
    """What the cycle brought is scored; a checkpoint or a mutation is judged.

    A verdict on a checkpoint or a mutation is itself taken up as a signal, so that memory holds what was tried.
    ``undecided`` promotes nothing: what was measured is too little to tell.
    """

    VERSION: ClassVar[int] = 3
    SIGNAL: ClassVar[Entry | None] = "signals"

    subject: Literal["outcomes", "checkpoint", "mutation"]
    rewards: tuple[Reward, ...]
    verdict: Literal["promoted", "rejected", "undecided", "kept", "none"]
    reason: str
    model: str
    checkpoint: Digest | None = None
    """The checkpoint that is active from here on, if it was promoted."""
    probation: int | None = None
    """Over how many outcomes a promoted checkpoint is watched; None if none was promoted, and before version 3, where
    none was watched."""


class PlanChosen(Event, frozen=True, kw_only=True):
    """What the agent should work on next, best first."""

    steps: tuple[PlanStep, ...]
    planner: str


class EffectFailed(Event, frozen=True, kw_only=True):
    """An effect could not be done; the cycle ends, and the failure is itself a signal."""

    VERSION: ClassVar[int] = 2
    SIGNAL: ClassVar[Entry | None] = "signals"

    effect: str
    reason: str
    detail: str = ""
    final: bool = False
    """Too many cycles failed in a row: this failure starts no further one, and nothing is taken up again."""
    cancelled: bool = False
    """Somebody had a training ended: no fault, so it starts no cycle; the same rows alone ask for no other training."""


# ---- mutation and rollback -----------------------------------------------------------------------------------------


class MutationRejected(Event, frozen=True, kw_only=True):
    """A patch did not pass: it did not apply, touched or wrote what it may not, or failed its gate.

    Of a repair: the gate passes as it is, or no patch was found that passes it.
    """

    VERSION: ClassVar[int] = 2

    task: Seq
    patch: Digest | None
    """None of a repair."""
    reason: str
    gate: tuple[str, ...]
    exit_code: int | None
    log: Digest | None
    sandbox: str
    mutator: str = ""
    """Who proposed it, if the engine was to find it."""
    tried: int = 1
    """How many patches were tried."""


class MutationAccepted(Event, frozen=True, kw_only=True):
    """A patch passed its gate in a copy; from here on it must be brought into the workspace."""

    VERSION: ClassVar[int] = 3

    task: Seq
    patch: Digest
    gate: tuple[str, ...]
    log: Digest | None
    sandbox: str
    plan: Digest
    tree_before: Digest
    tree_after: Digest
    mutator: str = ""
    """Who proposed it, if the engine was to find it."""
    tried: int = 1
    """How many patches were tried until one passed."""
    runs: int = 1
    """How often the gate passed, each time in a fresh copy; once before version 3."""


class MutationApplied(Event, frozen=True, kw_only=True):
    """The workspace holds the mutated tree."""

    VERSION: ClassVar[int] = 3

    task: Seq
    tree: Digest
    displaced: tuple[Displaced, ...] = ()
    probation: int | None = None
    """Over how many outcomes it is watched; None before version 2, where none was."""
    beside: bool = False
    """Mutations before it that are watched still go on to be; before version 3 it ended their watch."""


class ProbationEnded(Event, frozen=True, kw_only=True):
    """A mutation or a promoted checkpoint was watched long enough: it is kept, or undone because a reward fell.

    ``left`` is one that would have been undone, but could not be without taking back what others did since. It is
    taken up as a signal, so that memory holds what became of it.
    """

    VERSION: ClassVar[int] = 2
    SIGNAL: ClassVar[Entry | None] = "signals"

    applied: Seq
    """The MutationApplied, or the OutcomeRewarded that promoted, which was watched; the cause is the OutcomeRewarded
    which decided."""
    verdict: Literal["kept", "undone", "left"]
    reason: str
    watched: tuple[Watched, ...]
    subject: Literal["mutation", "checkpoint"] = "mutation"
    """What was watched; before version 2 a mutation in every case."""


class RollbackStarted(Event, frozen=True, kw_only=True):
    """From here on the workspace must be brought to ``target``: a recovery rolls forward.

    Tree, checkpoint and memory are what holds from here on: the target's in what is brought back, the present ones in
    the rest.
    """

    VERSION: ClassVar[int] = 2

    target: Seq
    plan: Digest
    tree: Digest
    checkpoint: Digest | None
    memory: tuple[Span, ...]
    reason: str
    trained: Digest | None = None
    """The data set that the target had learned last, and below how many rows it held to learn from."""
    trained_rows: int = 0
    parts: tuple[Part, ...] = PARTS
    """What is brought back."""
    paths: tuple[str, ...] = ()
    """The files and folders that are brought back, where it is not all of the code."""
    undoes: Seq | None = None
    """The beginning of the rollback that this one takes back."""


class RollbackFinished(Event, frozen=True, kw_only=True):
    """The workspace holds the target's tree and checkpoint."""

    started: Seq
    tree: Digest
    checkpoint: Digest | None
    displaced: tuple[Displaced, ...] = ()


AnyEvent = (
    ChangeObserved
    | FeedbackReceived
    | TaskQueued
    | InputSkipped
    | TreeCaptured
    | WorkspaceInitialized
    | ModelAdopted
    | PolicyChanged
    | SnapshotTaken
    | PayloadErased
    | BlobsCollected
    | CycleStarted
    | DiffComputed
    | SignalEmbedded
    | RetrainFlagged
    | DatasetGenerated
    | TrainingProgressed
    | CheckpointTrained
    | MemoryReembedded
    | OutcomeRewarded
    | PlanChosen
    | EffectFailed
    | MutationRejected
    | MutationAccepted
    | MutationApplied
    | ProbationEnded
    | RollbackStarted
    | RollbackFinished
)
