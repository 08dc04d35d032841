"""Differences and data sets, made again: they take no model, and no processor rounds them."""

from __future__ import annotations

from itertools import zip_longest

import msgspec

from instar.engine.effects.diffing import differences
from instar.engine.log_failures import LogFailure
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import AnyEvent, DatasetGenerated, Span
from instar.fsm.record import Recorded
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store.ports import Blobs

from .comparison import Explained, Mismatch
from .scratch import ScratchBench
from .subject import Subject

EXCERPT_CHARS = 80


class Diffs(Subject):
    """Every item of a DiffComputed, from the recorded signals and the blobs that they name."""

    def again(self, bench: ScratchBench, _record: Recorded, state: AgentState) -> AnyEvent:
        """Makes the differences of the cycle again."""
        return differences(bench, state)

    def rests_on(self, _record: Recorded, state: AgentState) -> list[Span]:
        """Names the signals of the cycle."""
        return [state.cycle.span] if state.cycle else []

    def explain(self, blobs: Blobs, _recorded: AnyEvent, _again: AnyEvent, found: list[Mismatch]) -> Explained:
        """Shows the first line in which the text of an item differs."""
        return Explained(_first_line(blobs, next((one for one in found if one.field.endswith("].text")), None)))


class Datasets(Subject):
    """The data set of a DatasetGenerated, from the events before it and the recorded failures of log files."""

    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent:
        """Generates the data set again, under the policy that held."""
        from instar.engine.effects.learning import dataset_of

        event = record.event
        assert isinstance(event, DatasetGenerated)
        logs = msgspec.json.decode(bench.blobs.get(event.logs), type=list[LogFailure]) if event.logs else []
        return dataset_of(bench, state.since, logs, state.policy)

    def rests_on(self, _record: Recorded, state: AgentState) -> list[Span]:
        """Names every event up to the one that asked for the data set."""
        return [Span(Seq(1), state.since)]

    def explain(self, blobs: Blobs, _recorded: AnyEvent, _again: AnyEvent, found: list[Mismatch]) -> Explained:
        """Shows the first row that differs."""
        return Explained(_first_line(blobs, next((one for one in found if one.field == "dataset"), None)))


def _first_line(blobs: Blobs, found: Mismatch | None) -> str:
    if found is None or not isinstance(found.recorded, str) or not isinstance(found.again, str):
        return ""
    try:
        recorded, again = (blobs.get(Digest(name)).split(b"\n") for name in (found.recorded, found.again))
    except (BlobMissing, BlobCorrupt) as error:
        return f"{found.field} cannot be compared line by line: {error}"
    for number, (one, other) in enumerate(zip_longest(recorded, again), 1):
        if one != other:
            return f"{found.field}, line {number}: recorded {_cut(one)}, made again {_cut(other)}"
    return ""


def _cut(line: bytes | None) -> str:
    if line is None:
        return "nothing"
    text = line.decode("utf-8", "replace")
    return repr(text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "…")
