"""The verbs of ``instar``, and how a command ends."""

from __future__ import annotations

import logging
import os
import select
import sys
from functools import cache

import typer
from typer.main import get_command

from instar.engine.visible import VisibleFormatter

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
    mcp,
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
from .failures import failure_of
from .output import Given, fail, say

app = typer.Typer(
    name="instar",
    help="An event-sourced state machine engine for agents that change themselves.",
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
    mcp,
):
    app.command(name=verb.__name__.rpartition(".")[2])(verb.command)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Exit codes: 0 ok, 1 error, 2 usage, 3 integrity, 4 refused or diverged, 5 gate failed, 130 interrupted.

    What goes on until Ctrl-C (run, log -f, dashboard, mcp) ends with 0 then.
    """
    if version:
        from instar.engine.version import VERSION

        typer.echo(f"instar {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(*context.get_help().split("\n"))
        raise typer.Exit(2)


app_command = cache(lambda: get_command(app))
"""The command line, compiled once in a process: that takes longer than most verbs do."""


def invoke(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; no error reaches the user as a traceback."""
    as_json = "--json" in arguments
    given = Given()
    try:
        if logging.lastResort is not None:  # our modules warn on standard error, and name files of the agent
            logging.lastResort.setFormatter(VisibleFormatter())
        code = app_command().main(args=arguments, prog_name="instar", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return fail("Interrupted", "interrupted; what was recorded stays recorded", INTERRUPTED, as_json=as_json)
    except BrokenPipeError:  # whoever reads has enough, such as `head`
        return _unread()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # as the library of the command line tells it
            return _unread()
        raise
    except Exception as error:
        return fail(*failure_of(error, given.workspace, arguments[0] if arguments else ""), as_json=as_json)
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
