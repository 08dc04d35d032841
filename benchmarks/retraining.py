"""Does a retrain make the agent better at what it failed at, and does it forget? By the whole engine, in three fields.

An agent knows five examples of each intent and answers a stream of unseen requests from them. What it gets wrong, or
answers with less than 0.70 confidence, is a failure; the engine records all of it, builds the data set, trains, and its
gate decides. Then requests that were never told are asked, from the same examples.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import numpy as np

from instar import Engine
from instar.engine.evaluation.answering import Answering, answer
from instar.engine.evaluation.rows import Compared, Labelled, read_rows, texts_of
from instar.engine.evaluation.similarity import compare
from instar.engine.memory.calibration import TEMPERATURE, confidences, fit_temperature
from instar.engine.settings import Settings
from instar.fsm.events import CheckpointTrained, OutcomeRewarded
from instar.fsm.policy import CyclePolicy, Policy

from .goals import Measure, Row
from .retraining_world import BANKING, CLINC, HWU, STS, World, absent_reason, labelled, parted, world

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
STREAMS = 4
WRONG_SHARE = 0.2
SURE = 0.70


class Standing(NamedTuple):
    """How good the agent is at one time: from its first examples, with its failures in memory, and at other things."""

    examples: Answering
    with_failures: Answering
    kept: dict[str, float]
    """Accuracy of the nearest example in two other fields, and Spearman's correlation, by name."""


class Lesson(NamedTuple):
    """One retrain: what the agent was before and after it, and what the engine said."""

    failures: int
    before: Standing
    after: Standing
    verdict: str
    duration_s: float


class Agent:
    """One agent of a world, with an engine of its own.

    Args:
        root: its workspace.
        seed: of its world.
        streams: how many streams it meets.
        field: the file of what it is asked.
    """

    def __init__(self, root: Path, seed: int, streams: int, field: Path = BANKING) -> None:
        policy = Policy(cycle=CyclePolicy(signals_max=4096))  # a stream is one cycle
        self.world: World = world(seed, streams, field)
        self.engine = Engine(root, settings=Settings(policy=policy)).start()
        self.failures: list[Labelled] = []
        self.seed = seed
        self.engine.feedback_many(
            [_told(row, row.intent, None) for row in self.world.memory],
        )
        self.engine.wait()

    def standing(self) -> Standing:
        """Measures the agent as it is now."""
        temperature = self._temperature()
        kept: dict[str, float] = {}
        for path in self.world.others:
            rows = labelled(path)
            examples, _ = parted([row for row in rows if row.split == "train"], 0)
            asked = [row for row in rows if row.split == "test"]
            kept[path.stem] = answer(self.engine.embed, examples, asked, temperature, SURE).nearest
        pairs = [row for row in read_rows(STS) if isinstance(row, Compared)]
        kept["sts"] = compare(self.engine.embed, pairs).spearman
        both = [*self.world.memory, *self.failures]
        return Standing(
            answer(self.engine.embed, self.world.memory, self.world.asked, temperature, SURE),
            answer(self.engine.embed, both, self.world.asked, temperature, SURE),
            kept,
        )

    def meet(self, number: int, wrong_share: float = 0.0) -> Lesson:
        """Answers a stream, tells the engine how it went, and waits until it has learnt from it.

        Args:
            number: which stream.
            wrong_share: how many of the corrections name a wrong answer.
        """
        before = self.standing()
        rows, failed = self._answered(self.world.streams[number])
        shuffler = Random(1000 + self.seed)
        intents = sorted({row.intent for row in self.world.memory})
        wrong = set(shuffler.sample(failed, round(wrong_share * len(failed))))
        for place in wrong:
            rows[place]["reference"] = shuffler.choice(intents)
        position = self.engine.runtime.reader.head()
        self.engine.feedback_many(rows)
        self.engine.wait()
        stream = self.world.streams[number]
        self.failures += [Labelled(stream[place].text, rows[place]["reference"]) for place in failed]
        verdict, duration = self._outcome(position)
        after = self.standing()
        return Lesson(len(failed), before, after, verdict, duration)

    def _answered(self, stream: Sequence[Labelled]) -> tuple[list[dict[str, Any]], list[int]]:
        known = [*self.world.memory, *self.failures]
        intents = sorted({row.intent for row in known})
        number = {intent: place for place, intent in enumerate(intents)}
        gives = np.array([number[row.intent] for row in known])
        cosines = self.engine.embed(texts_of(stream)) @ self.engine.embed(texts_of(known)).T
        gave = np.broadcast_to(gives, cosines.shape)
        temperature = self._temperature()
        if not self.failures:  # the first temperature is the one that its own outcomes tell
            temperature = fit_temperature(cosines, gave, np.array([number[row.intent] for row in stream]))
        best, sure = confidences(cosines, gave, temperature)
        rows = [
            _told(row, intents[int(place)], float(confidence))
            for row, place, confidence in zip(stream, best, sure, strict=True)
        ]
        failed = [place for place, row in enumerate(rows) if row["outcome"] == "fail" or row["confidence"] < SURE]
        return rows, failed

    def _temperature(self) -> float:
        space = self.engine.space
        return self.engine.runtime.state.calibrations.get(space, TEMPERATURE) if space else TEMPERATURE

    def _outcome(self, after: int) -> tuple[str, float]:
        verdict, duration = "not trained", 0.0
        for record in self.engine.runtime.reader.read(after + 1, types=[CheckpointTrained, OutcomeRewarded]):
            match record.event:
                case CheckpointTrained(duration_s=duration_s):
                    duration = duration_s
                case OutcomeRewarded(subject="checkpoint", verdict=str() as told):
                    verdict = told
        return verdict, duration

    def close(self) -> None:
        """Ends the engine."""
        self.engine.stop()


def _told(row: Labelled, answered: str, confidence: float | None) -> dict[str, Any]:
    return {
        "task_type": "intent",
        "input": row.text,
        "output": answered,
        "reference": row.intent,
        "outcome": "pass" if answered == row.intent else "fail",
        "confidence": confidence,
        "source": "user",
    }


def main(seeds: Sequence[int] = SEEDS) -> list[Row]:
    """Runs the agents and gives their rows of the table of goals."""
    reason = absent_reason()
    if reason:
        return [Row("a retrain on the agent's own failures", "before", note=reason)]
    first = [_lessons(seed, STREAMS if seed == seeds[0] else 1) for seed in seeds]
    noisy = _lessons(seeds[0], 1, WRONG_SHARE)[0]
    others = {path.stem: _lessons(seeds[0], 1, field=path)[0] for path in (HWU, CLINC)}
    content = {"seeds": list(seeds), "lessons": first, "wrong_fifth": noisy, "others": others}
    RESULTS.mkdir(exist_ok=True)
    encoded = msgspec.json.encode(content, enc_hook=lambda value: value._asdict())
    (RESULTS / "retraining.json").write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")
    return [*_rows(first), *_later_rows(first[0]), _noise_row(first[0][0], noisy), *_other_rows(others)]


def _lessons(seed: int, streams: int, wrong_share: float = 0.0, field: Path = BANKING) -> list[Lesson]:
    with tempfile.TemporaryDirectory() as name:
        agent = Agent(Path(name), seed, streams, field)
        try:
            found = []
            for number in range(streams):
                found.append(agent.meet(number, wrong_share))
                print(_line(field, seed, number, wrong_share, found[-1]), flush=True)
            return found
        finally:
            agent.close()


def _line(field: Path, seed: int, number: int, wrong_share: float, lesson: Lesson) -> str:
    before, after = lesson.before, lesson.after
    sure = after.examples.accuracy_sure or 0.0
    fell = ", ".join(f"{name} {after.kept[name] - before.kept[name]:+.3f}" for name in after.kept)
    return (
        f"{field.stem}, seed {seed}, stream {number + 1}{f', {wrong_share:.0%} wrong' if wrong_share else ''}: "
        f"{lesson.failures} failures, {lesson.verdict} after {lesson.duration_s:.0f} s; "
        f"accuracy {before.examples.accuracy:.3f} → {after.examples.accuracy:.3f}, with failures in memory "
        f"{after.with_failures.accuracy:.3f}; unsure {before.examples.unsure:.1%} → {after.examples.unsure:.1%}, "
        f"sure ones right {sure:.3f}, calibration error {after.examples.calibration_error:.3f}; {fell}"
    )


def _rows(lessons: Sequence[Sequence[Lesson]]) -> list[Row]:
    firsts = [each[0] for each in lessons]
    afters = [lesson.after for lesson in firsts]
    fall = min(_worst(lesson.before, lesson.after) for lesson in firsts)
    against = f"before: {_mean([lesson.before.examples.accuracy for lesson in firsts]):.3f}; {len(firsts)} seeds"
    return [
        Row(
            "Banking77 after one retrain on its own failures: accuracy",
            against,
            (
                Measure(_mean([one.examples.accuracy for one in afters]), 0.885, what="mean"),
                Measure(_mean([one.with_failures.accuracy for one in afters]), 0.895, what="with failures in memory"),
            ),
        ),
        Row(
            "answers under 0.70 confidence; calibration; accuracy of the others",
            f"before: {_mean([lesson.before.examples.unsure for lesson in firsts]):.0%} unsure",
            (
                Measure(_mean([one.examples.unsure for one in afters]), 0.18, at_most=True, what="unsure"),
                Measure(_mean([one.examples.calibration_error for one in afters]), 0.02, at_most=True, what="error"),
                Measure(_mean([one.examples.accuracy_sure or 0.0 for one in afters]), 0.955, what="sure ones right"),
            ),
        ),
        Row("forgetting: CLINC150, HWU64, STS, points", "before", (Measure(100 * fall, -0.5, what="worst"),)),
        Row(
            "time of that retrain, s",
            "2 cores",
            (Measure(statistics.median(one.duration_s for one in firsts), 90, at_most=True),),
        ),
    ]


def _later_rows(lessons: Sequence[Lesson]) -> list[Row]:
    steps = [after.after.examples.accuracy - before.after.examples.accuracy for before, after in _pairs(lessons)]
    fall = min(_worst(lessons[0].before, lesson.after) for lesson in lessons)
    return [
        Row(
            "second to fourth retrain: smallest change of accuracy; forgetting since the first, points",
            "the retrain before",
            (Measure(100 * min(steps, default=0.0), 0.0, what="points"), Measure(100 * fall, -1.0, what="forgetting")),
        )
    ]


def _pairs(lessons: Sequence[Lesson]) -> list[tuple[Lesson, Lesson]]:
    return list(pairwise(lessons))


def _noise_row(clean: Lesson, noisy: Lesson) -> Row:
    """A fifth of the corrections is wrong: at least half of the clean gain, or the gate refuses."""
    gain = clean.after.examples.accuracy - clean.before.examples.accuracy
    got = noisy.after.examples.accuracy - noisy.before.examples.accuracy
    refused = noisy.verdict != "promoted"
    return Row(
        f"20 % of the corrections wrong: gain ({noisy.verdict})",
        "the clean gain",
        (Measure(1.0 if refused else got / gain if gain else 0.0, 0.5),),
    )


def _other_rows(lessons: Mapping[str, Lesson]) -> list[Row]:
    """Other fields, for which no recipe was chosen: they are to gain too."""
    return [
        Row(
            f"{name} after one retrain on its own failures ({lesson.verdict})",
            f"before: {lesson.before.examples.accuracy:.3f}",
            (
                Measure(_gained(lesson), 5.0, what="gain, points"),
                Measure(100 * _worst(lesson.before, lesson.after), -0.5, what="forgetting, points"),
            ),
        )
        for name, lesson in lessons.items()
    ]


def _gained(lesson: Lesson) -> float:
    return 100 * (lesson.after.examples.accuracy - lesson.before.examples.accuracy)


def _worst(before: Standing, after: Standing) -> float:
    return min(after.kept[name] - before.kept[name] for name in before.kept)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)
