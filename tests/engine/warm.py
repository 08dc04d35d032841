"""Processes that have loaded what commands need, and fork one for each command.

To load it takes several times what most commands do with it; the libraries of the model alone take seconds. Each
command still runs in a process of its own, from the same entry point, with its own folder, environment and streams;
what differs is that it finds in memory what it would import. What has to show what is loaded, or how a process starts,
starts one by itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
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
from contextlib import suppress
from pathlib import Path
from typing import Any

from instar.store import failpoints

MODULE = "instar.engine.cli.main"
_PROJECT = Path(__file__).parent.parent.parent
_TIMEOUT_S = 280.0
_forkers: dict[bool, Forker] = {}
"""By whether the libraries of the model are loaded."""
USUAL = (
    "init --no-model",
    "run --once",
    "snapshot a",
    "status",
    "log",
    "show 1",
    "diff 1",
    "why 1",
    "rollback 1 -y",
    "replay",
    "verify",
    "doctor",
    "gc -n",
)
"""Commands that load, each once, what commands load."""


class Forker:
    """The process that forks, as its user sees it.

    Args:
        environ: what it begins with; each command gets its own.
        model: it loads the libraries of the model, too.
    """

    def __init__(self, environ: Mapping[str, str], *, model: bool) -> None:
        command = [sys.executable, "-m", "tests.engine.warm", *(["model"] if model else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environ), text=True, start_new_session=True
        )
        self._turn = threading.Lock()
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def run(
        self,
        arguments: Sequence[str],
        cwd: Path,
        stdin: bytes,
        environ: Mapping[str, str],
        *,
        module: str = MODULE,
        code: str = "",
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs one command, or the Python code that is given; as ``subprocess.run`` gives it."""
        with tempfile.TemporaryDirectory(prefix="instar-warm-") as folder:
            streams = [Path(folder) / name for name in ("in", "out", "err")]
            streams[0].write_bytes(stdin)
            order = {
                "module": module,
                "arguments": [os.fspath(one) for one in arguments],
                "cwd": os.fspath(cwd),
                "environ": dict(environ),
                "streams": [os.fspath(path) for path in streams],
                "code": code,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with self._turn:
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()
                ended = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(list(arguments), ended, *(path.read_bytes() for path in streams[1:]))


def run_warm(
    arguments: Sequence[str],
    *,
    cwd: Path,
    stdin: bytes,
    environ: Mapping[str, str],
    model: bool,
    module: str = MODULE,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a process that has in memory what it needs; ``model``: the libraries of the model, too."""
    return _forking(environ, model=model).run(arguments, cwd, stdin, environ, module=module)


def run_warm_code(code: str, *arguments: str | os.PathLike[str], **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Runs Python code, as ``python -c`` would at the top of the project, in a process that has the libraries too."""
    usual = {**os.environ, "PYTHONPATH": os.fspath(_PROJECT), "HF_HUB_OFFLINE": "1"}
    forker = _forking(usual, model=True)
    return forker.run([os.fspath(one) for one in arguments], _PROJECT, b"", {**usual, **environ}, code=code)


def _forking(environ: Mapping[str, str], *, model: bool) -> Forker:
    if model not in _forkers:
        unarmed = {name: value for name, value in environ.items() if name != "INSTAR_FAILPOINTS"}
        _forkers[model] = Forker(unarmed, model=model)
    return _forkers[model]


# ---- in the process that forks -------------------------------------------------------------------------------------


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if "model" in sys.argv[1:]:
        import sentence_transformers
        import torch

        assert sentence_transformers.__name__ in sys.modules
        assert torch.__name__ in sys.modules
    for name in _loaded_by_usual_commands():
        with suppress(ImportError):  # such as the parts of a module that is one file
            importlib.import_module(name)
    sys.modules.pop(MODULE)  # which each command runs anew
    gc.freeze()
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


def _loaded_by_usual_commands() -> list[str]:
    """Finds the modules that commands load, in a process of its own: here no command leaves anything behind."""
    with tempfile.TemporaryDirectory(prefix="instar-warm-") as folder:
        found = Path(folder, "found")
        pid = os.fork()
        if pid == 0:
            _find_loaded(Path(folder), found)
        assert os.waitpid(pid, 0)[1] == 0, "the usual commands do not run"
        return found.read_text().split()


def _find_loaded(folder: Path, found: Path) -> None:
    """Writes down what is loaded once the usual commands ran; never returns."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        (folder / "agent").mkdir()
        for name in [name for name in os.environ if name.startswith("INSTAR_")]:
            del os.environ[name]
        main = importlib.import_module(MODULE).main
        codes = [main([*usual.split(), "-C", os.fspath(folder / "agent")]) for usual in USUAL]
        assert codes[:2] == [0, 0], codes
        found.write_text("\n".join(name for name in sys.modules if name != "__main__"))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _become(order: dict[str, Any]) -> None:
    """Becomes the command; never returns."""
    os.setpgid(0, 0)
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for target, (path, flag) in enumerate(zip(order["streams"], flags, strict=True)):
        fd = os.open(path, flag, 0o600)
        os.dup2(fd, target)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in enumerate("rww"))
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])
    asked = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:1] = [order["cwd"], *asked]
    gc.unfreeze()
    sys.argv = [order["module"], *order["arguments"]]
    code: object = 0
    try:
        failpoints.arm(os.environ.get("INSTAR_FAILPOINTS", ""))  # a module that is loaded already reads nothing
        if order["code"]:
            sys.argv[0] = "-c"
            exec(order["code"], {"__name__": "__main__"})
        else:
            runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
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
