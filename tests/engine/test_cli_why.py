"""``instar why`` and ``instar taint`` as a user meets them, over what the engine itself recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import instar
from instar.engine.cli.main import main
from instar.engine.loop import Loop
from instar.engine.memory.search import search
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.watcher import rescan
from instar.fsm.errors import InstarError
from instar.fsm.events import ChangeObserved, FeedbackReceived, RollbackFinished
from tests.engine.agents import PROJECT, code_only, with_model


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which an edit was seen, embedded and flagged, and then rolled back."""
    folder = tmp_path_factory.mktemp("agent")
    runtime = code_only(folder)
    (folder / "heuristics.py").write_text("def score(a, b):\n    return a - b\n")
    rescan(runtime, full=True)
    Loop(runtime).run_until_idle()
    roll_back(runtime, 1)
    Loop(runtime).run_until_idle()
    runtime.close()
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str, cwd: Path) -> str:
    assert main([*arguments, "-C", str(cwd)]) == 0
    return capsys.readouterr().out


def data(capsys: pytest.CaptureFixture[str], *arguments: str, cwd: Path) -> Any:
    envelope = json.loads(told(capsys, *arguments, "--json", cwd=cwd))
    assert envelope["ok"] is True
    assert envelope["verb"] == arguments[0]
    return envelope["data"]


def seqs(folder: Path, *types: type) -> list[int]:
    runtime = Runtime(folder, actor="test")
    found: list[int] = [record.seq for record in runtime.reader.read(types=types)]
    runtime.close()
    return found


def test_why_of_a_restored_file_leads_over_the_rollback_to_the_first_tree(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, restored = seqs(agent, ChangeObserved)
    (finished,) = seqs(agent, RollbackFinished)
    found = data(capsys, "why", str(restored), cwd=agent)
    edges = {(edge["parent"], edge["name"]) for edge in found["edges"] if edge["child"] == restored}
    assert edges == {(finished, "written by"), (1, "brings back"), (1, "under policy"), (bad, "version before")}
    assert found["summary"]["events"] == len([n for n in found["nodes"] if n["kind"] in ("content", "occasion")])
    assert found["gaps"] == []
    text = told(capsys, "why", str(restored), cwd=agent)
    assert f"├─ written by · {finished} RollbackFinished" in text
    assert f"version before {bad})" in text
    assert "└─ brings back · " in text


def test_taint_of_the_bad_edit_says_that_the_file_was_changed_again(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, restored = seqs(agent, ChangeObserved)
    found = data(capsys, "taint", str(bad), cwd=agent)
    assert found["active"]["files"] == []
    assert found["files"] == [{"path": "heuristics.py", "changes": [bad], "last": restored}]
    assert {"CycleStarted", "DiffComputed", "SignalEmbedded", "RetrainFlagged", "DatasetGenerated"} <= {
        node["type"] for node in found["nodes"]
    }
    text = told(capsys, "taint", str(bad), cwd=agent)
    assert "there is no active checkpoint" in text
    assert f"heuristics.py was written by event {bad}, and changed again by event {restored}" in text
    assert f"heuristics.py stands as event {restored} left it" in told(capsys, "taint", str(restored), cwd=agent)


def test_depth_and_all_are_taken(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = told(capsys, "why", "latest", "--all", cwd=agent)
    cut = told(capsys, "why", "latest", "--depth", "1", cwd=agent)
    assert "--depth 2 shows them" in cut
    assert len(cut.splitlines()) < len(whole.splitlines())
    assert told(capsys, "taint", "1", "--all", cwd=agent)


@pytest.mark.parametrize("verb", ["why", "taint"])
@pytest.mark.parametrize(
    ("reference", "said"),
    [("yesterday-ish", "mutation:SEQ, memory:SEQ.ITEM, dataset:PREFIX"), ("memory:1.0", "embedded nothing")],
)
def test_bad_reference_gets_a_sentence_and_exit_code_2(
    agent: Path, capsys: pytest.CaptureFixture[str], verb: str, reference: str, said: str
) -> None:
    assert main([verb, reference, "-C", str(agent)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_both_verbs_load_no_heavy_library(agent: Path) -> None:
    script = (
        "import sys; from instar.engine.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = [m for m in ('torch', 'sentence_transformers', 'sqlalchemy', 'usearch', 'numpy') if m in sys.modules];"
        "sys.exit(code or (9 if heavy else 0))"
    )
    for arguments in (["why", "latest"], ["taint", "1", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=agent,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()


def test_library_gives_the_same_answers(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, restored = seqs(agent, ChangeObserved)
    with instar.Engine(agent, worker=False) as engine:
        why, taint = engine.why(restored), engine.taint(restored)
        with pytest.raises(InstarError, match="no reference"):
            engine.why("nonsense")
    assert [node.seq for node in why.nodes] == [
        n["seq"] for n in data(capsys, "why", str(restored), cwd=agent)["nodes"]
    ]
    assert taint.active.files == ("heuristics.py",)


@pytest.mark.model
def test_row_that_a_search_finds_has_a_reference_that_why_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = with_model(tmp_path)
    signal = runtime.log.append(
        FeedbackReceived(task_type="lookup", input="read a whole file", output="open", outcome="pass", confidence=0.9)
    ).seq
    Loop(runtime).run_until_idle()
    (found,) = search(runtime, "reading files", k=1)
    runtime.close()
    assert found.event == signal
    why = data(capsys, "why", found.reference, cwd=tmp_path)
    assert (why["subject"]["kind"], why["subject"]["item"]) == ("memory", 0)
    assert {"child": why["subject"]["seq"], "parent": signal, "name": "row", "kind": "content"}.items() <= next(
        edge for edge in why["edges"] if edge["name"] == "row"
    ).items()
    assert found.reference in told(capsys, "search", "reading files", cwd=tmp_path)
    taint = data(capsys, "taint", str(signal), cwd=tmp_path)
    assert [f"memory:{rows['seq']}.{item}" for rows in taint["memory"] for item in rows["items"]] == [found.reference]
    assert taint["active"]["live_rows"] == 1
