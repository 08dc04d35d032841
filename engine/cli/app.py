"""The verbs of ``instar``, and how a command ends."""

from __future__ import annotations

import logging
import os
import select
import sys
import traceback
from functools import cache
from pathlib import Path

import typer
from typer.main import get_command

from instar.engine.visible import VisibleFormatter
from instar.fsm.errors import GateFailed, InstarError, LogCorrupt

from . import (
    INTERRUPTED,
    anchor,
    dashboard,
    dataset,
    diff,
    doctor,
    drift,
    erase,
    eval,
    export,
    feedback,
    gc,
    init,
    lineage,
    log,
    mutate,
    replay,
    restore,
    rollback,
    run,
    search,
    show,
    snapshot,
    status,
    taint,
    train,
    undo,
    verify,
    why,
)
from .output import Given, fail

CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]
"""``ClickException``: of the package click with an older typer, of typer's own copy with a newer one."""
assert CommandLineError.__name__ == "ClickException"

app = typer.Typer(
    name="instar",
    help="An event-sourced state machine engine for agents that change themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (
    init,
    run,
    status,
    log,
    show,
    why,
    taint,
    feedback,
    train,
    dataset,
    mutate,
    snapshot,
    diff,
    rollback,
    undo,
    restore,
    replay,
    verify,
    anchor,
    export,
    erase,
    search,
    lineage,
    eval,
    gc,
    drift,
    doctor,
    dashboard,
):
    app.command(name=verb.__name__.rpartition(".")[2])(verb.command)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Exit codes: 0 ok, 1 error, 2 usage, 3 integrity, 4 refused or diverged, 5 gate failed, 130 interrupted.

    What goes on until Ctrl-C (run, log -f, dashboard) ends with 0 then.
    """
    if version:
        from instar.engine.version import VERSION

        typer.echo(f"instar {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_command = cache(lambda: get_command(app))
"""The command line, compiled once in a process: that takes longer than most verbs do."""


def invoke(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; no error reaches the user as a traceback."""
    as_json = "--json" in arguments
    given = Given()
    try:
        if logging.lastResort is not None:  # our modules warn on standard error, and name files of the agent
            logging.lastResort.setFormatter(VisibleFormatter())
        code = _command().main(args=arguments, prog_name="instar", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except InstarError as error:
        name, by_lines = type(error).__name__, isinstance(error, GateFailed | LogCorrupt)
        return fail(name, str(error), error.exit_code, as_json=as_json, details=error.details, by_lines=by_lines)
    except CommandLineError as error:
        message = getattr(error, "format_message", error.__str__)()
        return fail("UsageError", f"{message} See `instar -h`.", 2, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return fail("Interrupted", "interrupted; what was recorded stays recorded", INTERRUPTED, as_json=as_json)
    except BrokenPipeError:  # whoever reads has enough, such as `head`
        return _unread()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # as the library of the command line tells it
            return _unread()
        raise
    except OSError as error:  # a disk or a right of this machine: no bug, and nothing that a log can mend
        return fail(
            type(error).__name__,
            f"{error}. What was recorded stays recorded: mend this, then go on.",
            1,
            as_json=as_json,
        )
    except Exception as error:  # a bug of ours: the user gets a sentence, the file gets the traceback
        return fail(type(error).__name__, f"{error}{_keep_traceback(given.workspace)}", 1, as_json=as_json)
    return int(code or 0)


def _unread() -> int:
    """Ends without a word: 0 where whoever read standard output has enough, 1 where another pipe broke."""
    try:
        output = os.dup(1)
    except OSError:
        return 1
    poll = select.poll()
    poll.register(output, 0)
    enough = any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0))
    os.close(output)
    if enough:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0 if enough else 1


def _keep_traceback(root: Path | None) -> str:
    """Writes the traceback into the workspace that was meant; says where it is."""
    from instar.engine.workspace import HOME, find_workspace

    try:
        path = find_workspace(root or Path.cwd()) / HOME / "errors.log"
        with path.open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc() + "\n")
    except (InstarError, OSError):
        return ". This should not happen; please report it."
    return f". This should not happen; details are in {path}."
