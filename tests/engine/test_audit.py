"""The audit files: what the log says, a line an event, written again when they are lost."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine import audit, worker
from instar.engine.audit import write_audit
from instar.engine.doctor import examine
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.engine.workspace import Workspace
from tests.engine.agents import PROJECT, code_only, instar
from tests.engine.dashboard_log import sample_log


def test_each_audited_event_has_one_line(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    write_audit(runtime)
    (runtime.workspace.root / "notes.txt").write_text("x\n")
    roll_back(runtime, 1)
    write_audit(runtime)
    write_audit(runtime)
    lines = runtime.workspace.audit_log.read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["WorkspaceInitialized", "RollbackStarted", "RollbackFinished"]
    assert [int(line.split()[1].removeprefix("event=")) for line in lines] == [1, 4, 5]


def test_lost_or_torn_file_is_written_again(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    write_audit(runtime)
    whole = runtime.workspace.audit_log.read_bytes()
    for torn in (b"", whole[:-5], b"\xff\xfe nonsense"):
        runtime.workspace.audit_log.write_bytes(torn)
        write_audit(runtime)
        assert runtime.workspace.audit_log.read_bytes() == whole
    runtime.workspace.audit_log.unlink()
    runtime.workspace.audit.unlink()
    write_audit(runtime)
    assert runtime.workspace.audit_log.read_bytes() == whole
    assert runtime.workspace.audit.is_file()


def test_lineage_tells_source_epoch_gain_and_that_it_is_not_replaceable(tmp_path: Path) -> None:
    sample_log(tmp_path).close()
    runtime = Runtime(tmp_path, actor="test")
    write_audit(runtime)
    (retrain,) = json.loads(runtime.workspace.audit.read_text())["retrains"]
    assert retrain["lineage"] == {"source": "agent_base", "epoch": 2, "confidence_gain": 0.1}
    assert retrain["replaceable"] is False
    assert retrain["verdict"] == "promoted"


def plain_data(workspace: Workspace) -> None:
    (workspace.root / "data").write_text("a file of the agent's own\n")


def folder_for_lineage(workspace: Workspace) -> None:
    workspace.audit.mkdir(parents=True)
    (workspace.audit / "x").write_text("x\n")


def folder_for_lines(workspace: Workspace) -> None:
    workspace.audit_log.mkdir(parents=True)


def mended(workspace: Workspace) -> None:
    data = workspace.root / "data"
    if data.is_file():
        data.unlink()
    else:
        shutil.rmtree(data)


IN_THE_WAY = pytest.mark.parametrize("in_the_way", [plain_data, folder_for_lineage, folder_for_lines])


@IN_THE_WAY
def test_files_that_cannot_be_written_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, in_the_way: Callable[[Workspace], None]
) -> None:
    runtime = code_only(tmp_path / "agent")
    workspace = runtime.workspace
    in_the_way(workspace)
    working = Worker(runtime)
    for text in ("one\n", "two\n"):
        (workspace.root / "notes.txt").write_text(text)
        assert working.run_once()
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "cannot be written" in warned[0]
    found = [one for one in examine(workspace) if one.subject == "audit"]
    assert {one.level for one in found} == {"bad"}
    assert len(found) == (2 if in_the_way is plain_data else 1)
    mended(workspace)
    (workspace.root / "notes.txt").write_text("three\n")
    assert working.run_once()
    assert "WorkspaceInitialized" in workspace.audit_log.read_text()
    assert json.loads(workspace.audit.read_text())["retrains"] == []
    assert not [one for one in examine(workspace) if one.subject == "audit"]


def test_lineage_that_could_not_be_written_is_not_left_behind(tmp_path: Path) -> None:
    sample_log(tmp_path).close()
    runtime = Runtime(tmp_path, actor="test")
    written = runtime.workspace.audit
    assert write_audit(runtime) is None
    whole = written.read_bytes()
    written.write_text("of before")
    os.utime(written, (1, 1))
    assert write_audit(runtime) is None
    assert written.read_bytes() == whole


def test_pipe_in_place_of_the_lines_is_not_waited_for(tmp_path: Path) -> None:
    runtime = code_only(tmp_path / "agent")
    runtime.workspace.audit_log.parent.mkdir(parents=True)
    os.mkfifo(runtime.workspace.audit_log)
    assert not [one for one in examine(runtime.workspace) if one.subject == "audit"]
    assert write_audit(runtime) is None
    assert runtime.workspace.audit_log.is_file()


@IN_THE_WAY
def test_run_ends_well_and_says_what_is_in_the_way(tmp_path: Path, in_the_way: Callable[[Workspace], None]) -> None:
    root = tmp_path / "agent"
    code_only(root).close()
    in_the_way(Workspace(root))
    (root / "notes.txt").write_text("one\n")
    told = instar("run", "--once", cwd=root)
    assert told.returncode == 0, told.stderr
    assert told.stderr.count(b"cannot be written") >= 1
    assert b"Traceback" not in told.stderr


def test_worker_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "agent"
    code_only(root).close()
    plain_data(Workspace(root))
    (root / "notes.txt").write_text("one\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "instar.engine.worker", str(root)],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 60
    line = b""
    while b"cannot be written" not in line:
        line = process.stderr.readline()
        assert line
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process.stderr.close()


@pytest.mark.parametrize("error", [OSError("a disk"), ValueError("a bug")])
def test_worker_that_ends_by_an_error_says_so_and_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    code_only(tmp_path / "agent").close()
    closed: list[Runtime] = []

    def fails(_: Worker) -> None:
        raise error

    monkeypatch.setattr(Worker, "run_forever", fails)
    monkeypatch.setattr(Runtime, "close", lambda runtime: closed.append(runtime))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert worker.main([str(tmp_path / "agent")]) == 1
    assert len(closed) == 1
    assert str(error) in caplog.text


def test_lineage_is_made_anew_by_what_changes_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cycle brings audited events; the lineage needs all outcomes of the log, as many as it is long."""
    runtime = code_only(tmp_path / "agent")
    made: list[int] = []

    def counted(runtime: Runtime) -> bytes:
        made.append(runtime.reader.head())
        return lineage(runtime)

    lineage = audit._lineage
    monkeypatch.setattr(audit, "_lineage", counted)
    assert write_audit(runtime) is None
    for text in ("one\n", "two\n"):
        (runtime.workspace.root / "notes.txt").write_text(text)
        roll_back(runtime, 1)
        assert write_audit(runtime) is None
    assert len(made) == 1
    assert runtime.workspace.audit_log.read_text().count("RollbackFinished") == 2
    runtime.workspace.audit.unlink()
    assert write_audit(runtime) is None
    assert len(made) == 2
