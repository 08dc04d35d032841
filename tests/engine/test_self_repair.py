"""A worker that was told to has a patch searched for where the gate fails on what stands, once a tree."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine.replay import Level, replay
from instar.engine.runtime import Runtime
from instar.engine.self_repair import SOURCE, SelfRepair
from instar.engine.watcher import rescan
from instar.engine.worker import Worker
from instar.fsm.events import MutationAccepted, MutationApplied, MutationRejected, TaskQueued
from instar.fsm.react import react
from tests.engine.agents import HEURISTICS, code_only

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")

BROKEN = HEURISTICS.replace("return a + b", "return a - b")
CHECK = "import heuristics; assert heuristics.score(1, 2) == 3"
SETTINGS = """
[mutation]
repair_after_s = {after_s}
gate = ["{{python}}", "-c", "{check}"]
[mutators]
tries = 60
"""


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(root: Path, *, after_s: float = 60, check: str = CHECK) -> Runtime:
    code_only(root).close()
    (root / "instar.toml").write_text(SETTINGS.format(after_s=after_s, check=check))
    return Runtime(root, actor="worker")


def stands(runtime: Runtime, text: str) -> None:
    (runtime.workspace.root / "heuristics.py").write_text(text)
    rescan(runtime)
    Worker(runtime).run_once()


def orders(runtime: Runtime) -> list[TaskQueued]:
    events = (record.event for record in runtime.reader.read(types=[TaskQueued]))
    return [event for event in events if isinstance(event, TaskQueued)]


def orders_after(repair: SelfRepair, clock: Clock, seconds: float) -> bool:
    """Says whether a repair of what stands is ordered once it has stood for so long."""
    repair.look()
    clock.now += seconds
    return repair.look()


def reopened(runtime: Runtime, settings: str) -> Runtime:
    """Opens a workspace again, with other settings."""
    runtime.close()
    (runtime.workspace.root / "instar.toml").write_text(settings)
    return Runtime(runtime.workspace.root, actor="worker")


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_worker_mends_what_its_agent_broke(tmp_path: Path) -> None:
    runtime = opened(tmp_path / "agent", after_s=0.2)
    code = runtime.workspace.root / "heuristics.py"
    worker = Worker(runtime)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    code.write_text(BROKEN)
    until(lambda: list(runtime.reader.tail(1, [MutationApplied])))
    worker.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert code.read_text() == HEURISTICS
    (order,) = orders(runtime)
    assert (order.source, order.note) == (SOURCE, "the gate fails on what stands")
    (accepted,) = runtime.reader.tail(1, [MutationAccepted])
    assert isinstance(accepted.event, MutationAccepted)
    assert accepted.event.mutator
    assert runtime.state.mutation_probations
    assert replay(runtime.reader, level=Level.DECISIONS).state.head == runtime.reader.head()
    runtime.close()


def test_tree_is_looked_at_once_and_only_after_it_stood(tmp_path: Path) -> None:
    runtime, clock = opened(tmp_path / "agent"), Clock()
    repair = SelfRepair(runtime, clock)
    stands(runtime, BROKEN)
    assert not repair.look()
    clock.now = 59.0
    assert not repair.look()
    stands(runtime, BROKEN + "# still at it\n")
    clock.now = 61.0
    assert not repair.look()
    clock.now = 120.0
    assert not repair.look()
    clock.now = 121.0
    assert repair.look()
    assert not repair.look()
    Worker(runtime).run_once()
    assert react(runtime.state) is None
    assert not SelfRepair(runtime, clock).look()
    assert len(orders(runtime)) == 1
    runtime.close()


def test_what_could_not_be_repaired_is_not_tried_again(tmp_path: Path) -> None:
    runtime, clock = opened(tmp_path / "agent", check="raise SystemExit(1)"), Clock()
    stands(runtime, BROKEN)
    for _ in range(2):  # the second is a worker that was started anew
        repair = SelfRepair(runtime, clock)
        orders_after(repair, clock, 61.0)
        Worker(runtime).run_once()
    assert len(orders(runtime)) == 1
    (rejected,) = runtime.reader.read(types=[MutationRejected])
    assert isinstance(rejected.event, MutationRejected)
    assert "no proposal passes the gate" in rejected.event.reason
    runtime.close()


def test_tree_that_passes_or_nobody_asked_about_is_left_alone(tmp_path: Path) -> None:
    runtime, clock = opened(tmp_path / "agent"), Clock()
    repair = SelfRepair(runtime, clock)
    assert not orders_after(repair, clock, 61.0)
    runtime.close()
    runtime, clock = opened(tmp_path / "other", after_s=0), Clock()
    stands(runtime, BROKEN)
    repair = SelfRepair(runtime, clock)
    assert not orders_after(repair, clock, 1e9)
    assert orders(runtime) == []
    runtime.close()


def test_gate_that_cannot_run_is_said_and_orders_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime, clock = opened(tmp_path / "agent"), Clock()
    runtime = reopened(runtime, '[mutation]\nrepair_after_s = 60\ngate = ["no-such-program-here"]\n')
    repair = SelfRepair(runtime, clock)
    assert not orders_after(repair, clock, 61.0)
    assert "cannot be told" in caplog.text
    assert orders(runtime) == []
    runtime.close()


def test_nothing_is_ordered_while_the_budget_is_used_up(tmp_path: Path) -> None:
    runtime, clock = opened(tmp_path / "agent"), Clock()
    settings = (runtime.workspace.root / "instar.toml").read_text()
    runtime = reopened(runtime, settings + "[policy.mutation]\nper_hour_max = 0\n")
    stands(runtime, BROKEN)
    assert not orders_after(SelfRepair(runtime, clock), clock, 61.0)
    assert orders(runtime) == []
    runtime.close()
