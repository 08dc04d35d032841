"""What an error is to whoever asked: its kind, a sentence, an exit code. None reaches them as a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from instar.fsm.errors import GateFailed, InstarError, LogCorrupt

CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]
"""``ClickException``: of the package click with an older typer, of typer's own copy with a newer one."""
assert CommandLineError.__name__ == "ClickException"


class Failure(NamedTuple):
    """An error, told.

    Attributes:
        kind: the class of the error.
        message: what happened, where, and what to do next.
        exit_code: what a command ends with.
        details: what a program may want to know.
        by_lines: the message is several lines on purpose.
    """

    kind: str
    message: str
    exit_code: int
    details: Mapping[str, Any] | None = None
    by_lines: bool = False


def failure_of(error: Exception, root: Path | None, verb: str = "") -> Failure:
    """Tells an error; the traceback of a bug goes to a file of the workspace that was meant.

    Args:
        error: what ended the command.
        root: the folder that the command line named.
        verb: the first word of the command line.
    """
    match error:
        case InstarError():
            by_lines = isinstance(error, GateFailed | LogCorrupt)
            return Failure(type(error).__name__, str(error), error.exit_code, error.details, by_lines)
        case CommandLineError():
            return Failure("UsageError", _usage(error, verb), 2)
        case OSError():  # a disk or a right of this machine: no bug, and nothing that a log can mend
            told = f"{error}. What was recorded stays recorded: mend this, then go on."
            return Failure(type(error).__name__, told, 1)
    return Failure(type(error).__name__, f"{error}{_keep_traceback(error, root)}", 1)


def _usage(error: Exception, verb: str) -> str:
    """Tells what was wrong on the command line, and which help to read."""
    message = str(getattr(error, "format_message", error.__str__)()).rstrip()
    context = getattr(error, "ctx", None)
    told_by_verb = context is None and verb.isalpha()  # the library does not say whose option lacks a value
    command = context.command_path if context is not None else f"instar {verb}" if told_by_verb else "instar"
    stop = "" if message.endswith((".", "?", "!")) else "."
    option = getattr(error, "option_name", None)
    behind = f" Options stand behind the verb: `instar VERB {option}`." if option and " " not in command else ""
    return f"{message}{stop}{behind} See `{command} -h`."


def _keep_traceback(error: Exception, root: Path | None) -> str:
    """Writes the traceback into the workspace that was meant; says where it is."""
    from instar.engine.workspace import HOME, find_workspace

    try:
        path = find_workspace(root or Path.cwd()) / HOME / "errors.log"
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)) + "\n")
    except (InstarError, OSError):
        return ". This should not happen; please report it."
    return f". This should not happen; details are in {path}."
