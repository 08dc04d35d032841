"""The values that events are made of."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from .words import Digest, Seq

Entry = Literal["signals", "self_train", "mutate"]
"""How a cycle takes a signal up: with its neighbours, or as the one task of a cycle."""

Part = Literal["code", "checkpoint", "memory"]
"""What a rollback can bring back alone."""

PARTS: Final[tuple[Part, ...]] = ("code", "checkpoint", "memory")

Outcome = Literal["pass", "fail", "skip"]
"""How a task of the agent ended."""


class Environment(Struct, frozen=True, gc=False, kw_only=True):
    """Where an outcome was computed: what its bits depend on beside the recorded inputs.

    What an effect does not depend on is empty: a difference of texts takes no processor and no library.
    """

    engine: str
    """The version of Instar."""
    python: str
    processor: str = ""
    """Architecture, vendor, family and model, and the widest vector instructions that the model's library takes."""
    threads: int = 0
    """A sum over several threads is rounded otherwise than over another number of them."""
    precision: str = ""
    """Of the products: ``float32`` or ``bfloat16``."""
    libraries: dict[str, str] = {}


class Repair(Struct, frozen=True, gc=False, kw_only=True):
    """A mutation that the engine is to find itself: what may be changed, by which mutators, in how many tries.

    Without ``paths`` it is the monitored files, without ``mutators`` those that are configured.
    """

    paths: tuple[str, ...] = ()
    mutators: tuple[str, ...] = ()
    tries: int


class Watched(Struct, frozen=True, gc=False, kw_only=True):
    """What a task type has earned since what is on probation was applied.

    Attributes:
        before: its mean reward when that was applied.
        expected: the same, drawn to the middle by as much as that mean is unsure.
        count: how many outcomes were rewarded since.
        mean: their mean reward.
        stakes: what a bet on its fall has come to, at each size of bet (see ``probation``); 1 in the beginning.
    """

    task_type: str
    before: float
    expected: float
    count: int = 0
    mean: float = 0.0
    stakes: tuple[float, ...]


class Span(Struct, frozen=True, gc=False, order=True):
    """Positions ``first`` to ``last`` of the log, both included."""

    first: Seq
    last: Seq


class Interval(Struct, frozen=True, gc=False):
    """An estimate with the ends of its bootstrap interval (Efron & Tibshirani 1993): of 95 %, where it is not said."""

    mean: float
    low: float
    high: float


Level = Annotated[float, Meta(ge=0.5, le=0.999)]
"""What share of chances an interval covers."""
GAIN_LEVEL: Final = 0.9
"""Of a held-out gain. Whether there is one is asked one way: chance passes the lower end one time in twenty."""
GainOf = Literal["log score", "reciprocal rank"]
"""What a held-out gain is measured by, on each pair: see ``CheckpointTrained.gain``."""
GAIN_OF: Final[GainOf] = "log score"


class Trigger(Struct, frozen=True, gc=False):
    """One trigger that holds: the policy, what it saw, where its threshold lies, the events that it rests on."""

    policy: Literal["code_mutation", "semantic_drift", "explicit_task", "feedback"]
    value: float
    threshold: float
    events: tuple[Seq, ...]
    note: str


class DiffItem(Struct, frozen=True, gc=False, kw_only=True):
    """What one signal changed: a file against its last version, or an output against its reference.

    ``similarity`` is 1 − the normalised size of the difference, in 0..1; of Python since version 3 of the event it is
    1 − drift. ``meaning_changed`` is false for what only rewrites: layout, comments, names, other words for the same.
    """

    seq: Seq
    kind: Literal["code_diff", "text_diff", "binary_diff", "output_diff", "failure", "retrain", "mutation"]
    subject: str
    similarity: float
    meaning_changed: bool
    lines_added: int = 0
    lines_removed: int = 0
    units_changed: tuple[str, ...] = ()
    units_added: tuple[str, ...] = ()
    units_removed: tuple[str, ...] = ()
    text: Digest | None = None
    """Blob of the unified diff, or of the text that is to be embedded."""
    because: tuple[str, ...] = ()
    """Why the difference counts as it does, the gravest reason first. Of Python since version 3 of the event."""
    drifts: dict[str, float] = {}
    """How far each definition drifted that another row of memory stands for, in 0..1."""


class Lineage(Struct, frozen=True, gc=False):
    """Where a checkpoint came from. ``confidence_gain`` is measured on held-out pairs."""

    source: str
    epoch: int
    confidence_gain: float


class EmbeddedItem(Struct, frozen=True, gc=False, kw_only=True):
    """One row of memory: which signal and unit it stands for, and the facts that the trigger policies read.

    ``row`` is the row of the vector in the event's ``vectors`` blob, or None when the text could not be embedded.
    ``similarity`` is the cosine against the last vector of the same unit in the same space, if there was one;
    ``drift`` of a unit is what its syntax says, with that shift on top (see ``fsm/drift.py``).
    """

    seq: Seq
    kind: str
    unit: str
    text: str
    row: int | None
    similarity: float | None = None
    drift: float | None = None
    confidence: float | None = None
    outcome: Outcome | None = None
    reward: float | None = None
    task_type: str | None = None
    monitored: bool = False
    meaning_changed: bool = False
    replaceable: bool = True
    """False for the results of retrains and mutations: what was learned is never overwritten."""
    lineage: Lineage | None = None
    failure: str | None = None


class WindowDrift(Struct, frozen=True, gc=False, kw_only=True):
    """What a two-sample test found between two windows of outcomes of one task type, ``size`` rows of memory each.

    ``p_value`` is the chance of as large a discrepancy were both from one source, ``effect`` the discrepancy in
    standard deviations of that chance (Gretton et al. 2012).
    """

    task_type: str
    size: int
    reference: Span
    """The signals of the earlier window lie here, from the first to the last."""
    current: Span
    mmd2: float
    p_value: float
    effect: float
    bandwidth: float
    seed: int
    permutations: int
    farthest: tuple[Seq, ...]
    """Signals of the later window that the earlier one explains least."""
    nearest: tuple[Seq, ...]


class Retrieval(Struct, frozen=True, gc=False):
    """Retrieval quality over ``pairs`` held-out pairs: recall@1, mean reciprocal rank, mean confidence."""

    pairs: int
    recall_at_1: float
    mrr: float
    confidence: float


class Ability(Struct, frozen=True, gc=False):
    """Something that the agent could do before: how well, over ``pairs`` cases, before a training and after it.

    ``own`` are right answers of the agent that no training learnt from, ``remembered`` the held-out pairs where memory
    holds the new rows too, ``general`` likeness of everyday sentences; other names are the user's. ``change`` is of the
    same cases, paired.
    """

    name: str
    pairs: int
    before: float
    after: float
    change: Interval


class Reward(Struct, frozen=True, gc=False):
    """The score of one outcome, in 0..1, and the task type that it counts for."""

    seq: Seq
    task_type: str
    score: float
    outcome: Outcome


class PlanStep(Struct, frozen=True, gc=False):
    """A task type and what to do about it next; a smaller ``rank`` comes first."""

    rank: int
    task_type: str
    strategy: str
    reason: str


class Displaced(Struct, frozen=True, gc=False):
    """Bytes that a restore found in place of what it expected, kept in the store."""

    path: str
    blob: Digest
