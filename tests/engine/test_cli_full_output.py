"""What cannot be said on standard output is said on standard error, in words, and the exit code tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from instar.engine.cli.keys import signing_key
from instar.engine.cli.output import fail
from instar.engine.initialize import initialize
from instar.fsm.errors import ConfigError
from tests.engine.agents import PROJECT, agent_folder


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_full_output_is_told_of_in_words(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder = agent_folder(tmp_path / "agent")
    initialize(folder, with_model=False)
    command = [sys.executable, "-m", "instar.engine.cli.main", "status", *options]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert "instar: [Errno 28] No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_error_is_told_where_standard_output_was_closed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for as_json in (False, True):
        with (tmp_path / "output").open("w") as closed:
            pass
        monkeypatch.setattr(sys, "stdout", closed)
        assert fail("Kind", "what it is", 3, as_json=as_json) == 3
        monkeypatch.undo()
        assert capsys.readouterr().err == "instar: what it is\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another account")
def test_home_of_another_account_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("INSTAR_SIGNING_KEY", raising=False)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=r"cannot be seen: Permission denied\. .*or set HOME"):
            signing_key(None, tmp_path)
    finally:
        os.seteuid(0)
