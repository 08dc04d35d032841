"""A mutation that names no patch: one is found with which the gate passes, and judged like one that was given."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from instar.engine.kernel import remove_copies
from instar.engine.loop import Loop
from instar.engine.provenance.graph import Graph
from instar.engine.replay import Level, replay
from instar.engine.runtime import Runtime
from instar.engine.tool_executor import execute
from instar.engine.watcher import rescan
from instar.fsm.errors import ConfigError, InputRefused
from instar.fsm.events import AnyEvent, EffectFailed, MutationAccepted, MutationApplied, MutationRejected
from instar.fsm.react import EffectName, react
from instar.fsm.words import Seq, State
from tests.engine.agents import code_only, instar

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed; it applies the patches")

RIGHT = '''def clamp(value, low, high):
    """Keeps a value between two others."""  # as it is
    if value < low:
        return low
    if value > high:
        return high
    return value
'''
WRONG = RIGHT.replace("return high", "return hihg")
CHECK = "from heuristics import clamp; assert (clamp(5, 1, 3), clamp(0, 1, 3), clamp(2, 1, 3)) == (3, 1, 2)"
GATE = ["{python}", "-c", CHECK]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """An agent that never was right."""
    runtime = code_only(tmp_path / "agent")
    write(runtime, WRONG)
    return runtime


def write(runtime: Runtime, text: str) -> None:
    (runtime.workspace.root / "heuristics.py").write_text(text)
    rescan(runtime)
    run(runtime)


def run(runtime: Runtime) -> None:
    loop = Loop(runtime)
    while loop.step():
        pass
    assert runtime.state.machine is State.IDLE


def repaired(runtime: Runtime, **asked: Any) -> tuple[Seq, AnyEvent]:
    """Asks for a repair and runs what follows; gives the task and the last verdict."""
    task = {"type": "mutate", "repair": True, "gate": GATE} | asked
    queued = execute(runtime, task, source="test").event
    run(runtime)
    (record,) = runtime.reader.tail(1, [MutationRejected, MutationAccepted])
    assert not list(runtime.workspace.scratch.glob("mutation-*"))
    return Seq(queued), record.event


def code(runtime: Runtime) -> str:
    return (runtime.workspace.root / "heuristics.py").read_text()


def test_fault_is_repaired_as_a_patch_that_nothing_else_rides_on(runtime: Runtime) -> None:
    task, event = repaired(runtime)
    assert isinstance(event, MutationAccepted)
    assert (event.mutator, event.task) == ("operators", task)
    assert 1 <= event.tried <= 200
    assert code(runtime) == RIGHT
    assert b"-        return hihg\n+        return high\n" in runtime.blobs.get(event.patch)
    assert replay(runtime.reader, level=Level.DECISIONS).state == runtime.state
    (applied,) = runtime.reader.tail(1, [MutationApplied])
    graph = Graph(runtime.reader, runtime.reader.head())
    assert (task, "tries") in list(graph.edges(applied.seq))
    assert runtime.state.mutation_probations


def test_change_that_broke_it_is_taken_back_first(runtime: Runtime) -> None:
    write(runtime, RIGHT)
    write(runtime, WRONG)
    _, event = repaired(runtime)
    assert isinstance(event, MutationAccepted)
    assert (event.mutator, event.tried) == ("templates", 1)
    assert code(runtime) == RIGHT


def test_gate_that_passes_leaves_nothing_to_repair(runtime: Runtime) -> None:
    write(runtime, RIGHT)
    _, event = repaired(runtime)
    assert isinstance(event, MutationRejected)
    assert event.reason == "there is nothing to repair: the gate passes as it is"
    assert (event.patch, event.tried, event.exit_code) == (None, 0, 0)
    assert replay(runtime.reader, level=Level.DECISIONS).state == runtime.state


def test_search_that_finds_nothing_says_how_many_it_tried(runtime: Runtime) -> None:
    _, event = repaired(runtime, gate=["false"], tries=5, mutators=["operators"])
    assert isinstance(event, MutationRejected)
    assert "tried 5 of operators" in event.reason
    assert (event.tried, event.exit_code, code(runtime)) == (5, 1, WRONG)
    assert replay(runtime.reader, level=Level.DECISIONS).state == runtime.state


def test_proposal_that_spoils_its_copy_spoils_no_other(runtime: Runtime) -> None:
    """Each is tried in a copy of its own: here every gate empties the one that it runs in."""
    spoil = CHECK.replace("; assert", "; import os; os.truncate('heuristics.py', 0); assert")
    _, event = repaired(runtime, gate=["{python}", "-B", "-c", spoil])
    assert isinstance(event, MutationAccepted)
    assert code(runtime) == RIGHT


def test_gate_that_puts_a_link_in_place_of_its_copy_leads_nowhere(runtime: Runtime, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    swap = f"import os, shutil; p = os.path.dirname(os.getcwd()); shutil.rmtree(p); os.symlink({str(elsewhere)!r}, p)"
    _, event = repaired(runtime, gate=["{python}", "-B", "-c", f"{swap}; raise SystemExit(1)"], tries=2)
    assert isinstance(event, MutationRejected)
    assert event.tried == 2
    assert list(elsewhere.iterdir()) == []


def test_file_that_others_may_not_read_stays_so(runtime: Runtime) -> None:
    (runtime.workspace.root / "heuristics.py").chmod(0o600)
    write(runtime, WRONG)
    _, event = repaired(runtime)
    assert isinstance(event, MutationAccepted)
    assert (runtime.workspace.root / "heuristics.py").stat().st_mode & 0o777 == 0o600


def test_nothing_is_searched_for_without_git(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = tmp_path / "ran"
    gate = ["{python}", "-c", f"open({str(ran)!r}, 'w')"]
    execute(runtime, {"type": "mutate", "repair": True, "gate": gate}, source="test")
    run(runtime)
    (failure,) = runtime.reader.tail(1, [EffectFailed])
    assert isinstance(failure.event, EffectFailed)
    assert "`git` is not installed" in failure.event.reason
    assert not ran.exists()


def test_same_log_gives_the_same_search(runtime: Runtime, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    execute(runtime, {"type": "mutate", "repair": True, "gate": GATE}, source="test")
    shutil.copytree(runtime.workspace.root, copied, symlinks=True)
    run(runtime)
    other = Runtime(copied, actor="test")
    run(other)
    (here,), (there,) = (one.reader.tail(1, [MutationAccepted]) for one in (runtime, other))
    assert isinstance(here.event, MutationAccepted)
    assert isinstance(there.event, MutationAccepted)
    assert (here.event.patch, here.event.tried) == (there.event.patch, there.event.tried)
    other.close()


def test_worker_that_is_to_end_leaves_the_repair_owed(runtime: Runtime) -> None:
    execute(runtime, {"type": "mutate", "repair": True, "gate": GATE}, source="test")
    runtime.ending = lambda: True
    Loop(runtime).run_until_idle()
    effect = react(runtime.state)
    assert effect is not None
    assert effect.name is EffectName.MUTATE
    assert code(runtime) == WRONG
    runtime.ending = lambda: False
    remove_copies(runtime.workspace)
    run(runtime)
    assert code(runtime) == RIGHT


def test_protected_and_absent_files_are_not_repaired(runtime: Runtime) -> None:
    for path, said in (("tests/", "name one"), ("instar.toml", "name one"), ("nobody.py", "name one")):
        _, event = repaired(runtime, paths=[path])
        assert isinstance(event, MutationRejected)
        assert said in event.reason
    assert replay(runtime.reader, level=Level.DECISIONS).state == runtime.state


@pytest.mark.parametrize("path", ["./heuristics.py", ".//heuristics.py/", "."])
def test_path_is_taken_however_it_is_spelled(runtime: Runtime, path: str) -> None:
    _, event = repaired(runtime, paths=[path])
    assert isinstance(event, MutationAccepted)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({}, "and not both"),
        ({"patch": "--- a\n+++ b\n", "repair": True}, "and not both"),
        ({"patch": "--- a\n+++ b\n", "tries": 3}, "belong to a repair"),
        ({"repair": True, "paths": ["../x"]}, "no path in the workspace"),
        ({"repair": True, "paths": ["/etc/passwd"]}, "no path in the workspace"),
        ({"repair": True, "tries": 0}, ">= 1"),
        ({"repair": True, "mutators": ["os:system"]}, "names code to be run"),
        ({"repair": True, "mutators": ["nobody"]}, "known are templates, operators, llm"),
        ({"repair": True, "mutators": ["llm"]}, "needs mutators.llm_url"),
    ],
)
def test_order_that_cannot_be_is_refused_before_it_is_recorded(
    runtime: Runtime, task: dict[str, Any], said: str
) -> None:
    head = runtime.reader.head()
    with pytest.raises((InputRefused, ConfigError), match=said):
        execute(runtime, {"type": "mutate"} | task, source="test")
    assert runtime.reader.head() == head


def test_verb_takes_a_path_from_where_it_runs_and_a_name_of_any_bytes(runtime: Runtime) -> None:
    folder = runtime.workspace.root / "lib"
    folder.mkdir()
    name = b"50%\xff.py"
    (folder / os.fsdecode(name)).write_text(WRONG)
    write(runtime, RIGHT)
    runtime.close()
    check = f"g = {{}}; exec(open(b'lib/' + {name!r}).read(), g); assert g['clamp'](5, 1, 3) == 3"
    done = instar("mutate", "--repair", os.fsdecode(name), "--gate", f'{sys.executable} -c "{check}"', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / os.fsdecode(name)).read_text() == RIGHT
    outside = instar("mutate", "--repair", "../../x.py", cwd=folder)
    assert (outside.returncode, b"does not lie in" in outside.stderr) == (2, True)


def test_verb_repairs_and_ends_with_5_where_it_cannot(runtime: Runtime) -> None:
    root = runtime.workspace.root
    runtime.close()
    gate = f'{sys.executable} -c "{CHECK}"'
    done = instar("mutate", "--repair", "heuristics.py", "--gate", gate, "--mutator", "operators", cwd=root)
    assert (done.returncode, b"applied" in done.stdout) == (0, True), done.stderr
    assert (root / "heuristics.py").read_text() == RIGHT
    again = instar("mutate", "--repair", "--gate", gate, "--json", cwd=root)
    assert (again.returncode, b"there is nothing to repair" in again.stdout) == (5, True)
    both = instar("mutate", "--repair", "--patch", "x", cwd=root)
    assert (both.returncode, b"--repair" in both.stderr) == (2, True)
