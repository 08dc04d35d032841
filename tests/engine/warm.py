"""A process that has loaded the model's libraries, and forks one for each command that needs them.

To load them takes seconds, several times what most commands do with them. Each command still runs in a process of its
own, from the same entry point, with its own folder, environment and streams; what differs is that it finds the
libraries in memory. What has to show that they are *not* loaded starts a process by itself.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODULE = "instar.engine.cli.main"
_PROJECT = Path(__file__).parent.parent.parent
_TIMEOUT_S = 280.0
_forker: Forker | None = None


class Forker:
    """The process that forks, as its user sees it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "tests.engine.warm"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environ), text=True, start_new_session=True
        )
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def run(
        self, arguments: Sequence[str], cwd: Path, stdin: bytes, environ: Mapping[str, str], code: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs one command, or the Python code that is given; as ``subprocess.run`` gives it."""
        with tempfile.TemporaryDirectory(prefix="instar-warm-") as folder:
            streams = [Path(folder) / name for name in ("in", "out", "err")]
            streams[0].write_bytes(stdin)
            order = {
                "arguments": [os.fspath(one) for one in arguments],
                "cwd": os.fspath(cwd),
                "environ": dict(environ),
                "streams": [os.fspath(path) for path in streams],
                "code": code,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            ended = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(list(arguments), ended, *(path.read_bytes() for path in streams[1:]))


def run_warm(
    arguments: Sequence[str], *, cwd: Path, stdin: bytes, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a process that has the libraries of the model in memory already."""
    return _forking(environ).run(arguments, cwd, stdin, environ)


def run_warm_code(code: str, *arguments: str | os.PathLike[str], **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Runs Python code, as ``python -c`` would at the top of the project, in a process that has the libraries too."""
    usual = {**os.environ, "PYTHONPATH": os.fspath(_PROJECT), "HF_HUB_OFFLINE": "1"}
    return _forking(usual).run([os.fspath(one) for one in arguments], _PROJECT, b"", {**usual, **environ}, code)


def _forking(environ: Mapping[str, str]) -> Forker:
    global _forker
    if _forker is None:
        _forker = Forker(environ)
    return _forker


# ---- in the process that forks -------------------------------------------------------------------------------------


def _serve() -> None:
    import sentence_transformers
    import torch

    assert sentence_transformers.__name__ in sys.modules
    assert torch.__name__ in sys.modules
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            answers.close()
            _become(order)
        timer = threading.Timer(_TIMEOUT_S, os.kill, (pid, signal.SIGKILL))
        timer.start()
        _, status = os.waitpid(pid, 0)
        timer.cancel()
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _become(order: dict[str, Any]) -> None:
    """Becomes the command; never returns."""
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for target, (path, flag) in enumerate(zip(order["streams"], flags, strict=True)):
        fd = os.open(path, flag, 0o600)
        os.dup2(fd, target)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in enumerate("rww"))
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.argv = [MODULE, *order["arguments"]]
    code: object = 0
    try:
        if order["code"]:
            sys.argv[0] = "-c"
            exec(order["code"], {"__name__": "__main__"})
        else:
            runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
