"""The staging folder of one restore: what waits to be put in place, and what was found in its stead.

By name, for step 7 of the plan: ``7.part`` is being written; ``7`` is ready to be swapped in, or was just swapped out;
``7.old`` is a link that a file system without RENAME_EXCHANGE needs; ``7.kept.<digest>`` holds what nobody expected.
Only a ``.part`` is ever dropped unread; the kept ones stay until the event that names them is in the log. A folder that
is being filled for the first time is a ``<plan>.part`` itself, and gets its name when all in it is durable. One in
which nothing is left but what the store holds may become a ``.spent``, to be removed beside what goes on.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from instar.engine.files.beneath import Obstacle, find, names, read
from instar.engine.files.flush import sync_names
from instar.engine.files.held_open import look_closely
from instar.engine.files.open_beneath import OPEN_FOLDER
from instar.engine.files.spent import FILES_MIN, SLOW_S, SUFFIX, remove_beside, remove_left
from instar.fsm.errors import Diverged, RollbackRefused
from instar.fsm.events import Displaced
from instar.fsm.words import Digest
from instar.store.durable import sync_folder
from instar.store.failpoints import failpoint
from instar.store.ports import Blobs
from instar.store.trees import Entry

from .plan import Plan, Step
from .writing import Writing, write_all

ATTEMPTS = 8

_KEPT = re.compile(rb"(\d+)\.kept\.[0-9a-f]{64}")
_PART = ".part"

Steps = list[tuple[int, Step]]


class Staging:
    """The staging folder, held open; made if it is missing."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.blobs = blobs
        self.fd = os.open(folder, OPEN_FOLDER)
        self._spent: list[bytes] = []
        """Swapped out, and neither needed nor written to any more."""

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def __contains__(self, index: int) -> bool:
        return self._status(slot(index)) is not None

    def write(self, steps: Iterable[tuple[int, Step]]) -> None:
        """Writes the targets of steps, durable when it returns; all or none of them are ready."""
        wanted = [(index, step) for index, step in steps if step.target is not None]
        if not wanted:
            return
        try:
            _write(self.fd, self.blobs, wanted, lambda index: slot(index) + b".part")
            sync_names(self.fd, [slot(index) + b".part" for index, step in wanted if not _is_link(step)])
        except BaseException:
            for index, _ in wanted:  # gives the room back: the disk may be full
                with suppress(OSError):
                    os.unlink(slot(index) + b".part", dir_fd=self.fd)
            raise
        for index, _ in wanted:
            os.rename(slot(index) + b".part", slot(index), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self.sync()

    def freshen(self, index: int) -> bool:
        """Gives a slot that was just written a fresh time; says whether it is there."""
        try:
            os.utime(slot(index), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def ready(self, index: int, step: Step) -> None:
        """Makes sure that the slot of a step holds its target, with a fresh time."""
        self.retire(index, step, only_old=True)
        found = find(self.fd, slot(index))
        target = step.target
        if not isinstance(found, Entry) or target is None or (found.kind, found.blob) != (target.kind, target.blob):
            self.retire(index, step)
            self.write([(index, step)])
        os.utime(slot(index), dir_fd=self.fd, follow_symlinks=False)

    def retire(self, index: int, step: Step, *, only_old: bool = False, only_new: bool = False) -> None:
        """Empties the slot of a step: drops what the store holds, keeps what nobody expected.

        Args:
            index: the number of the step.
            step: the step.
            only_old: leave the slot itself as it is.
            only_new: look at the slot alone. What the store holds is dropped later, by ``clear``.

        Raises:
            RollbackRefused: something that is neither file nor link was swapped out.
        """
        known = {entry.blob for entry in (step.expected, step.target) if entry is not None}
        for name in ([] if only_new else [slot(index) + b".old"]) + ([] if only_old else [slot(index)]):
            for _ in range(ATTEMPTS):
                before = self._status(name)
                if before is None:
                    break
                found, held = look_closely(self.fd, name, before[0])
                if found is None:
                    break
                if isinstance(found, Obstacle):
                    raise RollbackRefused(
                        f"a {found.kind} came to stand at {step.path} while it was restored; it is now at "
                        f"{self.folder / os.fsdecode(name)}. Move it where it belongs, then start again."
                    )
                if found.blob not in known or not self.blobs.has(found.blob) or held:
                    self._keep(index, name)
                elif self._status(name) == before:  # whoever had it open did not write to it since
                    if only_new:
                        self._spent.append(name)
                        break
                    os.unlink(name, dir_fd=self.fd)
            else:
                raise Diverged(
                    f"{step.path} is written to again and again; stop the program that does, then start again."
                )

    def kept(self, plan: Plan) -> list[Displaced]:
        """Puts the bytes that nobody expected into the store and names them, those of an earlier run as well.

        A file that is kept because somebody has it open, and that was not written to yet, is not named.
        """
        found = []
        for name in names(self.fd):
            match = _KEPT.fullmatch(name)
            if match and int(match[1]) < len(plan.steps):
                step = plan.steps[int(match[1])]
                digest = self._keep(int(match[1]), name)
                if all(entry is None or entry.blob != digest for entry in (step.expected, step.target)):
                    found.append(Displaced(step.path, digest))
        return found

    def clear(self) -> list[Path]:
        """Removes what the store holds and nobody may still write to, and the folder if it is empty then.

        Returns:
            What was left.
        """
        if self._drop_spent():
            return []
        left = []
        for name in names(self.fd):
            before = self._status(name)
            found, held = look_closely(self.fd, name, before[0] if before else 0)
            stored = isinstance(found, Entry) and self.blobs.has(found.blob) and not held
            stored = stored and self._status(name) == before
            if name.endswith(b".part") or stored:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self.fd)
            else:
                left.append(self.folder / os.fsdecode(name))
        if not left:
            with suppress(OSError):
                self.folder.rmdir()
        return left

    def _drop_spent(self) -> bool:
        """Removes what was swapped out and is not needed; says whether the folder is gone, and all in it."""
        spent, self._spent = self._spent, []
        for done, name in enumerate(spent, 1):
            began = time.perf_counter()
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.fd)
            slow = time.perf_counter() - began > SLOW_S and len(spent) - done >= FILES_MIN
            if slow and set(names(self.fd)) == set(spent[done:]):
                gone = self.folder.with_name(f"{self.folder.name}.{os.fstat(self.fd).st_ino}{SUFFIX}")
                with suppress(OSError):
                    self.folder.rename(gone)
                    remove_beside(gone)
                    return True
        return False

    def sync(self) -> None:
        """Makes the names in the folder durable."""
        os.fsync(self.fd)

    def _keep(self, index: int, name: bytes) -> Digest:
        """Sets bytes aside under their digest, which it returns."""
        digest = self.blobs.put(read(self.fd, name))
        failpoint("restore.kept")
        os.rename(name, b"%d.kept.%s" % (index, digest.encode()), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        return digest

    def _status(self, name: bytes) -> tuple[int, ...] | None:
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def fill(folder: Path, blobs: Blobs, plan: Plan) -> None:
    """Writes all that a plan puts in place into its staging folder, which is not there yet; durable when it returns.

    Raises:
        OSError: the disk is full, or not writable; nothing is left.
        BlobMissing, BlobCorrupt: the store lacks a file; nothing is left.
    """
    part = folder.with_name(folder.name + _PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    steps = [(index, step) for index, step in enumerate(plan.steps) if step.target is not None]
    try:
        fd = os.open(part, OPEN_FOLDER)
        try:
            _write(fd, blobs, steps, slot)
            sync_names(fd, [slot(index) for index, step in steps if not _is_link(step)])
        finally:
            os.close(fd)
        part.rename(folder)
        sync_folder(folder.parent)
    except BaseException:  # gives the room back: the disk may be full
        shutil.rmtree(part, ignore_errors=True)
        raise


def sweep(parent: Path, blobs: Blobs) -> None:
    """Clears what restores have left that died before they were begun. Only for whoever holds the agent's files.

    What is in there and not in the store stays.
    """
    with suppress(FileNotFoundError):
        for left in list(parent.iterdir()):
            if left.name.endswith((_PART, SUFFIX)):
                remove_left(left)
            elif left.is_dir() and not left.is_symlink():
                with Staging(left, blobs) as staging:
                    staging.clear()


def _write(fd: int, blobs: Blobs, steps: Steps, name_of: Callable[[int], bytes]) -> None:
    """Writes the targets of steps into an open folder, each under the name that its number gets."""
    places = [Writing("", name_of(index), step.path, step.target) for index, step in steps if step.target is not None]
    write_all(fd, blobs, places, lambda: failpoint("restore.part"))


def _is_link(step: Step) -> bool:
    return step.target is not None and step.target.kind == "link"


def slot(index: int) -> bytes:
    """Names the slot of a step."""
    return b"%d" % index
