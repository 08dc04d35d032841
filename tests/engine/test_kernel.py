"""A proposed patch: tried in a copy behind its gate, applied or rejected, and never outside its bounds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from instar.engine.loop import Loop
from instar.engine.runtime import Runtime
from instar.engine.settings import load_settings
from instar.engine.tool_executor import execute
from instar.fsm.events import ChangeObserved, MutationApplied, MutationRejected, OutcomeRewarded
from instar.fsm.words import State
from tests.engine.agents import code_only, contents

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")

GOOD = """--- a/heuristics.py
+++ b/heuristics.py
@@ -3,4 +3,4 @@

 def score(a, b):
     \"\"\"Adds two numbers.\"\"\"
-    return a + b
+    return b + a
"""
GATE = ["{python}", "-c", "import heuristics; assert heuristics.score(1, 2) == 3"]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return code_only(tmp_path / "agent")


def tried(runtime: Runtime, patch: str, gate: list[str] | None = None) -> MutationRejected | MutationApplied:
    """Queues a patch and runs what follows."""
    execute(runtime, {"type": "mutate", "patch": patch, "gate": gate or GATE}, source="test")
    loop = Loop(runtime)
    while loop.step():
        pass
    assert runtime.state.machine is State.IDLE
    records = runtime.reader.tail(1, [MutationRejected, MutationApplied])
    event = records[0].event
    assert isinstance(event, MutationRejected | MutationApplied)
    return event


def test_patch_that_passes_its_gate_is_applied_and_rewarded(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    event = tried(runtime, GOOD)
    assert isinstance(event, MutationApplied)
    after = contents(runtime.workspace.root)
    assert after["heuristics.py"][1] == before["heuristics.py"][1].replace(b"a + b", b"b + a")
    assert {**after, "heuristics.py": before["heuristics.py"]} == before
    assert runtime.state.tree == event.tree
    (rewarded, *_) = [r.event for r in runtime.reader.read(types=[OutcomeRewarded])]
    assert isinstance(rewarded, OutcomeRewarded)
    assert (rewarded.subject, rewarded.verdict) == ("mutation", "kept")
    (change,) = runtime.reader.read(types=[ChangeObserved])
    assert runtime.reader.get(change.cause or 0).event == event


def test_patch_that_fails_its_gate_changes_nothing(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    event = tried(runtime, GOOD.replace("+    return b + a", "+    return b - a"))
    assert isinstance(event, MutationRejected)
    assert "the gate ended with 1" in event.reason
    assert event.exit_code == 1
    assert event.log is not None
    assert b"AssertionError" in runtime.blobs.get(event.log)
    assert contents(runtime.workspace.root) == before


def test_gate_runs_in_a_copy(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    gate = ["{python}", "-c", "open('left.txt', 'w').write('x'); open('heuristics.py', 'w').write('y = 1')"]
    event = tried(runtime, GOOD, gate)
    assert isinstance(event, MutationApplied)
    after = contents(runtime.workspace.root)
    assert set(after) == set(before)
    assert b"return b + a" in after["heuristics.py"][1]
    assert not list(runtime.workspace.scratch.glob("mutation-*"))


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (GOOD.replace("return a + b", "return a * b"), "does not apply"),
        (GOOD.replace("heuristics.py", "../outside.py"), "does not apply"),
        ("--- /dev/null\n+++ b/tests/test_x.py\n@@ -0,0 +1 @@\n+x = 1\n", "touches what a mutation may not: tests/"),
        ("--- /dev/null\n+++ b/instar.toml\n@@ -0,0 +1 @@\n+name = 'x'\n", "touches what a mutation may not"),
        ("--- /dev/null\n+++ b/.instar/x.py\n@@ -0,0 +1 @@\n+x = 1\n", "changes nothing"),
    ],
)
def test_patch_out_of_bounds_is_rejected_before_its_gate(runtime: Runtime, patch: str, said: str) -> None:
    before = contents(runtime.workspace.root)
    event = tried(runtime, patch, ["{python}", "-c", "raise SystemExit(0)"])
    assert isinstance(event, MutationRejected)
    assert said in event.reason
    assert event.exit_code is None
    assert contents(runtime.workspace.root) == before


def test_hanging_gate_is_ended(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", mutation__timeout_s="1")
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    event = tried(runtime, GOOD, ["{python}", "-c", "import time; time.sleep(60)"])
    assert isinstance(event, MutationRejected)
    assert "timed out" in event.reason
    assert event.exit_code == 124


def test_mutation_budget_is_kept(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", policy__mutation={"per_hour_max": 1})
    from instar.fsm.events import PolicyChanged

    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    runtime.log.append(PolicyChanged(policy=settings.policy))
    bad = GOOD.replace("+    return b + a", "+    return b - a")
    assert isinstance(tried(runtime, bad), MutationRejected)
    second = tried(runtime, GOOD)
    assert isinstance(second, MutationRejected)
    assert "budget" in second.reason


def test_edit_made_while_the_gate_ran_is_not_lost(runtime: Runtime) -> None:
    """The gate itself stands for an editor: it writes to the real file while the mutation is judged."""
    path = runtime.workspace.root / "heuristics.py"
    mine = "def score(a, b):\n    return 7\n"
    gate = ["{python}", "-c", f"open({str(path)!r}, 'w').write({mine!r})"]
    execute(runtime, {"type": "mutate", "patch": GOOD, "gate": gate}, source="test")
    loop = Loop(runtime)
    while loop.step():
        pass
    assert path.read_text() == mine or mine.encode() in {
        runtime.blobs.get(displaced.blob)
        for record in runtime.reader.read(types=[MutationApplied])
        for displaced in getattr(record.event, "displaced", ())
    }
