"""Differences and data sets, made again: they take no model, and no processor rounds them.

A data set rests on vectors too. They are recorded, so it is made again without a model; whether the model gave them is
asked where embeddings are run again as well.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import zip_longest

import msgspec
from msgspec.structs import replace

from instar.engine.dataset.log_failures import LogFailure
from instar.engine.effects.diffing import differences
from instar.engine.environment import threads_of
from instar.fsm.errors import BlobCorrupt, BlobMissing
from instar.fsm.events import AnyEvent, DatasetGenerated, DiffComputed, Span
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

    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent:
        """Makes the differences of the cycle again, by the measure that they were made by."""
        assert isinstance(record.event, DiffComputed)
        code = [item for item in record.event.items if item.kind == "code_diff"]
        return differences(bench, state, by_drift=not code or any(item.because for item in code))

    def rests_on(self, _record: Recorded, state: AgentState) -> list[Span]:
        """Names the signals of the cycle."""
        return [state.cycle.span] if state.cycle else []

    def explain(self, blobs: Blobs, _recorded: AnyEvent, _again: AnyEvent, found: list[Mismatch]) -> Explained:
        """Shows the first line in which the text of an item differs."""
        return Explained(_first_line(blobs, next((one for one in found if one.field.endswith("].text")), None)))


class Datasets(Subject):
    """The data set of a DatasetGenerated, from the events before it, the recorded failures of log files and vectors.

    Args:
        embeds: have the model give the vectors again, and compare them too, in place of taking the recorded ones.
    """

    def __init__(self, *, embeds: bool = False) -> None:
        self._embeds = embeds

    def again(self, bench: ScratchBench, record: Recorded, state: AgentState) -> AnyEvent:
        """Generates the data set again, under the policy that held."""
        from instar.engine.dataset.vectors import RecordedVectors
        from instar.engine.effects.learning import dataset_of

        event = record.event
        assert isinstance(event, DatasetGenerated)
        logs = msgspec.json.decode(bench.blobs.get(event.logs), type=list[LogFailure]) if event.logs else []
        space = state.checkpoint if event.grouping is not None else None
        if self._embeds or not event.vectors:
            with threads_of(event.environment.threads if event.environment else 0) if space else nullcontext():
                return dataset_of(bench, state.since, logs, state.policy, space=space)
        taken = RecordedVectors(bench.blobs.get(event.vectors), event.dim)
        again = dataset_of(bench, state.since, logs, state.policy, space=space, recorded=taken)
        if event.environment is None or again.environment is None:
            return again
        # What the vectors depend on was not asked: they were taken as recorded.
        here = replace(event.environment, engine=again.environment.engine, python=again.environment.python)
        return replace(again, environment=here)

    def rests_on(self, _record: Recorded, state: AgentState) -> list[Span]:
        """Names every event up to the one that asked for the data set."""
        return [Span(Seq(1), state.since)]

    def rounds(self, field: str) -> bool:
        """Says that vectors can be rounded otherwise, and what is decided by them with them."""
        return self._embeds and field.startswith(("vectors", "dataset", "train", "left_out", "sources"))

    def excuse(self, recorded: AnyEvent, _again: AnyEvent) -> str | None:
        """Says that it is of a version whose rules are not kept."""
        assert isinstance(recorded, DatasetGenerated)
        return "it was recorded by an Instar that chose rows by other rules" if recorded.grouping is None else None

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
