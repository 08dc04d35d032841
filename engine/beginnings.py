"""How often the effect that is owed was begun in a row without coming to an end.

An effect that takes the worker with it (the kernel kills it for want of memory, a gate kills its parent) leaves the log
as it was, so the next worker would run it again, for ever. A small file beside the log counts such beginnings; it is no
fact: losing it loses the count alone. What came to an end, in whatever way, and a worker that was asked to end, count
for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from instar.fsm.errors import EffectFailedError
from instar.fsm.react import Effect, EffectName

from .training.saved import steps_saved
from .workspace import Workspace

logger = logging.getLogger("instar.engine")

BEGINNINGS_MAX = 3
"""An effect that was begun so often without an end is recorded as failed."""
_UNCOUNTED: Final = (EffectName.START_CYCLE, EffectName.ROLL_FORWARD)
"""Their failure cannot be recorded: a cycle is none before it begins, and a restore has to be finished."""


class Begun(Struct, frozen=True):
    """What the file says: the effect, how often it was begun, and how far its training was the last time."""

    effect: str
    answers: int
    count: int
    steps: int


class Beginning:
    """One beginning of an effect.

    Args:
        workspace: where the file lies.
        effect: what is about to be run.
    """

    def __init__(self, workspace: Workspace, effect: Effect) -> None:
        self._path = workspace.begun
        self._effect = effect
        self._steps = 0
        if effect.name is EffectName.TRAIN:
            self._steps = steps_saved(workspace.scratch / f"train-{effect.answers}")
        self._earlier = self._count()

    def _count(self) -> int:
        try:
            begun = msgspec.json.decode(self._path.read_bytes(), type=Begun)
        except (OSError, msgspec.MsgspecError):
            return 0
        if (begun.effect, begun.answers) != self._effect or self._steps > begun.steps:
            return 0  # another effect, or a training that went on since
        return begun.count

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts this beginning until the block ends; only a process that dies in it leaves the count."""
        if self._effect.name in _UNCOUNTED:
            yield
            return
        if self._earlier < BEGINNINGS_MAX:
            self._write()
        try:
            yield
        except BaseException:
            if self._earlier < BEGINNINGS_MAX:
                forget(self._path)
            raise  # else the failure could not be recorded: the next run records it
        forget(self._path)

    def check(self) -> None:
        """Makes sure that the effect may be tried once more.

        Raises:
            EffectFailedError: each of the last tries ended with the worker.
        """
        if self._earlier >= BEGINNINGS_MAX:
            raise EffectFailedError(
                f"the worker ended each of the {self._earlier} times that {self._effect.name} for event "
                f"{self._effect.answers} ran, without a word: it was killed, such as by the kernel for want of memory, "
                "or by what the effect runs. It is not tried again."
            )

    def _write(self) -> None:
        content = Begun(self._effect.name, self._effect.answers, self._earlier + 1, self._steps)
        staged = self._path.with_suffix(".new")
        try:
            staged.write_bytes(msgspec.json.encode(content))
            staged.replace(self._path)
        except OSError as error:
            logger.debug("a beginning was not counted: %s", error)


def forget(path: Path) -> None:
    """Begins the count anew."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("the count of beginnings stays: %s", error)
