"""``instar run``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import Json, Root, emit, say

if TYPE_CHECKING:
    from instar.engine.worker import Worker


def _ending(worker: Worker, ended: list[int]) -> Callable[[int, object], None]:
    """Makes a handler of signals: the first has a worker end after the effect in progress, another one at once.

    Args:
        worker: what is to end.
        ended: gets the number of the first signal.
    """
    from instar.engine.shell_executor import TERMINATED, Terminated

    def end(number: int, _frame: object) -> None:
        if ended:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(TERMINATED)
        ended.append(number)
        worker.stop()
        again = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        with suppress(OSError):  # not by the stream, which may be in the midst of a line
            os.write(2, f"ending after the effect in progress; {again} once more ends it at once\n".encode())

    return end


def run_once(root: Path | None, *, quiet: bool) -> dict[str, int]:
    """Consumes what waits and shows it; gives the counts.

    SIGTERM ends it after the effect in progress, a training at its next step, with exit code 143.
    """
    from instar.engine.runtime import Runtime
    from instar.engine.shell_executor import TERMINATED
    from instar.engine.worker import Worker
    from instar.engine.workspace import find_workspace

    from .live import Live

    with closing(Runtime(find_workspace(root or Path.cwd()), actor="worker")) as runtime:
        runtime.require_initialized()
        first = runtime.state
        with Live() as live:
            if not quiet:
                runtime.progress.listen(live.report)
            worker = Worker(runtime, None if quiet else live.event)
            ended: list[int] = []
            earlier = signal.signal(signal.SIGTERM, _ending(worker, ended))
            try:
                # What a plugin prints is no part of the envelope.
                with redirect_stdout(sys.stderr) if quiet else nullcontext():
                    effects = worker.run_once()
            finally:
                signal.signal(signal.SIGTERM, earlier)
        last = runtime.state
        if ended:
            say(f"ended by SIGTERM at event {last.head}; what is owed stays in the log, for the next run")
            raise typer.Exit(TERMINATED)
    return {
        "effects": effects,
        "events": last.head - first.head,
        "cycles": last.cycles - first.cycles,
        "head": last.head,
    }


def command(
    once: Annotated[
        bool, typer.Option("--once", help="Consume what waits, run the cycles that follow, and end.")
    ] = False,
    workspace: Root = None,
    json: Json = False,
) -> None:
    """Run the worker: watch, diff, embed, flag, train, reward, plan. Ends on Ctrl-C; what is owed stays in the log.

    Ctrl-C or SIGTERM ends it after the effect in progress; the same once more ends it at once.
    """
    if once:
        counts = run_once(workspace, quiet=json)
        text = f"{counts['events']} events in {counts['cycles']} cycles; the log is at event {counts['head']}"
        emit("run", counts, as_json=json, lines=[text])
        return
    from instar.engine.runtime import Runtime
    from instar.engine.worker import Worker
    from instar.engine.workspace import find_workspace

    from .live import Live
    from .own_output import refuse_watched_output

    root = find_workspace(workspace or Path.cwd())
    with closing(Runtime(root, actor="worker")) as runtime:
        refuse_watched_output(root, runtime.settings.policy.capture)
        with Live() as live:
            runtime.progress.listen(live.report)
            worker = Worker(runtime, live.event)
            end = _ending(worker, [])
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, end)
            worker.run_forever(lambda: say(f"watching {root}; Ctrl-C ends it after the effect in progress"))
        head = runtime.reader.head()
    emit("run", {"head": head}, as_json=json, lines=[f"stopped at event {head}"])
