"""Learning pairs at once: they are recorded as feedback, a training is ordered, and its verdict awaited.

Nothing goes past the gate, and ``why`` leads from the checkpoint to each pair, since each is an event of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from instar.engine.dataset.report import MERGED
from instar.engine.feedback_rows import check_feedback
from instar.engine.runtime import Runtime
from instar.engine.tool_executor import training_task
from instar.fsm.errors import InputRefused
from instar.fsm.events import (
    Ability,
    AnyEvent,
    CheckpointTrained,
    CycleStarted,
    DatasetGenerated,
    EffectFailed,
    Interval,
    OutcomeRewarded,
)
from instar.fsm.policies import enough_rows
from instar.fsm.rewards import TAUGHT
from instar.fsm.words import Digest, Seq
from instar.store.log import Pending
from instar.store.reader import LogReader

Verdict = Literal["promoted", "rejected", "undecided", "not trained", "failed", "waiting"]


class Checkpoint(Struct, frozen=True, kw_only=True):
    """What became of pairs that were to be learnt.

    Attributes:
        task: the event that ordered the training.
        trained: the CheckpointTrained, if it came so far.
        checkpoint: the candidate; it is active only if it was promoted.
        verdict: of the gate; or why there is none.
        reason: in words.
        gain: of the log score on held-out pairs.
        abilities: what it could do before, and still can.
    """

    task: Seq
    verdict: Verdict
    reason: str
    trained: Seq | None = None
    checkpoint: Digest | None = None
    gain: Interval | None = None
    abilities: tuple[Ability, ...] = ()

    @property
    def promoted(self) -> bool:
        """Whether it is the active checkpoint from here on."""
        return self.verdict == "promoted"


class _Row(Struct, forbid_unknown_fields=True):
    input: str
    output: str
    negatives: list[str] = []
    group: str | None = None


class Told(NamedTuple):
    """Where the order and the pairs stand in the log."""

    task: Seq
    pairs: list[Seq]


def tell(
    runtime: Runtime,
    pairs: Iterable[tuple[str, str] | Mapping[str, Any]],
    recipe: Mapping[str, float | int | str],
    *,
    task_type: str,
    source: str,
    note: str,
) -> Told:
    """Records pairs as feedback that failed, and before them the order to train, in one durable append.

    The order stands first, so that the cycle of the pairs themselves finds that they were learnt. The agent was not
    asked, so its rewards and what is on probation have nothing of them.

    Raises:
        InputRefused: there is no pair, one is malformed, or the recipe cannot be used; nothing was recorded.
    """
    for name, value in (("task_type", task_type), ("source", source), ("note", note)):
        if not isinstance(value, str):
            raise InputRefused(f"{name} is {value!r}, {type(value).__name__}: give a text")
    if not isinstance(recipe, Mapping):
        raise InputRefused(
            f"the recipe is {type(recipe).__name__}: give a mapping of its parts, such as {{'epochs': 2}}"
        )
    if isinstance(pairs, str | bytes | Mapping | set | frozenset) or not isinstance(pairs, Iterable):
        raise InputRefused(f"the pairs are {type(pairs).__name__}: give a list of (input, output) pairs or of mappings")
    rows = [_checked(pair, number) for number, pair in enumerate(pairs)]
    if not rows:
        raise InputRefused("there is no pair to learn: give (input, output) pairs")
    teacher = source if source.startswith(TAUGHT) else TAUGHT + source
    shared = {"task_type": task_type, "outcome": "fail", "source": teacher}
    feedback = []
    for number, row in enumerate(rows):
        pair = {**shared, "input": row.input, "reference": row.output, "group": row.group}
        try:
            feedback += [check_feedback({**pair, "output": wrong}) for wrong in row.negatives or [""]]
        except InputRefused as error:
            raise InputRefused(f"pair {number}: {error}") from error
    events: list[AnyEvent] = [training_task(runtime, source=source, note=note, recipe=recipe), *feedback]
    recorded = runtime.log.transact(lambda _: [Pending(event) for event in events])
    return Told(recorded[0].seq, [record.seq for record in recorded[1:]])


def _checked(pair: tuple[str, str] | Mapping[str, Any], number: int) -> _Row:
    try:
        if isinstance(pair, Mapping):
            row = msgspec.convert(dict(pair), _Row)
        elif isinstance(pair, str | bytes):
            raise TypeError(f"{type(pair).__name__} is no pair")  # of two characters one could be made
        else:
            asked, answer = pair
            row = msgspec.convert({"input": asked, "output": answer}, _Row)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise InputRefused(
            f"pair {number} refused: {error}. A pair is (input, output) or a mapping with input and output, "
            "and if need be negatives and group."
        ) from error
    if not row.output.strip():
        raise InputRefused(f"pair {number} refused: its output is empty; say what would have been right")
    return row


def outcome_of(reader: LogReader, task: Seq) -> Checkpoint:
    """Reads what became of an order to train, as far as the log tells."""
    cycle = next(
        (
            record.cycle
            for record in reader.read(task + 1, types=[CycleStarted])
            if isinstance(record.event, CycleStarted) and record.event.span.first == task
        ),
        None,
    )
    found = Checkpoint(task=task, verdict="waiting", reason="no cycle took the order up yet")
    if cycle is None:
        return found
    kinds = [DatasetGenerated, CheckpointTrained, OutcomeRewarded, EffectFailed]
    for record in reader.read(task + 1, types=kinds):
        if record.cycle > cycle:
            break
        if record.cycle == cycle:
            found = _further(found, record.seq, record.event, reader)
    return found


def _further(found: Checkpoint, seq: Seq, event: Any, reader: LogReader) -> Checkpoint:
    change = msgspec.structs.replace
    match event:
        case DatasetGenerated():
            before = reader.state_at(seq - 1)
            reason = enough_rows(before, event)
            if before.checkpoint is not None:
                reason = f"{reason}. {_of_pairs(event)}"
            return change(found, verdict="not trained", reason=reason)
        case CheckpointTrained():
            return change(
                found,
                trained=seq,
                checkpoint=event.checkpoint,
                gain=event.gain,
                abilities=event.abilities or (),
                verdict="waiting",
                reason="trained, not judged yet",
            )
        case OutcomeRewarded(subject="checkpoint"):
            return change(found, verdict=event.verdict, reason=event.reason)
        case EffectFailed():
            return change(found, verdict="failed", reason=event.reason)
        case _:
            return found


def _of_pairs(event: DatasetGenerated) -> str:
    """Says what became of the pairs that the log holds."""
    rows = f"{event.train} to learn, {event.heldout} held out to judge by, {event.validation} to validate by"
    merged = [f"{event.left_out[reason]} {reason}" for reason in MERGED if event.left_out.get(reason)]
    lost = [f"{count} {reason}" for reason, count in event.left_out.items() if count and reason not in MERGED]
    parts = [
        f"Of all pairs so far the data set has {rows}, {event.memory} that went well",
        f"merged with others: {', '.join(merged)}" if merged else "",
        f"left out: {', '.join(lost)}" if lost else "",
    ]
    return f"{'; '.join(filter(None, parts))}. `instar dataset show` lists them."
