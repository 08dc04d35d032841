"""Lessons: what was asked, what is right, and whether the agent got it wrong, from feedback and from log files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from instar.fsm.words import Seq

from .heard import Again, Heard, Told, clean, folded, verified
from .log_failures import LogFailure
from .rows import Source, Verified

NO_OUTPUT = "no known good output"
NOT_VERIFIED = "not verified"
IDENTICAL = "input equals output"


class Lesson(Struct, frozen=True, kw_only=True):
    """An input with its known good output. ``key`` is the folded input: equal keys are the same question.

    Attributes:
        group: its own group, where it was told one.
        failed: false for a pass, which is rehearsed or judges, and corrects nothing.
        taught: a pass that nobody was asked for: no answer of the agent, with a confidence, stands behind it.
        verified_by: who says that the output is right.
        kind: the task type.
        told_by: who reported it.
    """

    key: str
    input: str
    output: str
    source: Source
    events: tuple[Seq, ...]
    group: str | None
    failed: bool
    verified_by: Verified
    taught: bool = False
    wrong: tuple[str, ...] = ()
    kind: str = ""
    told_by: str = ""

    @property
    def known_at(self) -> tuple[float, str]:
        """Orders lessons by when they were complete: what comes later never changes where an earlier one belongs."""
        return (max(self.events), "") if self.events else (float("inf"), self.key)


class Right(NamedTuple):
    """What is right for an input, the other feedback that says so, if it is another, and how that is known."""

    output: str
    source: Seq | None
    verified_by: Verified


def lessons_of_feedback(heard: Heard, again: Again, left_out: Counter[str]) -> list[Lesson]:
    """Pairs what the agent was asked with what is right, in the order of the log.

    A feedback teaches if the task failed or was skipped, earned too little, was answered with too little confidence,
    or could not be embedded. The reference is what is right; without one, the agreed answer of other feedback to the
    same input that passed, was rewarded well enough and given with confidence, and that somebody other than the agent
    says so: an exit code that the engine saw, or another source. An agent's own "pass" verifies nothing.

    Args:
        heard: the feedback of the whole log.
        again: reads the passes that turn out to be needed.
        left_out: counts what teaches nothing, by reason.
    """
    told = heard.told(again, left_out)
    references: defaultdict[str, dict[str, Told]] = defaultdict(dict)
    passed: defaultdict[str, dict[str, list[Told]]] = defaultdict(lambda: defaultdict(list))
    spelling: dict[str, str] = {}
    claimed: set[str] = set()
    for one in told:
        if one.reference:
            references[one.key].setdefault(folded(one.reference), one)
            spelling.setdefault(folded(one.reference), one.reference)
        elif one.event.outcome == "pass" and one.output and one.source is None:
            if verified(one.event) is None:
                claimed.add(one.key)
                continue
            passed[one.key][folded(one.output)].append(one)
            spelling.setdefault(folded(one.output), one.output)
    lessons = []
    for one in told:
        right = _right(one, references[one.key], passed[one.key])
        if right is None or folded(right.output) == one.key:
            reason = IDENTICAL if right else NOT_VERIFIED if one.key in claimed else NO_OUTPUT
            left_out[reason] += one.source is not None
            continue
        lessons.append(
            Lesson(
                key=one.key,
                input=one.input,
                # The spelling that the log told first: it names the group, and must not change as the log grows.
                output=spelling[folded(right.output)],
                source=one.source or "task",
                events=one.events if right.source is None else (*one.events, right.source),
                group=clean(one.event.group or "") or None,
                failed=one.source is not None,
                taught=one.source is None and one.event.confidence is None,
                verified_by=right.verified_by,
                wrong=(one.output,) if one.event.outcome == "fail" and one.output else (),
                kind=one.event.task_type,
                told_by=one.event.source,
            )
        )
    return lessons


def lessons_of_logs(failures: Sequence[LogFailure], left_out: Counter[str]) -> list[Lesson]:
    """Pairs a logged failure with what its own line says would have been right."""
    lessons = []
    for failure in failures:
        asked, right = clean(failure.input or failure.message), clean(failure.reference or "")
        if not asked or not right:
            left_out[NO_OUTPUT] += 1
        elif folded(asked) == folded(right):
            left_out[IDENTICAL] += 1
        else:
            lessons.append(
                Lesson(
                    key=folded(asked),
                    input=asked,
                    output=right,
                    source="log",
                    events=(),
                    group=None,
                    failed=True,
                    verified_by="reference",
                    kind="log",
                    told_by=failure.path,
                )
            )
    return lessons


def _right(one: Told, references: dict[str, Told], passed: dict[str, list[Told]]) -> Right | None:
    """Finds what is known to be right for an input, if anything is.

    Its own reference first, though others may contradict it (that is found out later); else the one reference of the
    same input, else the one verified answer of another feedback that passed. Where those differ, nothing is known.
    """
    if one.reference:
        return Right(one.reference, None, "reference")
    if references:
        told = next(iter(references.values())) if len(references) == 1 else None
        return Right(told.reference, told.seq, "correction") if told else None
    answers = next(iter(passed.values())) if len(passed) == 1 else []
    for other in answers:
        how = verified(other.event)
        if other.seq != one.seq and how is not None:
            return Right(other.output, other.seq, how)
    return None
