"""Stages what a rollback is likely to need before everything is looked at: the disk works while the look goes on.

The look nearly always finds what the log says already. What was staged is then what the plan needs; else it is thrown
away, and the plan's own is staged.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from instar.fsm.errors import InstarError
from instar.fsm.words import Digest
from instar.store.ports import Blobs

from .plan import Plan, plan_digest
from .restore import begin_staging

FILES_MIN, FILES_MAX = 16, 512
"""Fewer are staged sooner than a thread is at work; to stage more, and in vain, would cost more than it may save."""


class Ahead:
    """What is staged for a plan that is not yet certain.

    Args:
        root: the folder to restore.
        parent: where staging folders lie; nothing of this plan is there.
        plan: the likely plan; None stages nothing.
        blobs: the store.
    """

    def __init__(self, root: Path, parent: Path, plan: Plan | None, blobs: Blobs) -> None:
        self._staging: Path | None = None
        if plan is None or not FILES_MIN <= sum(step.target is not None for step in plan.steps) < FILES_MAX:
            return
        self._content = plan_digest(plan)
        with suppress(InstarError):  # the same is met again, and told, once the plan is certain
            settle = begin_staging(root, parent / self._content, plan, blobs)
            self._staging = parent / self._content
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="instar-stage")
            self._running: Future[None] = self._thread.submit(settle)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def take(self, content: Digest) -> bool:
        """Says whether all that the plan needs lies in its staging folder, durable; else nothing of it does.

        Raises:
            Exception: what ``stage`` raises.
        """
        if self._staging is None or self._content != content:
            self._drop()
            return False
        self._staging = None
        self._thread.shutdown()
        self._running.result()
        return True

    def _drop(self) -> None:
        if self._staging is not None:
            self._thread.shutdown()
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
