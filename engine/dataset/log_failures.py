"""Failures out of log files: one row for each fault, however often and with whatever numbers and names it was logged.

A failure is a line of level ERROR or worse, a traceback with the line that announced it, or a line without such a level
that says so by word ("failed", "exception"), but not "0 failed". Indented lines after it belong to it. A line of JSON
is read by its fields, and only such a line can carry a known good output: nothing is ever guessed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instar.engine.redact import redact
from instar.fsm.events import InputSkipped

from .log_lines import FAILURE_LEVELS, LogLine, announces_failure, may_tell, read_line, template_of

FOLDERS: Final = ("system", "modules", "services", "applications")
BYTES_MAX = 32 * 1024 * 1024
"""Bytes read of one file, from its end: the newest failures count most."""
TOTAL_BYTES_MAX = 128 * 1024 * 1024
"""Bytes read of all files together."""
LINE_BYTES_MAX = 64 * 1024
BLOCK_LINES_MAX = 200
TEXT_CHARS_MAX = 4_000
FAILURES_MAX = 5_000
_LOOKED_AT, _ZEROS_FEW, _ZEROS_MAX = 8192, 8, 0.01
"""How many bytes of a file are looked at; a file is binary if more than a few of them, and of this share, are zero."""

_KNOWN_GOOD: Final = ("reference", "expected", "correction")
_MESSAGES: Final = ("message", "msg", "event", "error", "exception")


class LogFailure(Struct, frozen=True, kw_only=True):
    """One fault. ``message`` is its first occurrence, without time and level, secrets redacted.

    ``template`` is what all its occurrences have in common; it names the fault. ``path`` and ``line`` say where it was
    logged first, ``last_path`` and ``last_line`` where last. ``input`` and ``reference`` are what a line of JSON says
    was asked and would have been right.
    """

    template: str
    message: str
    level: str
    path: str
    line: int
    count: int
    input: str | None = None
    reference: str | None = None
    last_path: str = ""
    last_line: int = 0


def read_failures(
    logs: Path, folders: Sequence[str] = FOLDERS, leave_out: Iterable[Path] = ()
) -> tuple[list[LogFailure], list[InputSkipped]]:
    """Reads every ``*.log`` in the folders, in the order of their names.

    Args:
        logs: the folder of logs, by default ``data/logs``.
        folders: which folders beneath it are read.
        leave_out: files that are not read: those that the engine itself writes.

    Returns:
        The failures by first occurrence, and what could not be read, with the reason. Nothing is raised.
    """
    faults = _Faults()
    skipped: list[InputSkipped] = []
    left = TOTAL_BYTES_MAX
    own = {os.path.abspath(path) for path in leave_out}  # noqa: PTH100 - resolve() would follow links
    for folder in folders:
        for path in _listed(logs / folder, folder, skipped):
            if os.path.abspath(path) in own or path.name == "bootstrap.log":  # noqa: PTH100
                continue
            name = path.relative_to(logs).as_posix()
            content, first = _content(path, name, skipped, left)
            left -= len(content)
            for failure in failures_in(content, name, skipped, first):
                faults.count(failure, skipped)
    return faults.found(), skipped


def failures_in(content: bytes, name: str, skipped: list[InputSkipped], first: int = 1) -> Iterator[LogFailure]:
    """Finds the failures of one file, each occurrence by itself.

    Args:
        content: the bytes of the file.
        name: what the failures say where they stand.
        skipped: gets a note if lines had to be left out.
        first: the number of the first line.
    """
    block: list[LogLine] = []
    unreadable: list[int] = []
    for number, line in enumerate(_lines(content, unreadable, first), first):
        if line is None or not (block or may_tell(line)):
            continue
        entry = read_line(line, number)
        if not line.strip() and any(known.starts_traceback for known in block):
            continue  # A chained traceback goes on after a blank line; the next line says whether this one does.
        if block and _continues(block, entry):
            if len(block) < BLOCK_LINES_MAX:
                block.append(entry)
            continue
        if block:
            yield _failure(block, name)
        block = [entry] if announces_failure(entry) else []
    if block:
        yield _failure(block, name)
    if unreadable:
        which = f"not UTF-8, hold a NUL or are over {LINE_BYTES_MAX} bytes, the first is {unreadable[0]}"
        skipped.append(_skip(name, f"{len(unreadable)} lines are {which}; the other lines were read"))


def _continues(block: list[LogLine], entry: LogLine) -> bool:
    """Says whether a line belongs to the failure before it: its stack, its cause, the traceback it announced."""
    last = block[-1]
    if entry.fields is not None or (not entry.text and not entry.indented):
        return False
    in_traceback = any(line.starts_traceback for line in block)
    if entry.starts_traceback:
        return last.continues or (not in_traceback and last.number == entry.number - 1)
    if entry.indented or entry.continues:
        return True
    # The exception ends the traceback: the first line at its margin.
    return in_traceback and last.indented and entry.level is None


def _failure(block: list[LogLine], name: str) -> LogFailure:
    head = block[0]
    fields = head.fields or {}
    message = _first_text(fields, _MESSAGES) or head.text
    ending = next((line for line in reversed(block) if line.names_exception and not line.indented), None)
    if ending is not None and ending is not head:
        message = ending.text if head.starts_traceback else f"{message}: {ending.text}"
    message = redact(message)[:TEXT_CHARS_MAX]
    asked, reference = _first_text(fields, ("input",)), _first_text(fields, _KNOWN_GOOD)
    return LogFailure(
        template=template_of(message),
        message=message,
        level=head.level if head.level in FAILURE_LEVELS else "TRACEBACK" if head.starts_traceback else "FAILED",
        path=name,
        line=head.number,
        count=1,
        last_path=name,
        last_line=head.number,
        input=redact(asked)[:TEXT_CHARS_MAX] if asked else None,
        reference=redact(reference)[:TEXT_CHARS_MAX] if reference else None,
    )


def _first_text(fields: dict[str, Any], names: Sequence[str]) -> str | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, dict):
            value = msgspec.json.encode(value, order="sorted").decode()
        if isinstance(value, str) and value.strip():
            return value
    return None


class _Faults:
    """Counts the occurrences of each fault."""

    def __init__(self) -> None:
        from .log_templates import Templates

        self._templates = Templates()
        self._first: dict[tuple[int, str, str], LogFailure] = {}

    def count(self, failure: LogFailure, skipped: list[InputSkipped]) -> None:
        """Takes one occurrence."""
        # Two lines with the same wording but another task or another right answer are two lessons.
        key = (self._templates.number(failure.message), failure.input or "", failure.reference or "")
        if key in self._first:
            known = self._first[key]
            self._first[key] = replace(known, count=known.count + 1, last_path=failure.path, last_line=failure.line)
        elif len(self._first) < FAILURES_MAX:
            self._first[key] = failure
        else:
            reason = f"more than {FAILURES_MAX} different failures; further new ones are left out"
            if not any(item.reason == reason for item in skipped):
                skipped.append(_skip(failure.path, reason))

    def found(self) -> list[LogFailure]:
        """Gives the faults by first occurrence, each with what its template became."""
        return [replace(one, template=self._templates.text(key[0])) for key, one in self._first.items()]


def _listed(folder: Path, name: str, skipped: list[InputSkipped]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(".log"))
    except FileNotFoundError:
        return []
    except OSError as error:
        skipped.append(_skip(name, f"the folder cannot be read: {error.strerror}"))
        return []


def _content(path: Path, name: str, skipped: list[InputSkipped], left: int) -> tuple[bytes, int]:
    """Reads a file, of a huge one the end; gives its bytes and the number of the first line (1 if that is unknown).

    Args:
        path: the file.
        name: what a note calls it.
        skipped: gets a note on what is not read.
        left: how many bytes may still be read.
    """
    most = min(BYTES_MAX, left)
    if most <= 0:
        skipped.append(_skip(name, f"not read: the files before it hold {TOTAL_BYTES_MAX} bytes"))
        return b"", 1
    try:
        # Without blocking: a FIFO would wait for ever. Without following: a link may lead out of the workspace.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        reason = "a link is not followed" if path.is_symlink() else f"cannot be read: {error.strerror}"
        skipped.append(_skip(name, reason))
        return b"", 1
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            skipped.append(_skip(name, "is no regular file"))
            return b"", 1
        with os.fdopen(handle, "rb", closefd=False) as stream:
            cut = max(0, facts.st_size - most)
            stream.seek(cut)
            content = stream.read(most)
    except OSError as error:
        skipped.append(_skip(name, f"cannot be read: {error.strerror}"))
        return b"", 1
    finally:
        os.close(handle)
    # Whoever cuts a log down to nothing under its writer leaves zeros up to where the writer goes on.
    content = content.lstrip(b"\0")
    head = content[:_LOOKED_AT]
    if head.count(0) > max(_ZEROS_FEW, len(head) * _ZEROS_MAX):
        skipped.append(_skip(name, "is binary"))
        return b"", 1
    if cut:
        content = content.partition(b"\n")[2]
        reason = f"too large: only the last {most} of {facts.st_size} bytes were read; lines count from there"
        skipped.append(_skip(name, reason))
    return content, 1


def _lines(content: bytes, unreadable: list[int], first: int) -> Iterator[str | None]:
    # A progress bar writes over its line by carriage returns alone: each state of it is a line.
    for number, raw in enumerate(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), first):
        try:
            if len(raw) > LINE_BYTES_MAX or b"\0" in raw:
                raise ValueError("too long, or no text")
            yield raw.decode("utf-8")
        except ValueError:  # UnicodeDecodeError is one
            unreadable.append(number)
            yield None


def _skip(subject: str, reason: str) -> InputSkipped:
    return InputSkipped(source="logs", subject=subject, reason=reason)
