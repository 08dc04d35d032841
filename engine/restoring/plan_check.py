"""Looks, before anything moves, whether a plan can be carried out without losing a byte."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from instar.engine.files.beneath import Beneath, Obstacle, find, names, split
from instar.engine.files.open_beneath import OPEN_FOLDER
from instar.fsm.errors import BlobCorrupt, BlobMissing, Diverged, EffectFailedError, InstarError, RollbackRefused
from instar.store.paths import encode_path, parent_of
from instar.store.ports import Blobs
from instar.store.trees import Entry

from .bytecode import CACHE, source_of
from .plan import Plan, Step

NAMED_MAX = 3
LINK_BYTES_MAX = 4095
_CAME_OR_WENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL}
"""The last is what a link says that is none any more."""


def check_plan(root: Path, plan: Plan, blobs: Blobs, *, contents: bool = True) -> None:
    """Verifies every blob that a plan needs, and every file that it would displace. Nothing is written.

    What already stands as the plan would have it is no divergence.

    Args:
        root: the folder to restore.
        plan: the plan.
        blobs: the store.
        contents: whether to read what is to be put in place; not needed before it is staged, which reads it too.

    Raises:
        BlobMissing: a file to restore, or one to displace, is not in the store.
        BlobCorrupt: a file to restore does not hash to its name, or is no such file as the plan says.
        RollbackRefused: something that the plan does not know is in the way, or a folder cannot be written to.
        Diverged: files changed since the plan was made.
    """
    for step in plan.steps:
        if contents and step.target is not None:
            checked_content(blobs, step.path, step.target)
        if step.expected is not None and not blobs.has(step.expected.blob):
            raise BlobMissing(
                f"{step.path} holds blob {step.expected.blob}, which is not in the store: it could not be brought "
                "back. Nothing was moved; capture the workspace and plan again."
            )
    with _explained(root), Beneath(root) as beneath:
        check = _Check(beneath, plan)
        for path, steps in groupby(plan.steps, lambda step: parent_of(step.path)):
            check.inside(path, steps)
        for folder in plan.make:
            check.folder(folder)
        for folder in plan.unmake:
            check.folder(parent_of(folder))
    check.report(
        RollbackRefused, check.refused, "Move it away, or change the rules that leave it out; then plan again."
    )
    check.report(Diverged, check.diverged, "It changed since the plan was made: plan again.")


def checked_content(blobs: Blobs, path: str, target: Entry) -> bytes:
    """Reads the bytes to restore at ``path``.

    Raises:
        BlobMissing, BlobCorrupt: they are not there, or cannot be what stood there.
    """
    content = blobs.get(target.blob)
    check_content(content, path, target)
    return content


def check_content(content: bytes, path: str, target: Entry) -> None:
    """Makes sure that the bytes to restore at ``path`` can be what stood there.

    Raises:
        BlobCorrupt: they cannot.
    """
    bad_link = target.kind == "link" and (not content or b"\0" in content or len(content) > LINK_BYTES_MAX)
    if len(content) != target.size or bad_link:
        raise BlobCorrupt(
            f"the recorded {target.kind} {path} does not fit its blob {target.blob} of {len(content)} bytes. "
            "Nothing was moved; run `instar verify` and go to another point of the log."
        )


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _CAME_OR_WENT:
            raise Diverged(
                f"something in {root} came or went while it was looked at ({error}). Nothing was moved; plan again."
            ) from error
        raise EffectFailedError(
            f"{root} cannot be looked at before the restore: {error}. Nothing was moved; mend this, then plan again."
        ) from error


class _Check:
    """Collects what stands in a plan's way."""

    def __init__(self, beneath: Beneath, plan: Plan) -> None:
        self.beneath = beneath
        self.device = os.fstat(beneath.fd).st_dev
        self.placed, self.removed, self.unmade = plan.placed(), plan.removed(), set(plan.unmake)
        self.folders_seen: set[str] = set()
        self.refused: list[str] = []
        self.diverged: list[str] = []

    def report(self, error: type[InstarError], found: list[str], advice: str) -> None:
        if not found:
            return
        named = "; ".join(found[:NAMED_MAX])
        more = f"; and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
        raise error(f"the restore of {self.beneath.root} was not begun: {named}{more}. Nothing was moved. {advice}")

    def inside(self, folder: str, steps: Iterable[Step]) -> None:
        """Looks at what steps change in one folder."""
        fd = self.opened(folder)
        try:
            for step in steps:
                self.step(step, fd)
        finally:
            if fd is not None:
                os.close(fd)

    def step(self, step: Step, fd: int | None) -> None:
        found: Entry | Obstacle | None = None
        if fd is not None:
            name = split(step.path)[1]
            found = find(fd, name)
            if found == Obstacle("folder") and step.target is not None and self.gives_way(fd, name, step.path):
                found = None
        if found in (step.target, step.expected):
            return
        what = f"a {found.kind}" if found is not None else "nothing"
        if step.expected is not None:
            self.diverged.append(
                f"{step.path} is {what} other than the plan expects" if found else f"{step.path} is gone"
            )
        else:
            self.refused.append(f"{step.path} is occupied by {what} that was not captured")

    def folder(self, path: str) -> None:
        """Looks whether names in a folder can be changed."""
        fd = self.opened(path)
        if fd is not None:
            os.close(fd)

    def opened(self, path: str) -> int | None:
        """Opens a folder, and looks whether names in it can be changed; None if it is not there."""
        try:
            fd = self.beneath.opened(path)
            if path not in self.folders_seen:
                self.folders_seen.add(path)
                self.writable(fd, path)
            return fd
        except FileNotFoundError:
            self.folder(parent_of(path))
        except NotADirectoryError as error:
            above = str(error.filename)
            if above not in self.removed and above not in self.placed and above not in self.folders_seen:
                self.folders_seen.add(above)
                self.refused.append(f"{above} should be a folder and is none (a link is not followed)")
        return None

    def writable(self, fd: int, path: str) -> None:
        if os.fstat(fd).st_dev != self.device:
            self.refused.append(f"the folder {path} lies on another file system")
        elif not os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
            self.refused.append(f"the folder {path or '.'} cannot be written to")

    def gives_way(self, fd: int, name: bytes, path: str) -> bool:
        """Says whether the plan itself empties and removes the folder that stands at ``path``."""
        foreign = path if path not in self.unmade else self.foreign(fd, name, path)
        if foreign is not None:
            self.refused.append(f"the folder {path} is in the way, with {foreign}, which was not captured")
        return True  # and if it does not, that was just said

    def foreign(self, fd: int, name: bytes, path: str) -> str | None:
        """Names something in a folder that the plan would not take away."""
        below = os.open(name, OPEN_FOLDER, dir_fd=fd)
        try:
            for listed in names(below):
                child = f"{path}/{encode_path(listed)}"
                is_folder = stat.S_ISDIR(os.stat(listed, dir_fd=below, follow_symlinks=False).st_mode)
                if not is_folder:
                    known = child in self.removed or (path.endswith(f"/{CACHE}") and self.stale(path, listed))
                    foreign = None if known else child
                elif child in self.unmade or listed == CACHE.encode():
                    foreign = self.foreign(below, listed, child)
                else:
                    foreign = child
                if foreign is not None:
                    return foreign
            return None
        finally:
            os.close(below)

    def stale(self, cache: str, listed: bytes) -> bool:
        source = source_of(listed)
        return source is not None and f"{parent_of(cache)}/{encode_path(source)}" in self.removed
