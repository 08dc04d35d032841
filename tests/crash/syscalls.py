"""Records what a process does to the files below one folder, as the kernel saw it.

``strace`` is used, not a preloaded library: it needs no compiler, sees every call of Python, of SQLite and of their
threads in one order, and prints an interrupted call as two lines, so that it is known when each began and ended.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TRACED = (
    "open,openat,creat,close,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,syncfs,sync_file_range,msync,"
    "truncate,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "lseek,dup,dup2,dup3,mmap,sendfile,copy_file_range"
)
BYTES_MAX = 8 << 20
"""The longest buffer of one call that is recorded whole."""

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>,? ?(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Call:
    """One system call that succeeded; ``began`` and ``ended`` are places in the trace's order."""

    began: int
    ended: int
    name: str
    arguments: tuple[str, ...]
    result: int
    result_path: str


@cache
def why_not() -> str:
    """Says why nothing can be recorded here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"strace may trace nothing here: {tried.stderr.decode().strip()}"


def record(command: Sequence[str], trace: Path, *, cwd: Path, exit_code: int = 0) -> list[Call]:
    """Runs a command and gives its calls.

    Raises:
        subprocess.CalledProcessError: the command did not end with ``exit_code``.
    """
    watched = ["strace", "-f", "-y", "-xx", "-s", str(BYTES_MAX), "-o", str(trace), "-e", f"trace={TRACED}"]
    watched += ["--seccomp-bpf"]
    environ = {**os.environ, "PYTHONPATH": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*watched, *command], cwd=cwd, env=environ, capture_output=True, check=False, timeout=280)
    if done.returncode != exit_code:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return list(parse(trace))


def parse(trace: Path) -> Iterator[Call]:
    """Yields the calls of a trace that succeeded, in the order in which they ended."""
    begun: dict[str, tuple[int, str]] = {}
    with trace.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue
            thread, text = found.groups()
            start = number
            if text.endswith(_UNFINISHED):
                begun[thread] = number, text.removesuffix(_UNFINISHED)
                continue
            resumed = _RESUMED.match(text)
            if resumed:
                start, head = begun.pop(thread)
                text = head + resumed[2]
            call = _call(start, number, text)
            if call is not None:
                yield call
    for start, text in begun.values():  # in flight when the process died: it may have happened
        call = _call(start, start, text + ") = 0")
        if call is not None:
            yield call


def _call(began: int, ended: int, text: str) -> Call | None:
    found = _CALL.match(text)
    if found is None or found[3] == "?" or found[3].startswith("-"):
        return None
    path = re.search(r"<(.*)>", found[4])
    return Call(began, ended, found[1], _split(found[2]), int(found[3], 0), unescaped(path[1]) if path else "")


def _split(arguments: str) -> tuple[str, ...]:
    """Splits at the commas that stand in no bracket; strings are hexadecimal, so they hold none."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(arguments) if len(arguments) < 4096 else _outside_strings(arguments):
        if character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and not depth:
            parts.append(arguments[start:place].strip())
            start = place + 1
    return (*parts, arguments[start:].strip())


def _outside_strings(arguments: str) -> Iterator[tuple[int, str]]:
    """Walks a long argument list without looking into its buffers."""
    for found in re.finditer(r'"[^"]*"|[\[\]{}(),]', arguments):
        yield found.start(), found[0][0]


def unescaped(text: str) -> str:
    r"""Undoes ``\x2f``."""
    return re.sub(r"(?:\\x[0-9a-f]{2})+", lambda hexed: _bytes(hexed[0]).decode(errors="surrogateescape"), text)


def buffer_of(argument: str) -> bytes:
    """Gives the bytes of a quoted argument.

    Raises:
        ValueError: it was too long to be recorded whole.
    """
    if argument.endswith("..."):
        raise ValueError(f"a buffer of over {BYTES_MAX} bytes was cut off by the recorder")
    return _bytes(argument.strip('"'))


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))
