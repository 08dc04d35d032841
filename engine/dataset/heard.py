"""What feedback told, as far as it can teach: read once, and of what teaches nothing hardly anything is kept.

Most of a long log are passes. One teaches only where another feedback to the same input says what is right, or passed
as well, and says how an answer is spelt where it told that first; until that is known, a pass is 25 bytes. What turned
out to be needed is read again.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable

import numpy as np
from msgspec import Struct

from instar.engine.redact import redact
from instar.fsm.events import FeedbackReceived, SignalEmbedded
from instar.fsm.policy import Policy
from instar.fsm.record import Recorded
from instar.fsm.words import Seq

from .rows import Source, Verified

TEXT_CHARS_MAX = 8_000
"""A model reads some hundred words; a longer text is cut, on either side, before rows are compared."""
STRUCT_CHARS = 500
"""About what an event takes beside its texts."""
AGENT = "agent"
"""The source of what an agent says of its own work."""
_PASS_BYTES = 25

Again = Callable[[Collection[Seq]], Iterable[Recorded]]
"""Reads the events at some positions again, in order."""


class Told(Struct, frozen=True):
    """One feedback as it may enter a row: redacted and cut. ``key`` is the folded input."""

    seq: Seq
    key: str
    input: str
    output: str
    reference: str
    event: FeedbackReceived
    source: Source | None
    events: tuple[Seq, ...]


class Heard:
    """The feedback of a log.

    Args:
        policy: what a low reward and a low confidence are.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kept: dict[Seq, FeedbackReceived] = {}
        self._poor: defaultdict[Seq, list[Seq]] = defaultdict(list)
        self.chars = 0
        """About what it takes."""
        self._passes, self._keys, self._verified = array("Q"), array("q"), array("b")
        self._answers = array("q")
        """By pass the hash of the answer that it may spell; 0 where it spells none."""

    def take(self, record: Recorded) -> None:
        """Takes the next event of the log; those of other types are left alone."""
        match record.event:
            case FeedbackReceived() as event if event.reference or self._teaches(event):
                self._kept[record.seq] = event
                self.chars += STRUCT_CHARS + len(event.input) + len(event.output) + len(event.reference or "")
            case FeedbackReceived() as event:
                asked, sound = clean(event.input), verified(event) is not None
                self._passes.append(record.seq)
                self._keys.append(hash(folded(asked)))
                self._verified.append(sound)
                self._answers.append(hash(folded(clean(event.output))) if asked and sound else 0)
                self.chars += _PASS_BYTES
            case SignalEmbedded(items=items):
                for item in items:
                    if item.failure is not None or _is_low(item.confidence, self._policy.drift.threshold):
                        self._poor[item.seq].append(record.seq)
            case _:
                pass

    def told(self, again: Again, left_out: Counter[str]) -> list[Told]:
        """Gives, in the order of the log, all that can teach, or says of what teaches why it is not right.

        Args:
            again: reads what was not kept.
            left_out: counts what has no input.
        """
        told = [self._told(seq, event) for seq, event in self._kept.items()]
        told += self._read(again, self._poor.keys() - self._kept.keys())
        told += self._read(again, set(self._beside(one.key for one in told)) - {one.seq for one in told})
        told += self._read(again, set(self._spelling(told)) - {one.seq for one in told})
        for one in told:
            left_out["empty input"] += not one.input and one.source is not None
        return sorted((one for one in told if one.input), key=lambda one: one.seq)

    def _read(self, again: Again, seqs: Collection[Seq]) -> list[Told]:
        records = again(seqs) if seqs else ()
        return [
            self._told(record.seq, record.event) for record in records if isinstance(record.event, FeedbackReceived)
        ]

    def _beside(self, keys: Iterable[str]) -> Iterable[Seq]:
        """Names the passes of these inputs, and those of an input that passed twice and was verified once."""
        own = np.frombuffer(self._keys, np.int64) if self._keys else np.zeros(0, np.int64)
        _, of, counts = np.unique(own, return_inverse=True, return_counts=True)
        sound = np.bincount(of, weights=np.frombuffer(self._verified, np.int8) if self._keys else None)
        needed = np.isin(own, np.array([hash(key) for key in keys], np.int64)) | ((counts > 1) & (sound > 0))[of]
        return (Seq(self._passes[at]) for at in np.flatnonzero(needed))

    def _spelling(self, told: Iterable[Told]) -> Iterable[Seq]:
        """Names the first pass that tells each answer which may be right: a row spells it as the log told it first."""
        right = {folded(one.reference or (one.output if one.event.outcome == "pass" else "")) for one in told}
        own = np.frombuffer(self._answers, np.int64) if self._answers else np.zeros(0, np.int64)
        poor = np.isin(np.array(self._passes, np.uint64), np.array(list(self._poor), np.uint64))
        places = np.flatnonzero(np.isin(own, np.array([hash(text) for text in right - {""}], np.int64)) & ~poor)
        _, first = np.unique(own[places], return_index=True)
        return (Seq(self._passes[at]) for at in places[first])

    def _told(self, seq: Seq, event: FeedbackReceived) -> Told:
        source: Source | None = "task" if self._teaches(event) else "failed_embedding" if seq in self._poor else None
        asked, output, reference = clean(event.input), clean(event.output), clean(event.reference or "")
        events = (seq, *self._poor[seq]) if source == "failed_embedding" else (seq,)
        return Told(seq, folded(asked), asked, output, reference, event, source, events)

    def _teaches(self, event: FeedbackReceived) -> bool:
        return (
            event.outcome != "pass"
            or _is_low(event.reward, self._policy.reward.threshold)
            or _is_low(event.confidence, self._policy.drift.threshold)
        )


def folded(text: str) -> str:
    """Makes near-duplicates equal: case, white space and Unicode variants do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def clean(text: str) -> str:
    """Makes a text fit for a row: without secrets, and not longer than a model reads."""
    return redact(text)[:TEXT_CHARS_MAX].strip() if text else ""


def verified(event: FeedbackReceived) -> Verified | None:
    """Says how a pass is known to be one, beside the agent's own word; None if it is not."""
    if event.exit_code is not None:
        return "test" if event.exit_code == 0 else None
    return "agreement" if event.source != AGENT else None


def _is_low(value: float | None, threshold: float) -> bool:
    return value is not None and value < threshold
