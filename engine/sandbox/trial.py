"""Tries a sandbox once by running a program in it that does what a gate may, and attempts what it may not."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from instar.engine.shell_executor import Limits, run_captured
from instar.fsm.errors import ConfigError, ExtensionFailed

from .places import needed
from .port import Cell, Sandbox

_TIME_S = 20.0
_PROGRAM = """
import os, socket, sys
secret, outside, port, home, pid = sys.argv[1:]
for folder in ('.', home):
    with open(os.path.join(folder, 'written'), 'w') as file:
        file.write('x')
def done(what, attempt):
    try:
        attempt()
    except OSError:
        return
    print(what, flush=True)
    os._exit(1)
done('a file outside could be read', lambda: open(secret).read())
try:
    open(outside, 'w').close()  # what it writes may lie in memory of its own: whoever waits looks whether it is there
except OSError:
    pass
done('a process outside could be signalled', lambda: os.kill(int(pid), 0))
if port != '0':
    done('a service of this machine could be reached', lambda: socket.create_connection(('127.0.0.1', int(port)), 2))
"""


def fault(sandbox: Sandbox, network: bool) -> str | None:
    """Says why a sandbox cannot be used here; None if it runs a program and confines it.

    A sandbox of ours is asked once a process.
    """
    return sandbox.fault(network) or _tried(sandbox, network)  # type: ignore[arg-type]  # hashed by identity


@lru_cache
def _tried(sandbox: Sandbox, network: bool) -> str | None:
    scratch = Path(tempfile.mkdtemp(prefix="instar-sandbox-")).resolve()
    try:
        for name in ("tree", "home"):
            (scratch / name).mkdir()
        (scratch / "secret").write_text("secret")
        environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(scratch / "home")}
        cell = Cell(
            folder=scratch / "tree",
            home=scratch / "home",
            own=scratch / "own",
            readable=needed(sys.executable, environ, scratch),
            network=network,
            memory_bytes=1 << 30,
        )
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = 0 if network else listening.getsockname()[1]
            told = (scratch / "secret", scratch / "written", port, scratch / "home", os.getpid())
            program = [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, told)]
            command = sandbox.command(program, cell)
            captured = run_captured(command, cwd=cell.folder, limits=Limits(timeout_s=_TIME_S), environ=environ)
        if (scratch / "written").exists():
            return "tried here, it does not work: a file could be written outside"
        if captured.passed:
            return None
        how = "it did not end" if captured.timed_out else captured.tail(300) or f"it ended with {captured.exit_code}"
        return f"tried here, it does not work: {how}"
    except (OSError, ConfigError, ExtensionFailed) as error:
        return f"it cannot be tried here: {error}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
