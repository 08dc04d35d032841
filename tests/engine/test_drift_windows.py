"""The two-sample test over windows: its error of the first kind, its power, its repeatability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from instar.engine.drift.windows import _mmd2, compare_windows
from instar.engine.loop import Loop
from instar.engine.replay import Level, replay
from instar.fsm.events import FeedbackReceived, PolicyChanged, RetrainFlagged, SignalEmbedded, Span
from instar.fsm.policy import DriftPolicy, Policy
from instar.fsm.words import Seq
from tests.engine.agents import with_model


def window(seed: int, rows: int = 64, dim: int = 32, shift: float = 0.0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    found[:, 0] += shift
    lengths: NDArray[np.float32] = np.linalg.norm(found, axis=1, keepdims=True)
    return found / lengths


def test_estimate_is_the_sum_of_the_paper() -> None:
    left, right = window(1, 7).astype(float), window(2, 5).astype(float)
    pooled = np.concatenate([left, right])
    kernel = np.exp(-((pooled[:, None] - pooled[None]) ** 2).sum(axis=2))
    told = sum(kernel[i, j] for i in range(7) for j in range(7) if i != j) / 42
    told += sum(kernel[i, j] for i in range(7, 12) for j in range(7, 12) if i != j) / 20
    told -= 2 * sum(kernel[i, j] for i in range(7) for j in range(7, 12)) / 35
    np.fill_diagonal(kernel, 0.0)
    assert _mmd2(kernel, np.arange(12)[None], 7)[0] == pytest.approx(told)


def test_windows_of_one_source_differ_as_seldom_as_the_p_value_says() -> None:
    low = sum(
        compare_windows(window(2 * n), window(2 * n + 1), seed=n, permutations=200).p_value < 0.05 for n in range(200)
    )
    assert 1 <= low <= 22  # 10 expected; beyond three standard deviations otherwise


def test_window_of_another_source_is_found() -> None:
    found = compare_windows(window(1), window(2, shift=2.0), seed=3)
    assert found.p_value < 0.01
    assert found.effect > 3.0


def test_rows_from_elsewhere_are_the_examples() -> None:
    current = window(2, shift=4.0)
    current[[5, 9, 11]] *= -1
    assert set(compare_windows(window(1, shift=4.0), current, seed=3).farthest) == {5, 9, 11}


def test_same_windows_and_seed_give_the_same_numbers() -> None:
    first, second = (compare_windows(window(1), window(2, 40), seed=5) for _ in range(2))
    assert first == second
    assert compare_windows(window(1), window(1), seed=5).p_value > 0.5


@pytest.mark.parametrize(("rows", "dim"), [(1, 32), (64, 16)])
def test_windows_that_cannot_be_compared_are_refused(rows: int, dim: int) -> None:
    with pytest.raises(ValueError, match="at least two vectors"):
        compare_windows(window(1), window(2, rows, dim), seed=1)


def test_windows_of_equal_rows_are_no_drift() -> None:
    same = np.ones((8, 4), np.float32)
    assert compare_windows(same, same, seed=1).p_value == 1.0


@pytest.mark.model
def test_outcomes_of_another_kind_raise_a_flag_that_replay_decides_again(tmp_path: Path) -> None:
    runtime = with_model(tmp_path)
    runtime.log.append(PolicyChanged(policy=Policy(drift=DriftPolicy(window=12))))
    chance = np.random.default_rng(1)
    money = [f"send {amount} euros to {amount * 7}" for amount in chance.integers(100, 999, size=24)]
    plants = [f"water the roses {often} times before noon" for often in range(12)]
    for number, text in enumerate([*money, *plants]):
        runtime.log.append(FeedbackReceived(task_type="ask", input=text, output="done", outcome="pass", confidence=0.9))
        if number in {11, 23, 35}:
            Loop(runtime).run_until_idle()
    tests = [
        test
        for record in runtime.reader.read(1, types=[SignalEmbedded])
        if isinstance(record.event, SignalEmbedded)
        for test in record.event.windows or ()
    ]
    assert [test.size for test in tests] == [12, 12]
    assert tests[0].p_value > 0.01
    assert tests[1].p_value < 0.01
    (flag,) = (record.event for record in runtime.reader.read(1, types=[RetrainFlagged]))
    assert isinstance(flag, RetrainFlagged)
    assert flag.triggers[0].policy == "semantic_drift"
    told = [runtime.reader.get(seq).event for seq in flag.triggers[0].events]
    assert all(isinstance(event, FeedbackReceived) and "roses" in event.input for event in told)
    assert replay(runtime.reader, level=Level.DECISIONS).decisions["windows"] == 2
    runtime.close()


@pytest.mark.model
def test_first_cycle_of_all_may_hold_two_windows(tmp_path: Path) -> None:
    runtime = with_model(tmp_path)
    runtime.log.append(PolicyChanged(policy=Policy(drift=DriftPolicy(window=4))))
    for number in range(8):
        runtime.log.append(FeedbackReceived(task_type="ask", input=f"request {number}", output="done", outcome="pass"))
    Loop(runtime).run_until_idle()
    (embedded,) = (record.event for record in runtime.reader.read(1, types=[SignalEmbedded]))
    assert isinstance(embedded, SignalEmbedded)
    assert [test.size for test in embedded.windows or ()] == [4]
    runtime.close()


@pytest.mark.model
def test_what_the_agent_was_taught_is_in_no_window(tmp_path: Path) -> None:
    """Standings count no lesson either: with lessons, each cycle of them would test a window that was tested."""
    runtime = with_model(tmp_path)
    runtime.log.append(PolicyChanged(policy=Policy(drift=DriftPolicy(window=4))))

    def told(count: int, source: str) -> list[Seq]:
        texts = [f"{source} {number}" for number in range(count)]
        rows = [
            FeedbackReceived(task_type="ask", input=text, output="done", outcome="pass", source=source)
            for text in texts
        ]
        seqs = [runtime.log.append(row).seq for row in rows]
        Loop(runtime).run_until_idle()
        return seqs

    outcomes = told(6, "agent")
    told(20, "taught:user")
    outcomes += told(2, "agent")
    told(20, "taught:user")
    tests = [
        test
        for record in runtime.reader.read(1, types=[SignalEmbedded])
        if isinstance(record.event, SignalEmbedded)
        for test in record.event.windows or ()
    ]
    assert [(test.reference, test.current) for test in tests] == [
        (Span(outcomes[0], outcomes[3]), Span(outcomes[4], outcomes[7]))
    ]
    assert replay(runtime.reader, level=Level.DECISIONS).decisions["windows"] == 1
    runtime.close()
