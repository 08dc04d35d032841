"""Workspaces in folders of odd names: each works like any other, and nothing is made beside it."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from instar.engine.initialize import initialize
from instar.engine.service import _address, listens
from instar.fsm.errors import ConfigError
from instar.store.sqlite_source import PATH_BYTES_MAX
from tests.engine.agents import PROJECT, agent_folder

GIVEN = ("--task-type", "t", "--input", "i", "--output", "o", "--outcome", "pass")


@pytest.mark.parametrize("name", ["q?x", "p%41x", "a#b&c=d", "file:x?mode=ro", os.fsdecode(b"n\xffx"), " é'\""])
def test_folder_of_an_odd_name_is_a_workspace_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = agent_folder(tmp_path / name)
    for verb in (
        *(("init", "--no-model"), ("feedback", *GIVEN), ("snapshot", "s"), ("run", "--once"), ("verify",)),
        *(("replay",), ("diff", "1"), ("rollback", "1", "-y"), ("gc", "-y")),
    ):
        assert main([*verb, "-C", str(root)]) == 0, (verb, capsys.readouterr())
    capsys.readouterr()
    assert main(["status", "--json", "-C", str(root)]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["root"] == str(root)
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 - no database beside it


def test_model_below_a_path_that_is_no_utf8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = agent_folder(tmp_path / os.fsdecode(b"n\xffx"))
    with pytest.raises(ConfigError, match=r"is no UTF-8.*--no-model"):
        initialize(root)
    assert not (root / ".instar").exists()


def test_engine_in_a_folder_that_was_deleted_is_refused_in_words(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    said = subprocess.run(
        [sys.executable, "-c", "import os; os.rmdir(os.getcwd()); import instar; instar.Engine('.')"],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "ConfigError: the folder . cannot be found" in said.stderr


def test_folder_too_deep_for_sqlite_is_refused_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # Reached by a short link, too: SQLite takes the links out of a path.
    fits = deep_folder(tmp_path, PATH_BYTES_MAX - len("/.instar/.log.db.new"))
    link = tmp_path / "link"
    link.symlink_to(fits)
    assert main(["init", "--no-model", "-C", str(link)]) == 0, capfd.readouterr().err
    deeper = deep_folder(tmp_path, PATH_BYTES_MAX - len("/.instar/log.db") + 1)
    link.unlink()
    link.symlink_to(deeper)
    assert main(["init", "--no-model", "-C", str(link)]) == 1
    assert f"SQLite takes {PATH_BYTES_MAX}: move the folder up" in capfd.readouterr().err
    deeper.rename(tmp_path / "moved")  # as it says; what it left there stands in nobody's way
    assert main(["init", "--no-model", "-C", str(tmp_path / "moved")]) == 0, capfd.readouterr().err
    fits.rename(deeper)
    assert main(["log", "-C", str(link)]) == 1
    assert f"cannot be read: without links its path has {PATH_BYTES_MAX + 1} bytes" in capfd.readouterr().err


def deep_folder(parent: Path, size: int) -> Path:
    folder = parent
    while (left := size - len(os.fsencode(folder))) > 255:
        folder /= "d" * min(200, left - 2)
    folder /= "d" * (left - 1)
    assert len(os.fsencode(folder)) == size
    folder.mkdir(parents=True)
    return folder


def test_worker_serves_where_there_is_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path("agent.sock")
    monkeypatch.chdir(tmp_path)
    for path, through in ((short, False), (tmp_path / ("d" * 200) / "agent.sock", True)):
        with _address_made(path) as name:
            assert name.startswith("/proc/self/fd/") == through
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(name)
        assert path.is_socket()
        assert not listens(path)


@contextmanager
def _address_made(path: Path) -> Iterator[str]:
    path.parent.mkdir(exist_ok=True)
    with _address(path) as name:
        yield name


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path, encoding: str) -> None:
    folder = agent_folder(tmp_path / "agent")
    (folder / "é\u2192\U0001f600.txt").write_text("x")
    initialize(folder, with_model=False)
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "instar.engine.cli.main"]

    def said(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], cwd=folder, env=environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode(encoding)

    (folder / "é\u2192\U0001f600.txt").write_text("y")
    assert "rolled back" in said("rollback", "1", "-y")
    assert "→" in said("log") or "\\u2192" in said("log")
    shown = json.loads(said("log", "--json"))["data"]
    assert "é\u2192\U0001f600.txt" in json.dumps(shown, ensure_ascii=False)


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_file_system_without_rights_is_refused_only_where_others_could_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    root = agent_folder(tmp_path / "agent")
    (root / ".instar").mkdir()
    (root / ".instar").chmod(mode)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    code = main(["init", "--no-model", "-C", str(root)])
    if mode == 0o700:
        assert code == 0, capsys.readouterr()
    else:
        assert code == 1
        assert "cannot be set (Operation not permitted), and others may enter it" in capsys.readouterr().err
