"""A log that is gone or was emptied is told of, and no new one begun over what is left; a cut-off init is repeated."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from instar.engine.runtime import Runtime
from instar.engine.worker import Worker
from instar.engine.workspace import find_workspace
from instar.fsm.errors import LogLost, LogMissing
from instar.store.log import EventLog, create_log
from instar.store.lost_log import FILES, FOLDERS, traces_of
from instar.store.reader import LogReader
from tests.crash.flips import settle
from tests.crash.test_failpoints import ran
from tests.engine.agents import PROJECT, agent_folder, code_only


def emptied(path: Path) -> None:
    _without_wal(path)
    path.write_bytes(b"")


def removed(path: Path) -> None:
    _without_wal(path)
    path.unlink()


def removed_but_for_the_wal(path: Path) -> None:
    path.unlink()
    path.with_name("log.db-wal").write_bytes(b"latest events")


def removed_with_its_lock(path: Path) -> None:
    removed(path)
    path.with_name("log.lock").unlink()


def _without_wal(path: Path) -> None:
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def below(home: Path) -> dict[str, bytes]:
    return {str(place.relative_to(home)): place.read_bytes() for place in home.rglob("*") if place.is_file()}


LOSSES = (emptied, removed, removed_but_for_the_wal, removed_with_its_lock)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_lost_log_is_told_of_and_not_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loss: Callable[[Path], None], used: bool
) -> None:
    runtime = code_only(tmp_path / "agent's own")
    root, path = runtime.workspace.root, runtime.workspace.log
    if used:
        (root / "notes.txt").write_text("changed\n")
        Worker(runtime).run_once()
    runtime.close()
    settle(path)
    backup = path.read_bytes()
    loss(path)
    left = below(path.parent)
    given = ("--task-type", "t", "--input", "i", "--output", "o", "--outcome", "pass")
    for verb in (
        *(("init", "--no-model"), ("init",), ("verify",), ("status",), ("log",), ("replay",), ("run", "--once")),
        *(("feedback", *given), ("rollback", "1", "-y"), ("export", str(tmp_path / "b"))),
    ):
        capsys.readouterr()
        assert main([*verb, "-C", str(root)]) == 3, verb
        said = capsys.readouterr().err
        assert ("was emptied: it has 0 bytes" if loss is emptied else "is gone") in said
        assert "from a backup" in said
        assert below(path.parent) == left, verb
    with pytest.raises(LogLost):
        Runtime(root, actor="test")
    with pytest.raises(LogLost):
        create_log(path)
    left = below(path.parent)  # with the lock that this took

    aside = shutil.copytree(path.parent, tmp_path / "aside")  # the one way out: the backup
    _without_wal(path)
    path.write_bytes(backup)
    assert main(["verify", "-C", str(root)]) == 0
    shutil.rmtree(path.parent)

    aside.rename(path.parent)  # and the other one, word for word
    moving = said[said.index("`mv ") + 1 : said.index("`, then run `instar init`")]
    subprocess.run(["sh", "-c", moving], check=True, cwd="/")
    assert not path.parent.exists()
    assert main(["init", "--no-model", "-C", str(root)]) == 0
    assert below(root.with_name(f"{root.name}.instar-lost")) == left


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_each_trace_alone_is_enough(tmp_path: Path, name: str) -> None:
    home = agent_folder(tmp_path / "agent") / ".instar"
    home.mkdir()
    if name in FOLDERS:
        (home / name).mkdir()
        assert traces_of(home / "log.db") == []
        (home / name / "x").touch()
    else:
        (home / name).touch()
    assert traces_of(home / "log.db") == [name]
    assert main(["init", "--no-model", "-C", str(home.parent)]) == 3
    with pytest.raises(LogLost):
        find_workspace(home.parent)


def test_what_a_first_init_leaves_before_its_log_is_no_trace(tmp_path: Path) -> None:
    home = agent_folder(tmp_path / "agent") / ".instar"
    home.mkdir()
    (home / "blobs").mkdir()
    for name in (".gitignore", "log.lock", "log.db", ".log.db.new", ".log.db.new-wal", "errors.log"):
        (home / name).touch()
    (home / ".log.db.new").write_bytes(b"half a log")
    with pytest.raises(LogMissing, match="instar init") as missing:
        LogReader(home / "log.db")
    assert not isinstance(missing.value, LogLost)
    assert main(["init", "--no-model", "-C", str(home.parent)]) == 0
    assert main(["verify", "-C", str(home.parent)]) == 0


def test_lost_log_within_another_workspace_is_not_passed_over(tmp_path: Path) -> None:
    """The verb would else work on the outer agent, without a word."""
    code_only(tmp_path / "agent").close()
    inner = tmp_path / "agent" / "inner"
    runtime = code_only(inner)
    runtime.close()
    removed(runtime.workspace.log)
    (inner / "sub").mkdir()
    with pytest.raises(LogLost, match="inner"):
        find_workspace(inner / "sub")


POINTS = ("log.migrated", "log.made", "log.named", "log.locked", "log.decided", "log.inserted", "log.committed")


@pytest.mark.parametrize("point", POINTS)
def test_init_that_was_killed_is_repeated(tmp_path: Path, point: str) -> None:
    """Before its log stands, and between that and its first event."""
    root = agent_folder(tmp_path / "agent")
    killed = ran(root, "init", "--no-model", armed=f"{point}=kill@1")
    assert killed == -9
    assert ran(root, "init", "--no-model") == 0
    assert ran(root, "verify") == 0
    log = EventLog(root / ".instar" / "log.db")
    assert log.state.head == 1
    log.close()


_AT_ONCE = """
import os, sys, time
from instar.engine.cli.main import main

os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
assert main(["init", "--no-model", "-C", sys.argv[1]]) == 0  # loads what the others need
for round, root in enumerate(sys.argv[2:]):
    waiting, begun = os.pipe()
    inits = []
    for number in range(4):
        inits.append(os.fork())
        if not inits[-1]:
            os.close(begun)
            os.read(waiting, 1)
            time.sleep(number * round * 0.005)
            os._exit(main(["init", "--no-model", "-C", root]))
    os.close(waiting)
    os.close(begun)
    assert [os.waitpid(init, 0)[1] for init in inits] == [0, 0, 0, 0], root
"""
"""In each folder but the first, four processes begin: at the same moment, then 5 ms apart, 10, and so on up to 45."""


def test_inits_at_once_take_none_for_lost(tmp_path: Path) -> None:
    """One of them makes the log and leaves traces while another one looks for both."""
    roots = [agent_folder(tmp_path / f"agent{number}") for number in range(11)]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", _AT_ONCE, *roots], env=environ, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    for root in roots:
        assert main(["verify", "-C", str(root)]) == 0
