"""What an agent hands over and no log can hold is refused with a word on what to do; the rest is recorded plainly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from enum import StrEnum
from typing import Any

import numpy as np
import pytest

import instar
from instar.engine.initialize import initialize
from instar.fsm.errors import ConfigError, InputRefused, InstarError
from instar.fsm.events import FeedbackReceived
from tests.engine.agents import agent_folder

HALF = "half \udc80"


class Word(StrEnum):
    """Texts that are no plain ``str``."""

    NAME = "kept"
    COMMAND = "true"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[instar.Engine]:
    folder = agent_folder(tmp_path_factory.mktemp("arguments"))
    initialize(folder, with_model=False)
    with instar.Engine(folder, worker=False) as engine:
        yield engine


def test_texts_of_a_subclass_are_recorded_as_plain_ones(engine: instar.Engine) -> None:
    snapshot = engine.snapshot(Word.NAME)
    assert engine.diff("snapshot:kept", snapshot)
    engine.snapshot(np.str_("numpy"))
    run = engine.execute({"type": "shell", "command": Word.COMMAND, "task_type": np.str_("work")})
    words = engine.execute({"type": np.str_("shell"), "command": [Word.COMMAND]})
    assert run.captured
    assert run.captured.passed
    assert words.captured
    assert words.captured.passed
    seq = engine.feedback(task_type=np.str_("t"), input=Word.NAME, outcome="pass")
    assert engine.erase(seq, Word.NAME)
    assert engine.replay().events


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def cyclic() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.feedback(task_type="t", input="x", outcome=HALF),
        lambda engine: list(engine.follow(HALF).ready()),
        lambda engine: engine.snapshot(HALF),
        lambda engine: engine.rollback(f"snapshot:{HALF}"),
        lambda engine: engine.erase(2, HALF),
        lambda engine: engine.execute({"type": HALF}),
        lambda engine: engine.execute({"type": "shell", "command": nested(5000)}),
        lambda engine: engine.execute({"type": "shell", "command": cyclic()}),
        lambda engine: engine.restore(["a\0b"], at=1),
        lambda engine: engine.versions("a\0b"),
        lambda engine: engine.copy_out("heuristics.py", "a\0b", at=1),
        lambda engine: engine.judge("a\0b"),
        lambda engine: instar.Engine("a\0b"),
    ],
)
def test_what_cannot_be_recorded_or_named_is_refused(
    engine: instar.Engine, ask: Callable[[instar.Engine], object]
) -> None:
    head = engine.status().head
    with pytest.raises((InputRefused, ConfigError)) as refused:
        ask(engine)
    str(refused.value).encode()
    assert engine.status().head == head


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.snapshot(None),
        lambda engine: engine.erase(1, b"reason"),
        lambda engine: engine.erase(1, None),
        lambda engine: engine.events("latest~3"),
        lambda engine: engine.follow(start="1"),
        lambda engine: engine.embed(None),
        lambda engine: engine.embed(["x"], space=1),
        lambda engine: engine.search("x", since=date(2026, 1, 1)),
        lambda engine: engine.rollback(1, only=None),
        lambda engine: engine.rollback(1, plan=1),
        lambda engine: engine.what_if(["drift.threshold"]),
        lambda engine: engine.anchor(key=b"key"),
        lambda engine: engine.judge(""),
        lambda engine: engine.copy_out("heuristics.py", "a" * 5000, at=1),
        lambda engine: engine.export("a" * 300),
        lambda engine: instar.Engine(None),  # type: ignore[arg-type]
        lambda engine: instar.Engine(engine.root, settings={}),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_another_kind_is_refused(engine: instar.Engine, ask: Callable[[Any], object]) -> None:
    head = engine.status().head
    with pytest.raises((InputRefused, ConfigError)):
        ask(engine)
    assert engine.status().head == head


def test_numbers_of_numpy_are_taken_as_pythons(engine: instar.Engine) -> None:
    sure = np.float32(0.75)
    first: Any = np.int64(1)
    one = engine.feedback(task_type="t", input="x", confidence=sure, reward=first)
    (many,) = engine.feedback_many([{"task_type": "t", "input": "x", "confidence": sure}])
    recorded = [record.event for record in engine.events(first) if record.seq in (one, many)]
    assert [event.confidence for event in recorded if isinstance(event, FeedbackReceived)] == [0.75, 0.75]
    assert engine.diff(first, one)
    assert engine.events(10**30) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine, text: engine.snapshot(text),
        lambda engine, text: engine.rollback(text),
        lambda engine, text: engine.diff(text),
        lambda engine, text: engine.restore([text], at=1),
        lambda engine, text: engine.execute({"type": text}),
    ],
)
@pytest.mark.parametrize("text", ["long" * 100_000, "two\nlines " * 30])
def test_errors_repeat_little_of_a_huge_argument_and_in_one_line(
    engine: instar.Engine, ask: Callable[[instar.Engine, str], object], text: str
) -> None:
    with pytest.raises(InstarError) as refused:
        ask(engine, text)
    assert len(str(refused.value)) < 1500
    assert "\n" not in str(refused.value)


def test_huge_gate_is_refused_at_once(engine: instar.Engine) -> None:
    began = time.process_time()
    with pytest.raises(InputRefused, match="the gate has"):
        engine.execute({"type": "mutate", "repair": True, "gate": "x" * 2**20})
    assert time.process_time() - began < 5
