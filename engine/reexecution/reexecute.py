"""Re-execution: the deterministic effects run again from their recorded inputs, the outcomes compared with the log.

Replay folds what was recorded and runs nothing. This runs the effects themselves, with the same code as the live loop,
on a bench that reads the workspace and writes to a temporary folder alone; nothing is appended to the log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from instar.fsm.errors import ConfigError
from instar.fsm.events import (
    CheckpointTrained,
    DatasetGenerated,
    DiffComputed,
    Event,
    MemoryReembedded,
    SignalEmbedded,
)
from instar.fsm.evolve import evolve
from instar.fsm.state import AgentState
from instar.fsm.words import Seq
from instar.store.reader import LogReader

from .judgement import Erasures, Finding, Verdict, examine
from .scratch import Progress, ScratchBench
from .subject import Subject

EFFECTS: dict[str, tuple[type[Event], ...]] = {
    "diff": (DiffComputed,),
    "embed": (SignalEmbedded, MemoryReembedded),
    "dataset": (DatasetGenerated,),
    "train": (CheckpointTrained,),
}
"""The effects that can be run again, and the events that hold their outcomes."""


class Reexecution(Struct, frozen=True, kw_only=True):
    """What an audit found, outcome by outcome in the order of the log."""

    effects: tuple[str, ...]
    first: Seq
    """The first event of which the outcome was asked for."""
    last: Seq
    """The last such event."""
    head: Seq
    """Where the log ended."""
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict, effect: str | None = None) -> int:
        """Counts the outcomes with a verdict, of all effects or of one."""
        kinds = {kind.__name__ for kind in EFFECTS[effect]} if effect else None
        return sum(one.verdict == verdict and (kinds is None or one.type in kinds) for one in self.findings)


def chosen(effects: Sequence[str]) -> tuple[str, ...]:
    """Reads which effects are asked for; ``all`` stands for every one.

    Raises:
        ConfigError: there is no such effect.
    """
    wanted = [name.strip() for name in effects if name.strip()]
    unknown = sorted(set(wanted) - EFFECTS.keys() - {"all"})
    if unknown or not wanted:
        what = f"{', '.join(unknown)} cannot be run again" if unknown else "no effect is named"
        raise ConfigError(f"{what}. Give all, or some of {','.join(EFFECTS)}, with commas between.")
    return tuple(name for name in EFFECTS if "all" in wanted or name in wanted)


def reexecute(
    reader: LogReader,
    effects: Sequence[str] = ("all",),
    *,
    first: Seq | None = None,
    to: Seq | None = None,
    progress: Progress | None = None,
    watch: Callable[[Finding], object] | None = None,
) -> Reexecution:
    """Runs the deterministic effects of a log again and compares what they give with what is recorded.

    Args:
        reader: the log; its blobs lie beside it. Check the log itself first, with ``replay``.
        effects: ``all``, or some of ``diff``, ``embed``, ``dataset``, ``train``.
        first: the first event whose outcome is made again; what lies before it is taken as it is recorded.
        to: the last such event; the head by default.
        progress: called with the effect, its step, the number of steps and a note.
        watch: called with each finding.

    Raises:
        ConfigError: there is no such effect, or ``first`` lies after ``to``.
        IllegalTransition: the log does not fold.
        LogUnavailable: the scratch folder cannot be written.
    """
    names = chosen(effects)
    subjects = _subjects(names)
    head = reader.head()
    begin, last = Seq(1) if first is None else first, head if to is None else to
    if begin > max(last, 1):
        raise ConfigError(f"there is nothing to run again from event {begin} to event {last}")
    total = sum(1 for _ in reader.rows(begin, last, [kind.__name__ for kind in subjects]))
    erasures = Erasures.of(reader)
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="instar-audit-") as folder:
        bench = ScratchBench(reader, Path(folder), progress)
        state = reader.state_at(begin - 1) if begin > 1 else AgentState()
        for record in reader.read(begin, last):
            if len(findings) == total:
                break
            subject = subjects.get(type(record.event))
            if subject is not None:
                bench.progress.note = f"event {record.seq}, {len(findings) + 1} of {total}"
                findings.append(examine(bench, subject, record, state, erasures))
                if watch:
                    watch(findings[-1])
            state = evolve(state, record.event, seq=record.seq, cause=record.cause, at_us=record.recorded_at_us)
    return Reexecution(effects=names, first=begin, last=last, head=head, findings=tuple(findings))


def _subjects(effects: Sequence[str]) -> dict[type, Subject]:
    """Loads the code of the effects that are asked for, and no other: texts take neither numpy's arrays nor torch."""
    found: dict[type, Subject] = {}
    if "diff" in effects or "dataset" in effects:
        from .texts import Datasets, Diffs

        found |= {DiffComputed: Diffs()} if "diff" in effects else {}
        found |= {DatasetGenerated: Datasets(embeds="embed" in effects)} if "dataset" in effects else {}
    if "embed" in effects:
        from .vectors import Embeddings, Reembeddings

        found |= {SignalEmbedded: Embeddings(), MemoryReembedded: Reembeddings()}
    if "train" in effects:
        from .training import Trainings

        found[CheckpointTrained] = Trainings()
    return found
