"""The staging folder of one restore: what waits to be put in place, and what was found in its stead.

By name, for step 7 of the plan: ``7.part`` is being written; ``7`` is ready to be swapped in, or was just swapped out;
``7.old`` is a link that a file system without RENAME_EXCHANGE needs; ``7.kept.<digest>`` holds what nobody expected.
Only a ``.part`` is ever dropped unread; the kept ones stay until the event that names them is in the log.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from instar.fsm.errors import Diverged, RollbackRefused
from instar.fsm.events import Displaced
from instar.fsm.words import Digest
from instar.store.failpoints import failpoint
from instar.store.ports import Blobs
from instar.store.trees import Entry

from .beneath import OPEN_FOLDER, Obstacle, find, names, read
from .plan import Plan, Step
from .plan_check import checked_content

ATTEMPTS = 8

_KEPT = re.compile(rb"(\d+)\.kept\.[0-9a-f]{64}")


class Staging:
    """The staging folder, held open; made if it is missing."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.blobs = blobs
        self.fd = os.open(folder, OPEN_FOLDER)

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def __contains__(self, index: int) -> bool:
        return self._status(slot(index)) is not None

    def write(self, steps: Iterable[tuple[int, Step]]) -> None:
        """Writes the targets of steps, durable when it returns; all or none of them are ready."""
        written: list[bytes] = []
        try:
            for index, step in steps:
                if step.target is not None:
                    failpoint("restore.part")
                    written.append(slot(index))
                    self._write_part(
                        slot(index) + b".part", step.target, checked_content(self.blobs, step.path, step.target)
                    )
            for name in written:
                self._sync(name + b".part")
        except BaseException:
            for name in written:  # gives the room back: the disk may be full
                with suppress(OSError):
                    os.unlink(name + b".part", dir_fd=self.fd)
            raise
        for name in written:
            os.rename(name + b".part", name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self.sync()

    def ready(self, index: int, step: Step) -> None:
        """Makes sure that the slot of a step holds its target, with a fresh time."""
        self.retire(index, step, only_old=True)
        found = find(self.fd, slot(index))
        target = step.target
        if not isinstance(found, Entry) or target is None or (found.kind, found.blob) != (target.kind, target.blob):
            self.retire(index, step)
            self.write([(index, step)])
        os.utime(slot(index), dir_fd=self.fd, follow_symlinks=False)

    def retire(self, index: int, step: Step, *, only_old: bool = False) -> None:
        """Empties the slot of a step: drops what the store holds, keeps what nobody expected.

        Raises:
            RollbackRefused: something that is neither file nor link was swapped out.
        """
        known = {entry.blob for entry in (step.expected, step.target) if entry is not None}
        for name in [slot(index) + b".old"] + ([] if only_old else [slot(index)]):
            for _ in range(ATTEMPTS):
                before = self._status(name)
                found = find(self.fd, name)
                if before is None or found is None:
                    break
                if isinstance(found, Obstacle):
                    raise RollbackRefused(
                        f"a {found.kind} came to stand at {step.path} while it was restored; it is now at "
                        f"{self.folder / os.fsdecode(name)}. Move it where it belongs, then start again."
                    )
                if found.blob not in known or not self.blobs.has(found.blob):
                    self._keep(index, name)
                elif self._status(name) == before:  # whoever has it open has not written to it since
                    os.unlink(name, dir_fd=self.fd)
            else:
                raise Diverged(
                    f"{step.path} is written to again and again; stop the program that does, then start again."
                )

    def kept(self, plan: Plan) -> list[Displaced]:
        """Puts the bytes that nobody expected into the store and names them, those of an earlier run as well."""
        found = []
        for name in names(self.fd):
            match = _KEPT.fullmatch(name)
            if match and int(match[1]) < len(plan.steps):
                index = int(match[1])
                found.append(Displaced(plan.steps[index].path, self._keep(index, name)))
        return found

    def clear(self) -> list[Path]:
        """Removes what the store holds, and the folder if it is empty then; returns what was left."""
        left = []
        for name in names(self.fd):
            before = self._status(name)
            found = find(self.fd, name)
            stored = isinstance(found, Entry) and self.blobs.has(found.blob) and self._status(name) == before
            if name.endswith(b".part") or stored:
                os.unlink(name, dir_fd=self.fd)
            else:
                left.append(self.folder / os.fsdecode(name))
        if not left:
            with suppress(OSError):
                self.folder.rmdir()
        return left

    def sync(self) -> None:
        """Makes the names in the folder durable."""
        os.fsync(self.fd)

    def _keep(self, index: int, name: bytes) -> Digest:
        """Sets bytes aside under their digest, which it returns."""
        digest = self.blobs.put(read(self.fd, name))
        failpoint("restore.kept")
        os.rename(name, b"%d.kept.%s" % (index, digest.encode()), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        return digest

    def _write_part(self, name: bytes, target: Entry, content: bytes) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)
        if target.kind == "link":
            os.symlink(content, name, dir_fd=self.fd)
            return
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
            file.flush()
            os.fchmod(fd, target.mode)

    def _sync(self, name: bytes) -> None:
        status = self._status(name)
        if status is None or stat.S_ISLNK(status[0]):
            return
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _status(self, name: bytes) -> tuple[int, ...] | None:
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def slot(index: int) -> bytes:
    """Names the slot of a step."""
    return b"%d" % index
