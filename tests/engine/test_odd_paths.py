"""Workspaces in folders of odd names: each works like any other, and nothing is made beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from instar.engine.cli.main import main
from instar.engine.initialize import initialize
from instar.fsm.errors import ConfigError
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
