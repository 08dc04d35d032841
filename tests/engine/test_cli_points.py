"""What ``instar diff`` and ``instar restore`` print, word for word; verbs that work finish a cut-off restore first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from instar.engine.cli.main import main
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.snapshot import take_snapshot
from instar.fsm.errors import EffectFailedError
from instar.fsm.events import RollbackFinished
from instar.store import failpoints
from tests.engine.agents import code_only, contents


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An agent that was edited after event 1, with a snapshot of that."""
    runtime = code_only(tmp_path / "agent")
    folder = runtime.workspace.root
    edit(folder)
    take_snapshot(runtime, "edited")
    runtime.close()
    return folder


def edit(folder: Path) -> None:
    (folder / "heuristics.py").write_text("def score(a, b):\n    return 0\n")
    (folder / "notes.txt").unlink()
    (folder / "sub").mkdir()
    (folder / "sub" / "new.py").write_text("x = 1\n")


def said(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str, code: int = 0) -> str:
    """Runs a command; what differs from run to run is masked."""
    capsys.readouterr()
    assert main([*arguments, "-C", str(root)]) == code
    captured = capsys.readouterr()
    text = (captured.out if code == 0 else captured.err).replace(str(root), "ROOT")
    return re.sub(r"\b[0-9a-f]{12,64}\b", "DIGEST", re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text))


def data(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json", "-C", str(root)]) == 0
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["schema_version"], envelope["ok"], envelope["verb"]) == (1, True, arguments[0])
    return envelope["data"]


DIFF = """\
--- a/heuristics.py
+++ b/heuristics.py
@@ -1,6 +1,2 @@
-\"\"\"Scores.\"\"\"
-
-
 def score(a, b):
-    \"\"\"Adds two numbers.\"\"\"
-    return a + b
+    return 0
"""


def test_diff_of_one_path_is_the_unified_diff_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, root, "diff", "1", "snapshot:edited", str(root / "heuristics.py"))
    assert told.partition("--- ")[1:] == DIFF.partition("--- ")[1:]
    assert told.partition("--- ")[0] == "diff --git a/heuristics.py b/heuristics.py\n"


def test_diff_names_what_differs_and_what_does_not(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, root, "diff", "1", "snapshot:edited", "--name-only") == (
        "heuristics.py\nnotes.txt\nsub/new.py\n"
    )
    assert (
        said(capsys, root, "diff", "1", "snapshot:edited", "--stat")
        == """\
event 1 (TIME) → event 5 (TIME): 4 events on
code        1 added, 1 deleted, 1 modified; +2 −6 lines; tree DIGEST → DIGEST
              M heuristics.py  +1 −5  score
              D notes.txt  +0 −1
              A sub/new.py  +1 −0  <module>
snapshots   edited: none → event 5
waiting     signals: 0 → 3
the same    checkpoint, memory, rewards, policy, plan, machine, budgets
"""
    )


def test_diff_without_a_second_point_is_against_the_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data(capsys, root, "diff", "snapshot:edited")["same"] is True
    (root / "sub" / "new.py").write_text("x = 2\n")
    found = data(capsys, root, "diff", "snapshot:edited")
    assert found["same"] is False
    assert [one["path"] for one in found["diff"]["code"]["paths"]] == ["sub/new.py"]
    assert "is no reference" in said(capsys, root, "diff", "no-such-thing", code=2)


def test_restore_shows_its_plan_refuses_to_guess_and_does_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = contents(root)
    path = str(root / "heuristics.py")
    shown = said(capsys, root, "restore", path, "--at", "1", "-n")
    assert shown == "to event 1, heuristics.py alone, tree DIGEST:\n  ~ heuristics.py\nplan DIGEST\n"
    assert contents(root) == edited
    assert said(capsys, root, "restore", path, "--at", "1", code=4) == (
        "instar: nobody can be asked here: look with -n, then give -y\n"
    )
    assert said(capsys, root, "restore", path, code=2) == "instar: say where from: --at REF, or --displaced SEQ\n"
    assert said(capsys, root, "restore", path, "--at", "1", "-y") == (
        "restored to event 1 (heuristics.py alone): 1 paths, checkpoint none\n"
        "  events 7 to 8; take it back with `instar undo`\n"
    )
    assert said(capsys, root, "undo", "-y") == (
        "took back the rollback of event 7: all to event 6 (heuristics.py alone): 1 paths, checkpoint none\n"
        "  events 11 to 12; take it back with `instar undo`\n"
    )
    assert contents(root) == edited


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "", "--at", "1", "-y"),
        ("restore", "notes.txt", "", "--at", "1", "-n"),
        ("restore", "", "--at", "1", "--to", "copy"),
        ("restore", "", "--displaced", "1"),
        ("log", ""),
        ("diff", "1", "2", ""),
    ],
)
def test_empty_path_is_not_the_whole_folder(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """An unset variable in ``instar restore "$FILE" --at 1`` must not roll everything back."""
    before = contents(root)
    assert said(capsys, root, *arguments, code=2) == (
        "instar: an empty path names nothing (an unset variable of the shell leaves one): name a file or folder; "
        "`.` is the whole folder\n"
    )
    assert contents(root) == before


def test_dot_is_the_whole_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, root, "restore", ".", "--at", "1", "-y")
    assert (root / "notes.txt").exists()
    assert not (root / "sub").exists()


@pytest.mark.parametrize("seq", ["999", "0", "-1"])
def test_displaced_position_that_is_none_is_a_mistake(root: Path, capsys: pytest.CaptureFixture[str], seq: str) -> None:
    """A mistyped number is no fault of the log."""
    head = data(capsys, root, "status")["head"]
    for more in ((), ("-n",)):
        assert said(capsys, root, "restore", "heuristics.py", "--displaced", seq, *more, code=2) == (
            f"instar: {seq} is no position of this log: it has events 1 to {head}. Give that of the RollbackFinished; "
            "`instar log --type RollbackFinished` lists them.\n"
        )


def test_dry_run_of_a_copy_looks_for_what_is_copied(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "displaced nothing" in said(capsys, root, "restore", "heuristics.py", "--displaced", "1", "-n", code=2)
    nothing = ("restore", "nothing.py", "--at", "1", "--to", str(root / "copy"), "-n")
    assert "did not stand at event 1" in said(capsys, root, *nothing, code=2)
    there = ("restore", "notes.txt", "--at", "1", "--to", str(root / "copy"), "-n")
    assert said(capsys, root, *there) == "  + ROOT/copy\n"


def test_restore_to_another_place_leaves_the_agent_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited = contents(root)
    copy = root.parent / "copy.txt"
    arguments = ("restore", str(root / "notes.txt"), "--at", "1", "--to", str(copy))
    assert said(capsys, root, *arguments, "-n") == f"  + {copy}\n"
    assert not copy.exists()
    assert said(capsys, root, *arguments) == f"notes.txt copied to {copy}: 1 files, 11 bytes\n"
    assert copy.read_bytes() == b"first line\n"
    assert "something stands at" in said(capsys, root, *arguments, code=2)
    assert contents(root) == edited


@pytest.mark.parametrize(
    "arguments",
    [
        ("feedback", "--task-type", "t", "--input", "asked", "--reference", "right"),
        ("diff", "1"),
        ("erase", "latest", "--reason", "asked", "-n"),
        ("snapshot", "named"),
        ("gc", "-n"),
        ("undo", "-n"),
        ("restore", "notes.txt", "--at", "1", "-n"),
        ("train", "--queue"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_verb_that_works_finishes_what_was_cut_off_first(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    first = {"heuristics.py", "notes.txt"}
    runtime = Runtime(root, actor="test")
    failpoints.arm("restore.step=error")
    try:
        with pytest.raises(EffectFailedError, match="No space"):
            roll_back(runtime, 1)
    finally:
        failpoints.arm("")
    assert runtime.state.restoring is not None
    runtime.close()
    monkeypatch.chdir(root)
    main([*arguments, "-C", str(root)])
    capsys.readouterr()
    runtime = Runtime(root, actor="test")
    assert runtime.state.restoring is None
    assert len(list(runtime.reader.read(types=[RollbackFinished]))) == 1
    assert set(contents(root)) == first
    runtime.close()
