"""A log that is deleted, moved or replaced under a process that has it open: nothing more is acknowledged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from instar.engine.facade import Engine
from instar.fsm.errors import LogLost
from instar.store.asking import Asking
from instar.store.log import EventLog
from tests.engine.agents import code_only
from tests.store.logs import feedback, fresh_log, reopened

ROW = {"task_type": "t", "input": "i", "output": "o", "outcome": "pass"}


def unlinked(root: Path) -> None:
    for place in (root / ".instar").glob("log.db*"):
        place.unlink()


def home_removed(root: Path) -> None:
    shutil.rmtree(root / ".instar")


def root_removed(root: Path) -> None:
    shutil.rmtree(root)


def replaced(root: Path) -> None:
    copy = shutil.copytree(root / ".instar", root.parent / "copy")
    shutil.rmtree(root / ".instar")
    copy.rename(root / ".instar")


def moved(root: Path) -> None:
    root.rename(root.with_name("moved"))
    time.sleep(0.11)  # a single append looks at the path itself so often


@pytest.mark.parametrize("loss", [unlinked, home_removed, root_removed, replaced, moved])
def test_open_engine_acknowledges_nothing_once_its_log_is_lost(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    code_only(tmp_path / "agent").close()
    root = tmp_path / "agent"
    with Engine(root, worker=False) as engine:
        engine.feedback(**ROW)
        loss(root)
        asked: tuple[Callable[[], object], ...] = (
            lambda: engine.feedback(**ROW),
            lambda: engine.feedback_many([ROW, ROW]),
            lambda: engine.snapshot("x"),
            engine.replay,
            engine.status,
        )
        for ask in asked:
            with pytest.raises(LogLost, match=r"is gone|no longer the file") as lost:
                ask()
            assert lost.value.exit_code == 3
    assert loss is replaced or not (root / ".instar" / "log.db").exists()


def test_log_that_replaces_a_lost_one_is_left_whole_when_that_is_closed(tmp_path: Path) -> None:
    root = tmp_path / "agent"
    code_only(root).close()
    path = root / ".instar" / "log.db"
    old = EventLog(path)
    old.append(feedback(1))
    replaced(root)
    new = EventLog(path)
    seq = new.append(feedback(2)).seq
    with pytest.raises(LogLost, match="another was put in its place"):
        old.append(feedback(3))
    old.close()
    assert new.append(feedback(4)).seq == seq + 1
    new.close()
    again = EventLog(path)
    assert again.state.head == seq + 1
    again.close()


def test_lost_log_is_asked_of_nobody(tmp_path: Path) -> None:
    """Where other processes append, a single event is left for them: not once the log is gone."""
    log = fresh_log(tmp_path)
    other = reopened(log)
    asking = log._journal.asking
    assert isinstance(asking, Asking)
    asking.expect_others()
    shutil.rmtree(tmp_path)
    with pytest.raises(LogLost):
        log.append(feedback(1))
    log.close()
    other.close()


def test_mutation_whose_gate_deletes_the_log_is_not_told_as_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "agent"
    code_only(root).close()
    (root / "instar.toml").write_text('[mutation]\nsandbox = "rlimits"\ngate = ["sh", "-c", "rm -rf ../../../*"]\n')
    patch = tmp_path / "a.patch"
    patch.write_text("--- a/notes.txt\n+++ b/notes.txt\n@@ -1 +1 @@\n-first line\n+second line\n")
    assert main(["mutate", "--patch", str(patch), "-C", str(root)]) == 3
    said = capsys.readouterr()
    assert "is gone" in said.err
    assert "applied" not in said.out
    assert (root / "notes.txt").read_text() == "first line\n"
