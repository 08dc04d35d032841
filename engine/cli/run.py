"""``instar run``."""

from __future__ import annotations

import signal
import sys
from contextlib import closing, nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from .output import Json, Root, emit, say


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

            def end(number: int, _frame: object) -> None:
                ended.append(number)
                worker.stop()

            earlier = signal.signal(signal.SIGTERM, end)
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
    """Run the worker: watch, diff, embed, flag, train, reward, plan. Ends on Ctrl-C; what is owed stays in the log."""
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
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: worker.stop())
            worker.run_forever(lambda: say(f"watching {root}; Ctrl-C ends it after the effect in progress"))
        head = runtime.reader.head()
    emit("run", {"head": head}, as_json=json, lines=[f"stopped at event {head}"])
