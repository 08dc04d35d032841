"""What the fold knows: the state of machine and agent at one position of the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from immutables import Map
from msgspec import Struct, field

from .errors import UnknownEvent
from .events import Ability, Entry, Interval, PlanStep, Span, Trigger
from .policy import Policy
from .rewards import Standing, Standings
from .values import Watched
from .window import Window
from .words import ORIGIN, Digest, Seq, State, digest_of


class Waiting(Struct, frozen=True, gc=False):
    """A run of ``count`` signals of one kind that no cycle has taken up, somewhere in ``first`` … ``last``.

    ``again`` stands for an order to train that names a recipe: the same rows may be learnt again.
    """

    entry: Entry
    first: Seq
    last: Seq
    count: int
    again: bool = False


class Candidate(Struct, frozen=True, gc=False):
    """A trained checkpoint that awaits its verdict."""

    seq: Seq
    checkpoint: Digest
    gain: Interval
    pairs: int
    abilities: tuple[Ability, ...] | None = None
    """None where nothing of what it could do before was measured: it is judged as before version 3."""
    temperature: float | None = None


class Restoring(Struct, frozen=True, gc=False):
    """A move of the workspace to another tree that was begun and must be finished."""

    seq: Seq
    plan: Digest
    kind: Literal["rollback", "mutation"]
    tree: Digest


class Watch(Struct, frozen=True, gc=False, kw_only=True):
    """Something is watched: from the outcomes that follow ``since`` on, ``left`` more of them."""

    applied: Seq
    left: int
    watched: tuple[Watched, ...]
    due: Seq | None = None
    """The OutcomeRewarded with which it was decided."""
    anew: Seq | None = None
    """Where the watch began anew: outcomes that were told before and are rewarded after it do not count either."""

    @property
    def since(self) -> Seq:
        """The event that an outcome has to follow to count."""
        return self.anew or self.applied


class Probation(Watch, frozen=True, gc=False, kw_only=True):
    """A mutation that is watched."""

    accepted: Seq
    """In front of this event stands what an undo returns to."""
    tree: Digest
    """The mutated tree; nothing asks for it, but the digests of earlier forms were taken with it."""
    beside: bool = False
    """It is watched beside others. One of before that was possible ends with the next, and with a rollback of code."""


class CheckpointProbation(Watch, frozen=True, gc=False, kw_only=True):
    """A promoted checkpoint that is watched; ``applied`` is its promotion, in front of which an undo returns to."""

    checkpoint: Digest


class Cycle(Struct, frozen=True, gc=False, kw_only=True):
    """What the cycle in progress has brought so far. A seq that is None was not reached."""

    number: int
    started: Seq
    entry: Entry
    span: Span
    count: int
    diffed: Seq | None = None
    embedded: Seq | None = None
    triggers: tuple[Trigger, ...] = ()
    dataset: Digest | None = None
    rows: int = 0
    """Rows to learn from in the data set of this cycle."""
    candidate: Candidate | None = None
    reembedded: Digest | None = None
    mutation: Seq | None = None
    """The MutationRejected or MutationApplied of this cycle."""
    rewarded: Seq | None = None
    again: bool = False
    """The order to train names a recipe."""


Calibrations = Map[str, float]


class AgentState(Struct, frozen=True, gc=False, kw_only=True):
    """The fold of the log up to ``head``."""

    machine: State = State.IDLE
    since: Seq = ORIGIN
    """The event on which the machine entered its present state; effects of this state answer it."""
    head: Seq = ORIGIN
    workspace: str = ""
    policy: Policy = field(default_factory=Policy)
    tree: Digest | None = None
    checkpoint: Digest | None = None
    memory: tuple[Span, ...] = ()
    """Where in the log the live rows of memory are; rows outside were rolled back."""
    memory_open: bool = False
    waiting: tuple[Waiting, ...] = ()
    cycle: Cycle | None = None
    cycles: int = 0
    failures: int = 0
    """Cycles that failed since the last one that did not."""
    judged: Window = Window()
    """The latest changes, so that one is not judged twice."""
    standings: Standings = Map()
    plan: tuple[PlanStep, ...] = ()
    trained: Digest | None = None
    """The last data set that a checkpoint was trained on."""
    trained_rows: int = 0
    """How many rows that data set had to learn from."""
    retrains_at_us: tuple[int, ...] = ()
    mutations_at_us: tuple[int, ...] = ()
    suppressed: int = 0
    """Retrains that were wanted while their hourly budget was used up."""
    snapshots: Map[str, Seq] = Map()
    restoring: Restoring | None = None
    calibrations: Calibrations = Map()
    """By checkpoint the temperature under which its confidence means what it says."""
    mutation_probations: tuple[Probation, ...] = ()
    """Mutations that were not found to hold yet, the earliest first."""
    checkpoint_probations: tuple[CheckpointProbation, ...] = ()
    """Promotions that were not found to hold yet, the earliest first."""

    @property
    def waiting_count(self) -> int:
        """How many signals wait to be taken up."""
        return sum(run.count for run in self.waiting)

    @property
    def due(self) -> Probation | CheckpointProbation | None:
        """The probation that has to end next: of several that are decided, that of what came last."""
        watches: tuple[Probation | CheckpointProbation, ...] = (*self.mutation_probations, *self.checkpoint_probations)
        return max((one for one in watches if one.due is not None), key=lambda one: one.applied, default=None)


_LARGE_MIN = 64
_KEPT_MAX = 4
_kept: tuple[tuple[Map[str, Any], msgspec.Raw], ...] = ()
"""The last large maps that were written, and how: most states between two cycles share their standings."""


def _encode_hook(value: Any) -> Any:
    if isinstance(value, Map):
        return dict(value) if len(value) < _LARGE_MIN else _encode_large(value)
    if isinstance(value, Window):
        return value.texts
    raise NotImplementedError(f"a state holds no {type(value).__name__}")


def _encode_large(value: Map[str, Any]) -> msgspec.Raw:
    """Writes a map once, and not for each state that holds it."""
    global _kept
    for known, written in _kept:
        if known is value:
            return written
    written = msgspec.Raw(ENCODER.encode(dict(value)))
    _kept = ((value, written), *_kept[: _KEPT_MAX - 1])
    return written


def _decode_hook(kind: Any, content: Any) -> Any:
    if kind is Window:
        return Window(msgspec.convert(content, list[str]))
    values: Any = {Standings: dict[str, Standing], Calibrations: dict[str, float]}.get(kind, dict[str, int])
    plain: dict[str, Any] = msgspec.convert(content, values)
    return Map(plain)


ENCODER = msgspec.json.Encoder(order="sorted", enc_hook=_encode_hook)
DECODER = msgspec.json.Decoder(AgentState, dec_hook=_decode_hook)


def encode_state(state: AgentState) -> bytes:
    """Gives the canonical JSON of a state: sorted keys, no white space, UTF-8."""
    return ENCODER.encode(state)


def decode_state(content: bytes) -> AgentState:
    """Reads what ``encode_state`` wrote."""
    return DECODER.decode(content)


_NEW_IN_2 = (
    ("calibrations",),
    ("policy", "retrain", "validation_share"),
    ("policy", "gate", "forgetting_max"),
    ("policy", "gate", "forgetting_min"),
    ("policy", "capture"),
    ("cycle", "candidate", "abilities"),
    ("cycle", "candidate", "temperature"),
    ("cycle", "again"),
    ("waiting", "*", "again"),
)
_NEW_IN_3 = (("policy", "drift", "window"), ("policy", "drift", "p_max"))
_NEW_IN_4 = (
    ("probation",),
    ("policy", "mutation", "probation"),
    ("policy", "mutation", "fall_max"),
    ("policy", "mutation", "p_max"),
)
_NEW_IN_5 = (
    ("checkpoint_probations",),
    ("probation", "anew"),
    ("policy", "gate", "probation"),
    ("policy", "gate", "fall_max"),
    ("policy", "gate", "p_max"),
)
"""The fields that earlier forms did not know, by the way to them; what lies in another goes before it."""


def _encode_form_1(state: AgentState) -> bytes:
    return _encode_without(state, (*_NEW_IN_5, *_NEW_IN_4, *_NEW_IN_3, *_NEW_IN_2))


def _encode_form_2(state: AgentState) -> bytes:
    return _encode_without(state, (*_NEW_IN_5, *_NEW_IN_4, *_NEW_IN_3))


def _encode_form_3(state: AgentState) -> bytes:
    return _encode_without(state, (*_NEW_IN_5, *_NEW_IN_4))


def _encode_form_4(state: AgentState) -> bytes:
    return _encode_without(state, _NEW_IN_5)


def _encode_form_5(state: AgentState) -> bytes:
    return _encode_without(state, ())


def _encode_without(state: AgentState, fields: Iterable[tuple[str, ...]]) -> bytes:
    """Gives form 5, which watched one mutation at a time, without some fields."""
    content = msgspec.json.decode(encode_state(state))
    watches = content.pop("mutation_probations")
    content["probation"] = {name: part for name, part in watches[-1].items() if name != "beside"} if watches else None
    for *way, name in fields:
        inner: list[Any] = [content]
        for step in way:
            inner = [part for one in inner for part in (one if step == "*" else [one[step]]) if part is not None]
        for part in inner:
            part.pop(name, None)
    return msgspec.json.encode(content, order="sorted")


FORM = 6
"""The present form of a state's canonical JSON. A changed shape of the state gets the next number."""

_FORMS = {
    1: _encode_form_1,
    2: _encode_form_2,
    3: _encode_form_3,
    4: _encode_form_4,
    5: _encode_form_5,
    6: encode_state,
}
"""How to write a state in each form that logs hold digests of; an old form leaves out what it did not know."""


def state_digest(state: AgentState, form: int = FORM) -> Digest:
    """Names a state by the form and the sha256 of its canonical JSON, such as ``1:9f86d0…``.

    Raises:
        UnknownEvent: the form is of a newer version.
    """
    encode = _FORMS.get(form)
    if encode is None:
        raise UnknownEvent(f"state digests of form {form} were written by a newer Instar: install that version")
    return Digest(f"{form}:{digest_of(encode(state))}")


def form_of(digest: str) -> int:
    """Reads the form out of a state digest; 0 where it names none."""
    number = digest.partition(":")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
