"""How every verb speaks: an envelope for programs, plain lines for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from instar.engine.visible import visible

from .asked import actor, asked, may_change

if TYPE_CHECKING:
    from rich.console import Console

    from instar.engine.runtime import Runtime
    from instar.engine.workspace import Workspace
    from instar.store.reader import LogReader

SCHEMA_VERSION = 1

COUNT_MAX = 1_000_000_000
"""The largest number of rows that a verb takes."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object in place of text.")]


class Given:
    """What the command line named, for when a command ends by a bug."""

    workspace: Path | None = None


def note(context: typer.Context, folder: Path | None) -> Path | None:
    """Keeps the folder that a command was given, for when it ends by a bug."""
    if isinstance(context.obj, Given):
        context.obj.workspace = folder
    return folder


Root = Annotated[
    Path | None,
    typer.Option(
        "-C",
        "--workspace",
        help="The folder of the agent; by default the nearest one that has a log.",
        callback=note,
    ),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Show what would be done, and do nothing.")]


def plain(value: Any) -> Any:
    """Turns structs, tuples and bytes into what JSON knows."""
    return msgspec.to_builtins(value, enc_hook=str)


def emit(verb: str, content: Any, *, as_json: bool, lines: Iterable[str] = (), patch: bytes = b"") -> None:
    """Prints a result on standard output: the envelope, or text for people.

    Args:
        verb: the command.
        content: what the envelope holds.
        as_json: whether the envelope is wanted.
        lines: what people read. Each is printed as one line, whatever it holds: the words of an agent neither forge a
            line nor reach the terminal as commands.
        patch: in place of lines, what goes out byte for byte, whatever encoding is set.
    """
    if (by := asked()) is not None:
        by.verb, by.content, by.patch = verb, plain(content), patch
        return
    if as_json:
        write_json(_json(envelope(verb, plain(content))))
        return
    if patch:
        sys.stdout.flush()
        sys.stdout.buffer.write(patch)
        return
    sys.stdout.write("".join(f"{visible(line)}\n" for line in lines))


def envelope(verb: str, content: Any) -> dict[str, Any]:
    """Gives the envelope of a result that is plain already."""
    return {"schema_version": SCHEMA_VERSION, "ok": True, "verb": verb, "data": content}


def envelope_of_error(
    kind: str, message: str, exit_code: int, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Gives the envelope of an error; parameters as of ``fail``."""
    written = message.encode("utf-8", "backslashreplace").decode()  # an argument in it may be no UTF-8
    error: dict[str, Any] = {"kind": kind, "message": written, "exit_code": exit_code}
    if details:
        error["details"] = plain(dict(details))
    return {"schema_version": SCHEMA_VERSION, "ok": False, "error": error}


def _json(whole: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(whole).decode()
    except UnicodeEncodeError:  # a path in it is no UTF-8: JSON's own escapes hold it as it is
        import json

        return json.dumps(whole, separators=(",", ":"))


def write_json(text: str) -> None:
    """Prints JSON as a line; what the encoding of standard output lacks is written in JSON's own escapes."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        import json

        text = json.dumps(json.loads(text), separators=(",", ":"))
    sys.stdout.write(f"{text}\n")


def fail(
    kind: str,
    message: str,
    exit_code: int,
    details: Mapping[str, Any] | None = None,
    by_lines: bool = False,
    *,
    as_json: bool,
) -> int:
    """Prints an error: in the envelope on standard output, or as a line on standard error. Returns the exit code.

    Args:
        kind: the class of the error.
        message: what happened, where, and what to do next.
        exit_code: what the command ends with.
        details: what a program may want to know.
        by_lines: the message is several lines on purpose: they stay, those after the first set in.
        as_json: whether the envelope is wanted.
    """
    try:
        if as_json:
            write_json(msgspec.json.encode(envelope_of_error(kind, message, exit_code, details)).decode())
        sys.stdout.flush()
    except (OSError, ValueError):  # it is full, or a plugin closed it: that is what there is to tell, and where else
        as_json = False
    if not as_json:
        first, *more = message.split("\n") if by_lines else [message]
        say(f"instar: {first}", *(line if line.startswith(" ") else f"  {line}" for line in more))
    return exit_code


def say(*lines: str) -> None:
    """Prints a message for people on standard error; each line is one, whatever it holds."""
    if (by := asked()) is not None:
        by.notes += map(visible, lines)
        return
    sys.stderr.write("".join(f"{visible(line)}\n" for line in lines))


def stderr_console() -> Console:
    """Gives the console for progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def workspace_at(root: Path | None) -> Workspace:
    """Finds the workspace that a command means."""
    import os

    from instar.engine.workspace import find_workspace, open_workspace

    return open_workspace(find_workspace(root or Path.cwd()), os.environ, _warn)


def reader_at(root: Path | None) -> LogReader:
    """Opens the log for reading alone."""
    from instar.store.reader import LogReader

    return LogReader(workspace_at(root).place)


def _warn(message: str) -> None:
    say(f"instar: {message}")


def runtime_at(root: Path | None, *, puts_back: bool = False, warns: bool = True) -> Runtime:
    """Opens the workspace for work; a restore that was cut off is rolled forward before anything else.

    What only reads the log (``status``, ``show``, ``dashboard``, …) shows such a restore, and leaves it to the next
    command that works.

    Args:
        root: the folder of the agent, or one below it.
        puts_back: go on where the settings broke, by those that last worked and the policy that the log records.
        warns: say so.

    Raises:
        RollbackRefused: a restore was cut off, and whoever asks may change nothing.
    """
    import os

    from instar.engine.last_settings import load_to_read
    from instar.engine.runtime import Runtime
    from instar.engine.workspace import find_workspace
    from instar.fsm.errors import RollbackRefused

    found = find_workspace(root or Path.cwd())
    settings, fault = load_to_read(found, os.environ) if puts_back else (None, "")
    runtime = Runtime(found, actor=actor(), settings=settings)
    runtime.require_initialized()
    if fault:
        if warns:
            _warn(fault)
        runtime.settings = replace(runtime.settings, policy=runtime.state.policy)
    if runtime.state.restoring is not None:
        from instar.engine.restoring.rollback import finish_begun

        if not may_change():
            runtime.close()
            raise RollbackRefused("a restore was cut off, and this reads alone: `instar run --once` finishes it")
        finish_begun(runtime)
    return runtime
