"""Scripts that run on a disk with a fault: a full one, a read-only one, one whose fsync fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.engine.agents import PROJECT

_PRELUDE = """
import os, sys
from contextlib import closing
from pathlib import Path
import pytest
from instar.engine.cli import app  # with all verbs, as below
from instar.engine.cli.main import main
from instar.fsm.errors import InstarError, LogUnavailable
from instar.store import sqlite_journal  # all of it, before the user changes: nobody may read the libraries of root
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.log import EventLog, create_log
from instar.store.reader import LogReader
from tests.store.logs import INIT, feedback
disk = Path(sys.argv[1])
path = disk / "log.db"
"""


@cache
def why_no_mount() -> str:
    """Says why nothing can be mounted here; empty if it can."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"nothing can be mounted here: {tried.stderr.decode().strip()}"


def on_small_disk(disk: Path, script: str, *, kilobytes: int) -> None:
    """Runs a script on a disk of its own that holds little."""
    disk.mkdir()
    _mounted(f'mount -t tmpfs -o size={kilobytes}k none "$0"', disk, script)


def on_read_only_disk(disk: Path, script: str) -> None:
    """Runs a script on a view of a folder that cannot be written."""
    _mounted('mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"', disk, script)


def _mounted(mount: str, disk: Path, script: str) -> None:
    command = [*_python(), _PRELUDE + script, str(disk)]
    run(["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', str(disk), *command])


def as_nobody(disk: Path, script: str) -> None:
    """Runs a script as a user who owns nothing."""
    become = "\nif os.geteuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n"
    run([*_python(), _PRELUDE + become + script, str(disk)])


def with_failing_sync(disk: Path, script: str, *, when: int) -> None:
    """Runs a script in which one fdatasync fails, as on a disk that gives up."""
    inject = ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={when}"]
    run(["strace", "-f", "-o", "/dev/null", *inject, *_python(), _PRELUDE + script, str(disk)])


def _python() -> list[str]:
    return [sys.executable, "-W", "error", "-c"]


def run(command: list[str]) -> None:
    """Runs a command; shows what it said when it fails."""
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
