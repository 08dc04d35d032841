"""A clock that was ahead once: who looks is told that recorded times stand still, and for how long."""

from __future__ import annotations

import json
import logging
import time
from contextlib import closing
from pathlib import Path

import pytest

from instar.engine.clock_ahead import AHEAD_MIN_S, ahead_of, span, told
from instar.engine.doctor import examine
from instar.engine.runtime import Runtime
from instar.engine.status import read_status
from instar.engine.worker import Worker
from instar.engine.workspace import Workspace
from tests.engine.agents import code_only, instar
from tests.store.logs import feedback

AHEAD_S = 26 * 3600 + 90


class Clock:
    """The machine's, so many seconds ahead."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_us = round(ahead_s * 1_000_000)

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self._ahead_us


def jumped(root: Path, ahead_s: float) -> None:
    code_only(root).close()
    with closing(Runtime(root, actor="test", clock=Clock(ahead_s))) as runtime:
        runtime.log.append(feedback(1))


def test_status_and_doctor_tell_of_a_time_to_come(tmp_path: Path) -> None:
    root = tmp_path / "agent"
    jumped(root, AHEAD_S)
    with closing(Runtime(root, actor="test")) as runtime:
        first, second = (runtime.log.append(feedback(n)).recorded_at_us for n in (2, 3))
        assert first == second, "times stand still, as is told"
        status = read_status(runtime.reader, runtime.workspace)
    assert AHEAD_S - 60 < status.clock_ahead_s <= AHEAD_S
    (found,) = [one for one in examine(Workspace(root)) if one.subject == "clock"]
    assert found.level == "bad"
    assert "1 day 2 hours from now" in found.text
    assert "hourly budgets" in found.text
    assert "1 day 2 hours from now" in instar("status", cwd=root).stdout.decode()
    assert json.loads(instar("status", "--json", cwd=root).stdout)["data"]["clock_ahead_s"] > AHEAD_S - 120


@pytest.mark.parametrize("ahead_s", [-AHEAD_S, 0, AHEAD_MIN_S / 2])
def test_clock_that_is_right_is_not_told_of(tmp_path: Path, ahead_s: float) -> None:
    root = tmp_path / "agent"
    jumped(root, ahead_s)
    with closing(Runtime(root, actor="test")) as runtime:
        assert read_status(runtime.reader, runtime.workspace).clock_ahead_s == 0
    assert not [one for one in examine(Workspace(root)) if one.subject == "clock"]
    assert "from now" not in instar("status", cwd=root).stdout.decode()


def test_worker_tells_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "agent"
    jumped(root, AHEAD_S)
    with closing(Runtime(root, actor="worker")) as runtime, caplog.at_level(logging.WARNING, logger="instar.engine"):
        worker = Worker(runtime)
        worker.run_once()
        runtime.log.append(feedback(2))
        worker.run_once()
    assert [record.message for record in caplog.records if "from now" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


def test_span_has_two_units() -> None:
    assert [span(60), span(3_725), span(90_000), span(864_030)] == [
        "1 minute",
        "1 hour 2 minutes",
        "1 day 1 hour",
        "10 days",
    ]
    assert ahead_of(0, 1) == 0
    assert "1 minute from now" in told(60.0, 0)
