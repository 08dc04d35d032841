"""Moves the workspace from one recorded tree to another: for a rollback, an undo, an accepted mutation.

The order is: ``make_plan``, ``check_plan``, ``write_plan``, ``stage``; then the event that begins the restore goes into
the log; ``roll_forward``; then the event that finishes it, with what was displaced; ``clear_staging``. A process that
dies anywhere after the first event is followed by one that calls ``roll_forward`` again. Each name moves in one step of
the kernel, so every path is wholly old or wholly new, and nothing is dropped that the store does not hold.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.fsm.errors import Diverged, EffectFailedError, RollbackRefused
from instar.fsm.events import Displaced
from instar.store.failpoints import failpoint
from instar.store.ports import Blobs

from .beneath import Beneath, Obstacle, exchange, find, rename_noreplace, split
from .bytecode import forget
from .plan import Plan, Step, make_plan, read_plan, write_plan
from .plan_check import check_plan
from .staging import ATTEMPTS, Staging, slot

__all__ = [
    "Plan",
    "Step",
    "check_plan",
    "clear_staging",
    "make_plan",
    "read_plan",
    "roll_forward",
    "stage",
    "write_plan",
]


def stage(root: Path, staging: Path, plan: Plan, blobs: Blobs) -> None:
    """Writes every file that a plan will put in place into the staging folder, durable when it returns.

    Args:
        root: the folder to restore.
        staging: a folder of this plan alone, on the same file system as ``root``.
        plan: the plan, checked.
        blobs: the store.

    Raises:
        BlobMissing, BlobCorrupt: the store lacks a file.
        EffectFailedError: the disk is full, or not writable; nothing was moved.
    """
    with _explained(root), Beneath(root) as beneath, Staging(staging, blobs) as slots:
        _Run(beneath, slots, plan).stage()


def roll_forward(root: Path, staging: Path, plan: Plan, blobs: Blobs) -> list[Displaced]:
    """Brings the workspace to the plan's target; may be called again after any interruption.

    Returns:
        What stood at a path in place of what the plan expected, in this run or an interrupted one. Its bytes are in the
        store as soon as the event that names them is, and in the staging folder until ``clear_staging``.

    Raises:
        RollbackRefused: something that is in the way cannot be moved without losing it.
        Diverged: another program keeps writing to a file.
        BlobMissing, BlobCorrupt: the store lacks a file.
        EffectFailedError: the disk is full, or not writable. Each of these leaves every path wholly old or wholly new.
    """
    with _explained(root), Beneath(root) as beneath, Staging(staging, blobs) as slots:
        run = _Run(beneath, slots, plan)
        run.stage()
        failpoint("restore.staged")
        run.take_away()
        run.put_in_place()
        beneath.sync()
        slots.sync()
        displaced = slots.kept(plan)
        failpoint("restore.finished")
        if not displaced:
            slots.clear()
        return displaced


def clear_staging(staging: Path, blobs: Blobs) -> list[Path]:
    """Removes a staging folder, once the log holds the event that finished its restore.

    Returns:
        What was left in it because its bytes are not in the store; no file of a finished restore should be.
    """
    if not staging.is_dir():
        return []
    with Staging(staging, blobs) as slots:
        return slots.clear()


class _Run:
    """One pass over a plan."""

    def __init__(self, beneath: Beneath, slots: Staging, plan: Plan) -> None:
        self.beneath, self.slots, self.plan = beneath, slots, plan
        self.placed = plan.placed()
        if os.fstat(slots.fd).st_dev != os.fstat(beneath.fd).st_dev:
            raise RollbackRefused(
                f"the staging folder {slots.folder} lies on another file system than {beneath.root}, so nothing can be "
                "moved from it in one step. Nothing was moved; bring it onto the same file system."
            )

    def stage(self) -> None:
        """Stages what is neither ready nor in place."""
        self.slots.write(
            [
                (index, step)
                for index, step in enumerate(self.plan.steps)
                if step.target is not None and index not in self.slots and not self._in_place(step)
            ]
        )

    def _in_place(self, step: Step) -> bool:
        folder, name = split(step.path)
        with suppress(FileNotFoundError, NotADirectoryError), self.beneath.folder(folder) as fd:
            return find(fd, name) == step.target
        return False

    def take_away(self) -> None:
        """Deletes and removes emptied folders, first of all: a file may take the place of a folder, or vice versa."""
        for index, step in enumerate(self.plan.steps):
            if step.target is None:
                failpoint("restore.step")
                self._delete(index, step)
        for folder in sorted(self.plan.unmake, key=lambda path: -path.count("/")):
            self._remove_folder(folder)

    def put_in_place(self) -> None:
        """Adds and changes."""
        for index, step in enumerate(self.plan.steps):
            if step.target is not None:
                failpoint("restore.step")
                try:
                    self._place(index, step)
                except NotADirectoryError as error:
                    raise self._in_the_way(str(error.filename)) from error
        for folder in self.plan.make:
            try:
                with self.beneath.folder(folder, make=True):
                    pass
            except NotADirectoryError as error:
                raise self._in_the_way(str(error.filename)) from error

    def _delete(self, index: int, step: Step) -> None:
        self.slots.retire(index, step)
        folder, name = split(step.path)
        self.beneath.touched.add(folder)
        try:
            with self.beneath.folder(folder) as fd:
                with suppress(FileNotFoundError):
                    mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):  # anything else was not captured: it stays
                        rename_noreplace(fd, name, self.slots.fd, slot(index))
                        failpoint("restore.swapped")
                        self.slots.retire(index, step)
                forget(fd, name, tidy=True)
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            if error.filename not in self.placed:  # else an earlier run has put a file there
                raise self._in_the_way(str(error.filename)) from error

    def _remove_folder(self, path: str) -> None:
        folder, name = split(path)
        self.beneath.touched.add(folder)
        with suppress(FileNotFoundError, NotADirectoryError), self.beneath.folder(folder) as fd:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                with suppress(OSError):  # not empty: what is left in it was never captured
                    os.rmdir(name, dir_fd=fd)

    def _place(self, index: int, step: Step) -> None:
        folder, name = split(step.path)
        with self.beneath.folder(folder, make=True) as fd:
            self.beneath.touched.add(folder)
            for _ in range(ATTEMPTS):
                found = find(fd, name)
                if isinstance(found, Obstacle):
                    raise self._in_the_way(step.path)
                if found == step.target:
                    break
                self.slots.ready(index, step)
                with suppress(FileExistsError, FileNotFoundError):  # came or went since: look again
                    if found is None:
                        rename_noreplace(self.slots.fd, slot(index), fd, name)
                    else:
                        exchange(self.slots.fd, slot(index), fd, name)
                    failpoint("restore.swapped")
                    break
            else:
                raise Diverged(f"{step.path} comes and goes; stop the program that writes it, then start again.")
            self.slots.retire(index, step)
            forget(fd, name, tidy=False)

    def _in_the_way(self, path: str) -> RollbackRefused:
        return RollbackRefused(
            f"{path or '.'} in {self.beneath.root} is not what the plan found there: a link, a folder or a device is "
            "in the way of the restore, and was left alone. Move it away and start again: it goes on where it stopped."
        )


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EffectFailedError(
            f"the restore of {root} stopped: {error}. Every file is wholly old or wholly new. Free or unlock what it "
            "names, then start again: it goes on where it stopped."
        ) from error
