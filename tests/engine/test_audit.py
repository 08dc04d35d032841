"""The audit files: what the log says, a line an event, written again when they are lost."""

from __future__ import annotations

import json
from pathlib import Path

from instar.engine.audit import write_audit
from instar.engine.restoring.rollback import roll_back
from instar.engine.runtime import Runtime
from tests.engine.agents import code_only
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
