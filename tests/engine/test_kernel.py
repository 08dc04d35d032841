"""A proposed patch: tried in a copy behind its gate, applied or rejected, and never outside its bounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from instar.engine.loop import Loop
from instar.engine.replay import Level, replay
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.settings import load_settings
from instar.engine.tool_executor import execute
from instar.engine.watcher import rescan
from instar.fsm.events import ChangeObserved, MutationAccepted, MutationApplied, MutationRejected, OutcomeRewarded
from instar.fsm.words import State, digest_of
from instar.store.trees import Tree, read_tree
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
CAP = 4000


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
        ("--- /dev/null\n+++ b/pytest.ini\n@@ -0,0 +1 @@\n+[pytest]\n", "touches what a mutation may not"),
        ("--- /dev/null\n+++ b/sub/setup.cfg\n@@ -0,0 +1 @@\n+[tool:pytest]\n", "touches what a mutation may not"),
        ("--- /dev/null\n+++ b/sitecustomize.py\n@@ -0,0 +1 @@\n+x = 1\n", "touches what a mutation may not"),
        ("--- /dev/null\n+++ b/.instar/x.py\n@@ -0,0 +1 @@\n+x = 1\n", "touches what a mutation may not"),
    ],
)
def test_patch_out_of_bounds_is_rejected_before_its_gate(runtime: Runtime, patch: str, said: str) -> None:
    before = contents(runtime.workspace.root)
    event = tried(runtime, patch, ["{python}", "-c", "raise SystemExit(0)"])
    assert isinstance(event, MutationRejected)
    assert said in event.reason
    assert event.exit_code is None
    assert contents(runtime.workspace.root) == before


def added(path: str, *lines: str) -> str:
    """The patch that adds a file."""
    body = "".join(f"+{line}\n" for line in lines)
    header = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
    return f"{header}@@ -0,0 +1,{len(lines)} @@\n{body}"


def scanned(runtime: Runtime) -> Tree:
    """What a capture of the workspace holds now."""
    rescan(runtime)
    assert runtime.state.tree is not None
    return read_tree(runtime.blobs, runtime.state.tree)


def tree_applied(runtime: Runtime, event: MutationApplied) -> dict[str, bytes]:
    tree = read_tree(runtime.blobs, event.tree)
    return {path: runtime.blobs.get(entry.blob) for path, entry in tree.files.items()}


SEES_IT = ["{python}", "-c", "import pathlib; assert pathlib.Path('heuristics.py').is_file()"]


def test_files_that_a_patch_has_ignored_stay_where_they_are(runtime: Runtime) -> None:
    root = runtime.workspace.root
    before = contents(root)
    event = tried(runtime, added(".gitignore", "heuristics.py"), SEES_IT)
    assert isinstance(event, MutationApplied)
    after = contents(root)
    assert after.pop(".gitignore")[1] == b"heuristics.py\n"
    assert after == before
    assert tree_applied(runtime, event).keys() == {*before, ".gitignore"}
    assert "heuristics.py" not in scanned(runtime).files
    roll_back(runtime, 1)
    assert contents(root) == before
    assert replay(runtime.reader, level=Level.DECISIONS).decisions["mutations"] == 1


def test_patch_that_ignores_what_it_changes_is_rejected(runtime: Runtime) -> None:
    before = contents(runtime.workspace.root)
    event = tried(runtime, added(".gitignore", "heuristics.py") + GOOD, SEES_IT)
    assert isinstance(event, MutationRejected)
    assert event.reason.endswith("no tree of this workspace holds: heuristics.py (ignored)")
    assert contents(runtime.workspace.root) == before


def test_patch_takes_away_what_it_also_ignores(runtime: Runtime) -> None:
    gone = "diff --git a/notes.txt b/notes.txt\ndeleted file mode 100644\n--- a/notes.txt\n+++ /dev/null\n"
    gone += "@@ -1 +0,0 @@\n-first line\n"
    event = tried(runtime, added(".gitignore", "notes.txt") + gone, SEES_IT)
    assert isinstance(event, MutationApplied)
    assert contents(runtime.workspace.root).keys() == {".gitignore", "heuristics.py"}


@pytest.mark.parametrize("rule", ["tests/", "test_*.py", "*"])
def test_patch_that_has_protected_files_ignored_is_rejected(runtime: Runtime, rule: str) -> None:
    tests = runtime.workspace.root / "tests"
    tests.mkdir()
    (tests / "test_x.py").write_text("x = 1\n")
    before = contents(runtime.workspace.root)
    event = tried(runtime, added("sub/.gitignore", "x") + added(".gitignore", rule, "!.gitignore", "!sub/"), SEES_IT)
    assert isinstance(event, MutationRejected)
    assert event.reason == "the patch has ignored what a mutation may not touch: tests/test_x.py"
    assert event.exit_code is None
    assert contents(runtime.workspace.root) == before


USES_GEN = """--- a/heuristics.py
+++ b/heuristics.py
@@ -1,4 +1,5 @@
 \"\"\"Scores.\"\"\"
+from gen.x import ONE


 def score(a, b):
"""


def ignores(root: Path, where: str) -> None:
    (root / "gen").mkdir()
    if where == "root":
        (root / ".gitignore").write_text("gen/\n")
    elif where == "itself":
        (root / "gen" / ".gitignore").write_text("*\n")


@pytest.mark.parametrize("where", ["root", "itself"])
def test_patch_that_writes_what_is_ignored_is_rejected(runtime: Runtime, where: str) -> None:
    """The second one is ignored by rules that no tree holds, since they ignore themselves."""
    ignores(runtime.workspace.root, where)
    before = contents(runtime.workspace.root)
    event = tried(runtime, USES_GEN + added("gen/x.py", "ONE = 1"), GATE)
    assert isinstance(event, MutationRejected)
    assert event.reason == "the patch writes what no tree of this workspace holds: gen/x.py (ignored)"
    assert event.exit_code is None
    assert contents(runtime.workspace.root) == before


def test_patch_may_write_what_it_no_longer_has_ignored(runtime: Runtime) -> None:
    root = runtime.workspace.root
    ignores(root, "root")
    (root / "gen" / "mine.txt").write_text("mine\n")
    rules = "--- a/.gitignore\n+++ b/.gitignore\n@@ -1 +1 @@\n-gen/\n+other/\n"
    event = tried(runtime, rules + USES_GEN + added("gen/x.py", "ONE = 1"), GATE)
    assert isinstance(event, MutationApplied)
    assert (root / "gen" / "x.py").read_text() == "ONE = 1\n"
    assert (root / "gen" / "mine.txt").read_text() == "mine\n"
    assert scanned(runtime).files.keys() >= {"gen/x.py", "gen/mine.txt"}


@pytest.mark.parametrize(
    ("path", "reason"), [(".env", "secret"), ("deploy/a.pem", "secret"), ("a.pyc", "ignored"), ("venv/x", "ignored")]
)
def test_patch_that_writes_what_is_never_captured_is_rejected(runtime: Runtime, path: str, reason: str) -> None:
    event = tried(runtime, GOOD + added(path, "not to be stored"))
    assert isinstance(event, MutationRejected)
    assert event.reason.endswith(f": {path} ({reason})")
    assert not runtime.blobs.has(digest_of(b"not to be stored\n"))


def test_patch_that_writes_over_the_cap_is_rejected(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", watch__cap_bytes=str(CAP))
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    for patch in (added("large.txt", "x" * CAP), GOOD.replace("b + a", f"b + a  # {'x' * CAP}")):
        event = tried(runtime, patch, SEES_IT)
        assert isinstance(event, MutationRejected)
        assert f"(over cap {CAP} bytes)" in event.reason
    assert contents(runtime.workspace.root).keys() == {"heuristics.py", "notes.txt"}


def test_gate_sees_the_tree_that_is_applied(runtime: Runtime) -> None:
    """Files, links, modes and empty folders: as they are captured, and as they are applied."""
    root = runtime.workspace.root
    (root / "empty").mkdir()
    (root / "link").symlink_to("notes.txt")
    (root / "notes.txt").chmod(0o444)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    look = (
        "import json, os, pathlib as p; "
        "told = {str(f): [oct(f.lstat().st_mode), os.readlink(f) if f.is_symlink() else f.is_file() and f.read_text()] "
        "for f in p.Path('.').rglob('*')}; "
        "print(json.dumps(told))"
    )
    mode = "diff --git a/run.sh b/run.sh\nold mode 100755\nnew mode 100644\n"
    event = tried(runtime, GOOD + added("pkg/new.py", "x = 1") + mode, ["{python}", "-c", look])
    assert isinstance(event, MutationApplied)
    assert (root / "run.sh").stat().st_mode & 0o111 == 0
    (accepted,) = (record.event for record in runtime.reader.tail(1, [MutationAccepted]))
    assert isinstance(accepted, MutationAccepted)
    assert accepted.log is not None
    told = json.loads(runtime.blobs.get(accepted.log))
    assert told.keys() == {"empty", "link", "notes.txt", "run.sh", "heuristics.py", "pkg", "pkg/new.py"}
    for name, (mode, text) in told.items():
        place = root / name
        if not place.is_dir():
            assert oct(place.lstat().st_mode) == mode
            assert (str(place.readlink()) if place.is_symlink() else place.read_text()) == text
    assert read_tree(runtime.blobs, event.tree) == scanned(runtime)


def test_hanging_gate_is_ended(tmp_path: Path) -> None:
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", mutation__timeout_s="1")
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    event = tried(runtime, GOOD, ["{python}", "-c", "import time; time.sleep(60)"])
    assert isinstance(event, MutationRejected)
    assert "timed out" in event.reason
    assert event.exit_code == 124


def test_gate_that_does_not_always_say_the_same_has_to_pass_as_often_as_is_asked(tmp_path: Path) -> None:
    """It leaves a file in its copy, which a later run must not find, and counts its runs in one outside."""
    code_only(tmp_path / "agent").close()
    (tmp_path / "runs").mkdir()
    told = tmp_path / "runs" / "told"
    settings = load_settings(
        tmp_path / "agent", mutation__gate_runs=3, mutation__sandbox="rlimits", mutation__writable=[str(told.parent)]
    )
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
    code = f"open('left', 'x').close(); f = open({str(told)!r}, 'a+'); f.write('x'); f.seek(0); n = len(f.read())"
    event = tried(runtime, GOOD, ["{python}", "-c", f"{code}; exit(n == 2)"])
    assert isinstance(event, MutationRejected)
    assert "the gate ended with 1 at run 2 of 3" in event.reason
    assert told.read_text() == "xx"
    assert isinstance(tried(runtime, GOOD, ["{python}", "-c", code]), MutationApplied)
    assert told.read_text() == "xxxxx"
    (accepted,) = (record.event for record in runtime.reader.read(types=[MutationAccepted]))
    assert isinstance(accepted, MutationAccepted)
    assert accepted.runs == 3
    assert replay(runtime.reader, level=Level.DECISIONS).untaken == {}


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


def test_edit_made_while_the_gate_ran_is_not_lost(tmp_path: Path) -> None:
    """The gate itself, which nothing confines, stands for an editor: it writes to the real file meanwhile."""
    code_only(tmp_path / "agent").close()
    settings = load_settings(tmp_path / "agent", mutation__sandbox="rlimits")
    runtime = Runtime(tmp_path / "agent", actor="test", settings=settings)
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
