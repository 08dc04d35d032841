"""Runs a command as a process group of its own, with a time limit, and captures what it says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from msgspec import Struct

from instar.fsm.errors import ConfigError

OUTPUT_BYTES_MAX = 4 * 1024 * 1024
TIMED_OUT = 124
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
UNKNOWN = 255
"""What stands for an exit code that this process could not learn: it is no pass."""
_TAKEN = (
    b"\n[how it ended is not known, so it counts as failed: this process ignores SIGCHLD, or waits for every child. "
    b"Set SIGCHLD to SIG_DFL, and wait for children by their numbers.]\n"
)
_GAP_BYTES_MAX = 64


class Captured(Struct, frozen=True, kw_only=True):
    """How a command ended. ``exit_code`` is 124 after a time-out and 128 + n after signal n, as shells say it.
    It is 255 where the host of this process took it.
    """

    command: tuple[str, ...]
    exit_code: int
    output: bytes
    """Standard output and error, in the order of arrival; the middle is left out beyond 4 MiB in all."""
    timed_out: bool
    duration_s: float

    @property
    def passed(self) -> bool:
        """Says whether the command ended with 0."""
        return self.exit_code == 0

    def tail(self, count: int = 2000) -> str:
        """Gives the last characters of the output."""
        return self.output.decode("utf-8", "replace").replace("\0", "\\0")[-count:].strip()


class Limits(Struct, frozen=True):
    """How long a command may take."""

    timeout_s: float = 600.0


def run_captured(
    command: Sequence[str],
    *,
    cwd: Path,
    limits: Limits | None = None,
    environ: Mapping[str, str] | None = None,
    within: Callable[[Sequence[str]], Sequence[str]] = list,
    killed: Callable[[], object] = bool,
) -> Captured:
    """Runs a command and waits for its end or its time limit; then its whole process group is killed.

    Args:
        command: the program and its arguments.
        cwd: the folder in which it starts.
        limits: how long it may take.
        environ: its environment; this process's when absent.
        within: gives the command line that confines a command, see ``sandbox/``.
        killed: is called once the process group is killed, and kills what left it, where that is known.

    Raises:
        ConfigError: the command is empty, or there is no such program.
    """
    limits = limits or Limits()
    if not command:
        raise ConfigError("the command is empty: give a program and its arguments")
    search = environ.get("PATH") if environ else None
    if shutil.which(command[0], path=search) is None and not (cwd / command[0]).is_file():
        raise ConfigError(f"{command[0]!r} cannot be run: there is no such program")
    started = time.monotonic()
    try:
        process = _Child(
            within(command),
            cwd=cwd,
            env=dict(environ) if environ is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"{command[0]!r} cannot be run: {error}") from error
    timed_out = False
    try:
        chunks = _Capture(process.stdout)
        process.wait(limits.timeout_s)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _kill_group(process)
        code = process.wait()
        killed()
    output = chunks.finish()
    if process.unknown and not timed_out:
        code, output = UNKNOWN, output + _TAKEN
    exit_code = TIMED_OUT if timed_out else code if code >= 0 else 128 - code
    return Captured(
        command=tuple(command),
        exit_code=exit_code,
        output=output,
        timed_out=timed_out,
        duration_s=time.monotonic() - started,
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        process.kill()


class Terminated(SystemExit):
    """SIGTERM arrived, and ends this process once what it interrupted is told of."""


@contextmanager
def raised_sigterm() -> Iterator[None]:
    """Raises ``Terminated`` in the block where SIGTERM would end this process at once.

    A handler of the program's own is left alone, and so is every thread but the main one, where none can be set.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise Terminated(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Child(subprocess.Popen[bytes]):
    """A child whose end somebody else may have taken: a host that ignores SIGCHLD, or waits for every child itself.

    ``subprocess`` says that it ended with 0 then.

    Attributes:
        unknown: the exit code was taken by somebody else.
    """

    unknown = False

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            return os.waitpid(self.pid, wait_flags)
        except ChildProcessError:
            self.unknown = True
            return self.pid, 0


class _Capture:
    """Reads a pipe in a thread and keeps its beginning and its end."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        half = OUTPUT_BYTES_MAX // 2
        while chunk := self._pipe.read1(65536):  # type: ignore[attr-defined]
            room = half - len(self._head)
            self._head += chunk[:room] if room > 0 else b""
            self._tail += chunk[max(room, 0) :]
            if len(self._tail) > 2 * half:
                self._dropped += len(self._tail) - half
                del self._tail[:-half]

    def finish(self) -> bytes:
        # A grandchild that left the process group may hold the pipe open: what came until now is what there is.
        self._thread.join(timeout=2.0)
        if not self._thread.is_alive():
            self._pipe.close()
        head, tail = bytes(self._head), bytes(self._tail)
        room = OUTPUT_BYTES_MAX - len(head)
        if not self._dropped and len(tail) <= room:
            return head + tail
        kept = tail[-(room - _GAP_BYTES_MAX) :]
        return head + _gap(self._dropped + len(tail) - len(kept)) + kept


def shortened(output: bytes) -> bytes:
    """Leaves out the middle of what is longer than is kept of an output, and says how much that was."""
    if len(output) <= OUTPUT_BYTES_MAX:
        return output
    half = OUTPUT_BYTES_MAX // 2
    kept = half - _GAP_BYTES_MAX
    return output[:half] + _gap(len(output) - half - kept) + output[-kept:]


def _gap(count: int) -> bytes:
    return f"\n… {count} bytes left out …\n".encode()
