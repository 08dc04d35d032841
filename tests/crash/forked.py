"""Runs ``instar`` again and again without the start of an interpreter, under the fault that ``strace`` injects.

A server process has imported all that a rollback needs. For each command it forks a child, which says its number, waits
until ``strace`` has it, and only then runs the command line as a user would. What is injected is counted in the child
alone, from its first step: the n-th call of one run is the n-th call of the next.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.crash.syscalls import unescaped
from tests.engine.agents import PROJECT

CHANGING = (
    "openat,write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,utimensat,truncate,ftruncate,"
    "fallocate,fsync,fdatasync,syncfs,sync_file_range"
)
"""The calls that change a folder or make it durable; of the opens, those that create or cut off."""

_BEGUN = re.compile(r"(\d+) +(\w+)\(")
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


@dataclass(frozen=True)
class Site:
    """One call of a run: the n-th of its kind in its thread."""

    name: str
    number: int
    what: str


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or the negative number of the signal; and what it said."""

    code: int
    said: str


class Forked:
    """The server, as its client sees it.

    Args:
        environ: set in the server, beside what this process has; ``WARM_MODEL`` is a folder of a model that is
            loaded there, so that what loads one is imported.
    """

    def __init__(self, **environ: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "0", **environ}
        command = [sys.executable, "-m", "tests.crash.forked"]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=pipe, stdout=pipe)
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name) / "said"

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)
        assert self._server.stdout is not None
        self._server.stdout.close()
        self._folder.cleanup()

    def run(self, *arguments: str, inject: str = "") -> Ended:
        """Runs a command; ``inject`` is what strace is told, as ``renameat2:signal=SIGKILL:when=3``."""
        return self._run(arguments, ["-e", f"trace={inject.partition(':')[0]}", "-e", f"inject={inject}"], inject != "")

    def record(self, root: Path, *arguments: str) -> tuple[Ended, list[Site]]:
        """Runs a command and lists its calls that change something below ``root``, in their order."""
        trace = Path(self._folder.name) / "trace"
        ended = self._run(arguments, ["-y", "-xx", "-s", "4096", "-e", f"trace={CHANGING}", "-o", str(trace)], True)
        return ended, list(_sites(trace, root))

    def _run(self, arguments: Sequence[str], options: list[str], traced: bool) -> Ended:
        request = json.dumps({"arguments": arguments, "said": str(self._said)})
        pid = int(self._ask(request.encode() + b"\n"))
        strace = None
        if traced:
            quiet = [] if "-o" in options else ["-o", "/dev/null"]
            command = ["strace", "-f", "-p", str(pid), *quiet, *options]
            strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert strace.stderr is not None
            first = strace.stderr.readline()
            assert "attached" in first, first + strace.stderr.read()
        status = int(self._ask(b"."))
        if strace is not None:
            strace.communicate(timeout=60)
        return Ended(os.waitstatus_to_exitcode(status), self._said.read_text())

    def _ask(self, request: bytes) -> bytes:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(request)
        self._server.stdin.flush()
        return self._server.stdout.readline()


def _sites(trace: Path, root: Path) -> Iterator[Site]:
    """Finds the calls of a trace that change something; each is counted among all of its name in its thread."""
    below = (str(root), "".join(f"\\x{byte:02x}" for byte in str(root).encode()))
    counts: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text(encoding="ascii").splitlines():
        begun = _BEGUN.match(line)
        if begun is None:
            continue
        counts[begun[1], begun[2]] += 1
        changes = begun[2] != "openat" or "O_CREAT" in line or "O_TRUNC" in line
        if changes and " = -1 " not in line and any(path in line for path in below):
            yield Site(begun[2], counts[begun[1], begun[2]], unescaped(line))


def _serve() -> None:
    from instar.engine.cli.main import main

    ours = os.dup(1)
    with tempfile.TemporaryDirectory() as folder:
        _warm_up(Path(folder))
    while line := _line():
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
            said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.close(said)
            os.write(ours, b"%d\n" % os.getpid())
            os.read(0, 1)
            code = 1
            try:
                code = main(request["arguments"])
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.write(ours, b"%d\n" % os.waitpid(child, 0)[1])


def _line() -> bytes:
    """Reads a line and not a byte more: the next one is for the child."""
    line = b""
    while (byte := os.read(0, 1)) and byte != b"\n":
        line += byte
    return line


def _warm_up(folder: Path) -> None:
    """Loads what is loaded when it is first needed."""
    from instar.engine.cli.main import main

    away = os.open(os.devnull, os.O_WRONLY)
    os.dup2(away, 1)
    os.close(away)
    place = ["--workspace", str(folder)]
    (folder / "a.py").write_text("a = 1\n")
    assert main(["init", "--no-model", *place]) == 0
    (folder / "a.py").write_text("a = 2\n")
    assert main(["snapshot", "named", *place]) == 0
    assert main(["rollback", "1", "-y", *place]) == 0
    if model := os.environ.get("WARM_MODEL"):
        _warm_up_model(folder / "with-model", model)


def _warm_up_model(folder: Path, model: str) -> None:
    import torch

    from instar.engine.cli.main import main

    torch.set_num_threads(1)  # a child that is forked off has no other
    folder.mkdir()
    (folder / "a.py").write_text("def a():\n    return 1\n")
    place = ["--workspace", str(folder)]
    assert main(["init", "--model", model, *place]) == 0
    (folder / "a.py").write_text("def a():\n    return 2\n")
    assert main(["run", "--once", *place]) == 0
    assert main(["search", "a", *place]) == 0


if __name__ == "__main__":
    _serve()
