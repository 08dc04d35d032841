"""Shows, beside the agent's own work, what the engine does: each state that it enters, each effect's progress."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import instar
from instar.engine.cli.live import Live


class Follow:
    """Follows the log of a running engine in a thread of its own, from its present head on."""

    def __init__(self, engine: instar.Engine) -> None:
        self._engine = engine
        self._seen = engine.status().head
        self._done = threading.Event()
        self._live = Live()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._done.wait(0.2):
            self._look()
        self._look()

    def _look(self) -> None:
        for record in self._engine.events(self._seen + 1):
            self._seen = record.seq
            if record.state_before != record.state_after:
                self._live.event(record)
        progress = self._engine.status().progress
        if progress:
            self._live.report(progress["effect"], progress["step"], progress["steps"], progress["note"])

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._live.__exit__(kind, error, trace)
