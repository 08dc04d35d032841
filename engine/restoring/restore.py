"""Moves the workspace from one recorded tree to another: for a rollback, an undo, an accepted mutation.

The order is: ``make_plan``, ``check_plan``, ``write_plan``, ``stage``; then the event that begins the restore goes into
the log; ``roll_forward``; then the event that finishes it, with what was displaced; ``clear_staging``. A process that
dies anywhere after the first event is followed by one that calls ``roll_forward`` again. Each name moves in one step of
the kernel, so every path is wholly old or wholly new, and nothing is dropped that the store does not hold.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.engine.files.beneath import Beneath, Obstacle, exchange, find, kind_at, rename_noreplace, split
from instar.fsm.errors import Diverged, EffectFailedError, RollbackRefused
from instar.fsm.events import Displaced
from instar.store.failpoints import failpoint
from instar.store.ports import Blobs

from .bytecode import forget
from .plan import Plan, Step, make_plan, read_plan, write_plan
from .plan_check import check_plan
from .staging import ATTEMPTS, Staging, fill, slot

_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR, errno.ENOENT}

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


def stage(root: Path, staging: Path, plan: Plan, blobs: Blobs) -> bool:
    """Writes every file that a plan will put in place into the staging folder, durable when it returns.

    Args:
        root: the folder to restore.
        staging: a folder of this plan alone, on the same file system as ``root``.
        plan: the plan, checked.
        blobs: the store.

    Returns:
        Whether all of it was written just now, so that ``roll_forward`` may take it as ``fresh``.

    Raises:
        BlobMissing, BlobCorrupt: the store lacks a file.
        EffectFailedError: the disk is full, or not writable; nothing was moved.
    """
    if plan.moves_nothing:
        return True
    with _explained(root), Beneath(root) as beneath:
        if not staging.exists():
            staging.parent.mkdir(parents=True, exist_ok=True)
            _check_device(beneath, staging.parent)
            fill(staging, blobs, plan)
            return True
        with Staging(staging, blobs) as slots:
            _Run(beneath, slots, plan).stage()
        return False


def roll_forward(root: Path, staging: Path, plan: Plan, blobs: Blobs, *, fresh: bool = False) -> list[Displaced]:
    """Brings the workspace to the plan's target; may be called again after any interruption.

    Args:
        root: the folder to restore.
        staging: the plan's staging folder; made if it is not there.
        plan: the plan.
        blobs: the store.
        fresh: this process has staged all of it just now and nothing was moved: what is staged, and what stands in
            the workspace, is not read again before it is swapped. What was swapped out is, in any case.

    Returns:
        What stood at a path in place of what the plan expected, in this run or an interrupted one. Its bytes are in the
        store as soon as the event that names them is, and in the staging folder until ``clear_staging``.

    Raises:
        RollbackRefused: something that is in the way cannot be moved without losing it.
        Diverged: another program keeps writing to a file.
        BlobMissing, BlobCorrupt: the store lacks a file.
        EffectFailedError: the disk is full, or not writable. Each of these leaves every path wholly old or wholly new.
    """
    if plan.moves_nothing:
        return []
    with _explained(root), Beneath(root) as beneath, Staging(staging, blobs) as slots:
        run = _Run(beneath, slots, plan, fresh=fresh)
        if not fresh:
            run.stage()
        failpoint("restore.staged")
        run.take_away()
        run.put_in_place()
        beneath.sync(slots.fd)
        displaced = slots.kept(plan)
        failpoint("restore.finished")
        if not displaced:
            slots.clear()
        return displaced


def clear_staging(staging: Path, blobs: Blobs) -> list[Path]:
    """Removes a staging folder, once the log holds the event that finished its restore.

    Returns:
        What was left in it: bytes that are not in the store, or a displaced file that somebody may still write to.
    """
    if not staging.is_dir():
        return []
    with Staging(staging, blobs) as slots:
        return slots.clear()


def _check_device(beneath: Beneath, folder: Path) -> None:
    if folder.stat().st_dev != os.fstat(beneath.fd).st_dev:
        raise RollbackRefused(
            f"the staging folder {folder} lies on another file system than {beneath.root}, so nothing can be "
            "moved from it in one step. Nothing was moved; bring it onto the same file system."
        )


class _Run:
    """One pass over a plan."""

    def __init__(self, beneath: Beneath, slots: Staging, plan: Plan, *, fresh: bool = False) -> None:
        self.beneath, self.slots, self.plan, self.fresh = beneath, slots, plan, fresh
        self.placed = plan.placed()
        _check_device(beneath, slots.folder)

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
        for folder, steps in self._by_folder(deletes=True).items():
            try:
                with self.beneath.folder(folder) as fd:
                    self._delete_all(fd, folder, steps)
            except FileNotFoundError:
                self._retire_all(steps)
            except NotADirectoryError as error:
                self._retire_all(steps)
                if error.filename not in self.placed:  # else an earlier run has put a file there
                    raise self._in_the_way(str(error.filename)) from error
        for folder in sorted(self.plan.unmake, key=lambda path: -path.count("/")):
            self._remove_folder(folder)

    def put_in_place(self) -> None:
        """Adds and changes."""
        for folder, steps in self._by_folder(deletes=False).items():
            try:
                with self.beneath.folder(folder, make=True) as fd:
                    self._place_all(fd, folder, steps)
            except NotADirectoryError as error:
                raise self._in_the_way(str(error.filename)) from error
        for folder in self.plan.make:
            try:
                with self.beneath.folder(folder, make=True):
                    pass
            except NotADirectoryError as error:
                raise self._in_the_way(str(error.filename)) from error

    def _by_folder(self, *, deletes: bool) -> dict[str, list[tuple[int, Step, bytes]]]:
        """Gives the steps of each folder, with the name in it: a folder is opened once for all of them."""
        found: dict[str, list[tuple[int, Step, bytes]]] = {}
        for index, step in enumerate(self.plan.steps):
            if (step.target is None) == deletes:
                folder, name = split(step.path)
                found.setdefault(folder, []).append((index, step, name))
        return found

    def _retire_all(self, steps: list[tuple[int, Step, bytes]]) -> None:
        for index, step, _ in steps:
            self.slots.retire(index, step)

    def _delete_all(self, fd: int, folder: str, steps: list[tuple[int, Step, bytes]]) -> None:
        self.beneath.touched.add(folder)
        for index, step, name in steps:
            failpoint("restore.step")
            if not self.fresh:
                self.slots.retire(index, step)
            with suppress(FileNotFoundError):
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) or stat.S_ISLNK(mode):  # anything else was not captured: it stays
                    rename_noreplace(fd, name, self.slots.fd, slot(index))
                    failpoint("restore.swapped")
                    self.slots.retire(index, step, only_new=self.fresh)
        forget(fd, {name for _, _, name in steps}, tidy=True)
        self._check_there(folder, fd)

    def _remove_folder(self, path: str) -> None:
        folder, name = split(path)
        self.beneath.touched.add(folder)
        with suppress(FileNotFoundError, NotADirectoryError), self.beneath.folder(folder) as fd:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                try:
                    os.rmdir(name, dir_fd=fd)
                except OSError as error:
                    if error.errno not in _NOT_EMPTY:  # what is left in it was never captured
                        raise

    def _place_all(self, fd: int, folder: str, steps: list[tuple[int, Step, bytes]]) -> None:
        self.beneath.touched.add(folder)
        for index, step, name in steps:
            failpoint("restore.step")
            self._place(fd, index, step, name)
        forget(fd, {name for _, _, name in steps}, tidy=False)
        self._check_there(folder, fd)

    def _place(self, fd: int, index: int, step: Step, name: bytes) -> None:
        for _ in range(ATTEMPTS):
            found = kind_at(fd, name) if self.fresh else find(fd, name)
            if isinstance(found, Obstacle):
                raise self._in_the_way(step.path)
            if found == step.target:
                break
            if not (self.fresh and self.slots.freshen(index)):
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
        if found is not None or not self.fresh:
            self.slots.retire(index, step, only_new=self.fresh)

    def _check_there(self, folder: str, fd: int) -> None:
        """Makes sure that a folder that was worked in still stands where it was opened.

        Raises:
            RollbackRefused: it was moved away meanwhile, with what was put into it.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            again = self.beneath.opened(folder)
            if os.path.sameopenfile(fd, again):
                self.beneath.hold(folder, again)
                return
            os.close(again)
        raise self._in_the_way(folder)

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
