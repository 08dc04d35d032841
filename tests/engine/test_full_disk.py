"""A full disk is no fault of an effect: it stays owed, nothing is recorded, and the next run does it."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from instar.engine.effects import diffing
from instar.engine.replay import replay
from instar.engine.worker import Worker
from instar.fsm.errors import EffectFailedError, LogUnavailable
from instar.fsm.events import DiffComputed, EffectFailed
from tests.engine.agents import code_only


@pytest.mark.parametrize("wrapped", [False, True])
def test_effect_stays_owed_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    runtime = code_only(tmp_path / "agent")
    (tmp_path / "agent" / "heuristics.py").write_text("def score(a, b):\n    return a * b\n")

    def full(*_: object) -> object:
        error = OSError(errno.ENOSPC, "No space left on device")
        if wrapped:
            raise EffectFailedError("the model cannot be saved") from error
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(diffing, "diff", full)
        with pytest.raises(LogUnavailable, match="make room"):
            Worker(runtime).run_once()
    head = runtime.state.head
    assert runtime.state.machine == "Diffing"
    assert not list(runtime.reader.read(types=[EffectFailed]))
    Worker(runtime).run_once()
    assert runtime.state.head > head
    assert len(list(runtime.reader.read(types=[DiffComputed]))) == 1
    assert not list(runtime.reader.read(types=[EffectFailed]))
    assert replay(runtime.reader).events == runtime.state.head
    runtime.close()


@pytest.mark.parametrize(
    ("filled", "told"),
    [
        ('head -c 8m /dev/zero >"$1/small/filler" 2>/dev/null', "the disk is full"),
        ('n=0; while touch "$1/small/$n" 2>/dev/null; do n=$((n + 1)); done', "no room for another file"),
    ],
    ids=["bytes", "inodes"],
)
def test_reader_on_a_full_disk_says_that_it_is_full(tmp_path: Path, filled: str, told: str) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    code_only(tmp_path / "agent").close()
    (tmp_path / "small").mkdir()
    script = (
        'mount -t tmpfs -o size=4m,nr_inodes=100 none "$1/small" && cp -r "$1/agent" "$1/small/agent" || exit 77\n'
        f'rm -f "$1"/small/agent/.instar/log.db-*; {filled}\n'
        '"$2" -c "import sys; from instar.engine.cli.main import main; sys.exit(main(sys.argv[1:]))" '
        'status -C "$1/small/agent"'
    )
    command = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no private mounts here: {result.stderr.strip()}")
    assert result.returncode == 1, result.stdout
    assert told in result.stderr
    assert "Make room" in result.stderr
