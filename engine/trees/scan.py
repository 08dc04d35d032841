"""One look at a root: brings what was last seen of it up to date, reading only what may have changed.

A file whose status is as it was keeps its blob, a folder whose status is as it was keeps its names, and neither is
opened (``quick_look``). Whatever is read is opened name by name from the root, and no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from instar.engine.files.settled import Content, Stored, read_settled, unreadable
from instar.fsm.words import Digest, digest_of
from instar.store.paths import DEPTH_MAX, encode_path
from instar.store.tree_nodes import check_name_in

from .ignore import SECRET
from .intake import Intake
from .places import FolderSeen, Place, Rules, Seen, raw_name
from .quick_look import GITIGNORE, NESTED_GIT, stands, suspects
from .scan_folder import Folder, Lost, Wanted
from .stat_cache import is_settled

if TYPE_CHECKING:
    from .capture import Capture

_SWAPPED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Scan:
    """One pass.

    Args:
        capture: whose root, rules and store it is.
        fd: the root, open.
        full: read every file, trusting no status.

    Attributes:
        count: how many files and links were read.
        intake: stores what was read; all of it is stored once that is drained.
    """

    def __init__(self, capture: Capture, fd: int, *, full: bool = False) -> None:
        self._capture, self._fd, self._full = capture, fd, full
        self._device = os.fstat(fd).st_dev
        self._scanned_at_ns = capture.cache.now_ns()
        self.intake = Intake(capture.blobs)
        self._cover = capture.cover
        self.root = Folder(None, "", capture.root_place, capture, fd)
        self.count = 0

    def close(self) -> None:
        """Ends what works beside the scan."""
        self.intake.close()

    # ---- the walk --------------------------------------------------------------------------------------------------

    def everything(self, *, anew: bool) -> None:
        """Looks at every folder.

        Args:
            anew: ask the rules about every name.
        """
        quick = not anew and not self._full and self._capture.trusts_folders
        if quick and self.root.place.seen is not None:
            self.names(suspects(self._fd, self.root.place, self._cover))
            return
        self._visit(self.root, anew)

    def names(self, paths: Mapping[str, bool]) -> None:
        """Looks at some paths alone.

        Args:
            paths: relative to the root, as the file system spells them (the root itself is empty); of a folder that was
                known before, whether all below is looked at too, or only the names in it.
        """
        wanted = Wanted()
        for path, deep in paths.items():
            wanted.add(path.split("/") if path else [], deep)
        self._reach(self.root, wanted)

    def _reach(self, here: Folder, wanted: Wanted) -> None:
        """Looks at what is wanted in a folder that is known, and goes down into what is known of it."""
        if wanted.deep:
            self._visit(here, anew=False)
            return
        listed = wanted.deep is not None or GITIGNORE in wanted.below
        if listed:
            self._list(here, anew=False, deep=False)
        for raw, inner in wanted.below.items():
            name = _spelled(raw)
            below = here.place.folders.get(name)
            if below is not None:
                self._inside(here, name, below, partial(self._reach, wanted=inner))
            elif not listed and (inner.deep is not None or name not in here.place.ignored):
                if name not in here.place.rows:
                    here.place.seen = None
                self._one(here, name, raw, anew=False)

    def _visit(self, here: Folder, anew: bool) -> None:
        """Looks at a folder and at all below it."""
        if self._cover is not None:
            self._cover(here.raw)
        self._list(here, anew)

    def _inside(self, here: Folder, name: str, below: Place, work: Callable[[Folder], None]) -> None:
        """Does something in a folder that is known; looks at its name again if it is no longer that folder."""
        inner = Folder(here, raw_name(name), below, self._capture)
        try:
            work(inner)
        except Lost as lost:
            if lost.folder is not inner:
                raise
            self._one(here, name, inner.name, anew=False)
        finally:
            inner.close()
        if below.node is None:
            here.place.node = None

    def _list(self, here: Folder, anew: bool, *, deep: bool = True) -> None:
        """Lists a folder, and looks at what is new in it or may be otherwise."""
        place, fd = here.place, here.fd()
        status = os.fstat(fd)
        place.seen = None
        with os.scandir(fd) as listing:
            found = {_spelled(each.name): each for each in listing}
        changed = self._read_rules(here, GITIGNORE in found)
        anew, deep = anew or changed, deep or changed
        for name, each in found.items():
            if anew or self._full or not self._is_known(here, name, each, deep):
                self._one(here, name, each.name, anew, each)
        for name in place.names() - found.keys():
            place.drop(name)
        settled = is_settled(status.st_mtime_ns, status.st_ctime_ns, self._scanned_at_ns)
        place.seen = FolderSeen(status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode, settled)

    def _is_known(self, here: Folder, name: str, each: os.DirEntry[str], deep: bool) -> bool:
        """Says whether a name stands for the same as before, having looked into it if it is a folder."""
        place = here.place
        try:
            seen = place.rows.get(name)
            if seen is not None:
                return seen.is_of(each.stat(follow_symlinks=False))
            is_folder = each.is_dir(follow_symlinks=False)
        except OSError:
            return False
        below = place.folders.get(name)
        if below is not None and is_folder:
            if deep:
                self._inside(here, name, below, lambda inner: self._visit(inner, anew=False))
            return True
        return place.ignored.get(name) is is_folder

    # ---- one name --------------------------------------------------------------------------------------------------

    def _one(self, here: Folder, name: str, raw: str, anew: bool, each: os.DirEntry[str] | None = None) -> None:
        """Looks at a name as if it were new: what stands there, and whether the rules let it in."""
        place = here.place
        try:
            if each is not None and name not in place.rows and each.is_file(follow_symlinks=False):
                self._new_file(here, name, raw)
                return
            status = os.stat(raw, dir_fd=here.fd(), follow_symlinks=False)
        except FileNotFoundError:
            place.drop(name)
            return
        except OSError as error:
            place.leave_out(name, unreadable(error))
            return
        if raw == ".git" and here.raw:
            place.leave_out(name, NESTED_GIT)
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if not self._is_let_in(here, name, raw, is_folder):
            return
        if status.st_dev != self._device:
            place.leave_out(name, "another file system")
        elif is_folder:
            self._folder(here, name, raw, anew)
        else:
            self._leaf(here, name, raw, status)

    def _is_let_in(self, here: Folder, name: str, raw: str, is_folder: bool) -> bool:
        """Asks the rules, and notes what they leave out."""
        verdict = here.scope().verdict(here.raw + raw, folder=is_folder)
        if verdict == SECRET:
            here.place.leave_out(name, SECRET)
        elif verdict is not None:
            here.place.ignore(name, folder=is_folder)
        return verdict is None

    def _new_file(self, here: Folder, name: str, raw: str) -> None:
        """Takes what was just listed as a regular file: the common case of a first scan."""
        if raw == ".git" and here.raw:
            here.place.leave_out(name, NESTED_GIT)
        elif self._is_let_in(here, name, raw, is_folder=False):
            self._take(here, name, raw, is_file=True)

    def _folder(self, here: Folder, name: str, raw: str, anew: bool) -> None:
        if here.depth >= DEPTH_MAX:
            here.place.leave_out(name, f"deeper than {DEPTH_MAX} folders")
            return
        known = here.place.folders.get(name)
        inner = Folder(here, raw, known if known is not None else Place(), self._capture)
        try:
            if os.fstat(inner.fd()).st_dev != self._device:
                here.place.leave_out(name, "another file system")
                return
            if known is None:
                check_name_in(name, here.raw)
            here.place.take_folder(name, inner.place)
            self._visit(inner, anew or known is None)
        except Lost as lost:
            if lost.folder is not inner:
                raise
            self._unopened(here, name, raw, lost.error)
        finally:
            inner.close()
        if inner.place.node is None:
            here.place.node = None

    def _unopened(self, here: Folder, name: str, raw: str, error: OSError) -> None:
        if error.errno in _SWAPPED:  # gone, or swapped for a link, since it was looked at
            self._take(here, name, raw)
        else:
            here.place.leave_out(name, unreadable(error))

    def _leaf(self, here: Folder, name: str, raw: str, status: os.stat_result) -> None:
        known = here.place.rows.get(name)
        vouched = known is not None and not self._full and known.is_of(status)
        if not vouched or status.st_size > self._capture.cap_bytes:
            self._take(here, name, raw, status)

    def _take(
        self, here: Folder, name: str, raw: str, status: os.stat_result | None = None, *, is_file: bool = False
    ) -> None:
        """Reads a file or link, and stores what is new."""
        self.count += 1
        place = here.place
        capture = self._capture
        found = read_settled(here.fd(), raw, capture.cap_bytes, capture.blobs.put_parts, status, is_file=is_file)
        if isinstance(found, Content | Stored) and found.status.st_dev != self._device:
            found = "another file system"
        if found is None:
            place.drop(name)
        elif isinstance(found, str):
            place.leave_out(name, found)
        elif isinstance(found, Stored):
            self._took(here, name, found.status, found.blob)
        else:
            digest = digest_of(found.content)
            if not self._is_as_seen(place.rows.get(name), found, digest):
                self.intake.add(found.content, digest)
            self._took(here, name, found.status, digest)

    def _took(self, here: Folder, name: str, status: os.stat_result, blob: Digest) -> None:
        if name not in here.place.rows:
            check_name_in(name, here.raw)
        here.place.take(name, self._as_seen(status, blob))

    def _is_as_seen(self, known: Seen | None, found: Content, digest: Digest) -> bool:
        """Says whether a content is the one that was seen there before, and so is in the store.

        It is often read again only because it was young then.
        """
        if known is None or self._full or not self._capture.trusted or digest != known.entry.blob:
            return False
        return stat.S_IFMT(found.status.st_mode) == stat.S_IFMT(known.mode)

    def _as_seen(self, status: os.stat_result, blob: Digest) -> Seen:
        return Seen.of(status, blob, settled=is_settled(status.st_mtime_ns, status.st_ctime_ns, self._scanned_at_ns))

    # ---- rules -----------------------------------------------------------------------------------------------------

    def _read_rules(self, here: Folder, present: bool) -> bool:
        """Reads the folder's ``.gitignore``; says whether the rules are others than they were.

        One that is a link, or too large, is none (git says the same).
        """
        old = here.place.rules
        if old is not None and present and not self._full and stands(self._fd, here.raw + GITIGNORE, old.seen):
            return False
        found = read_settled(here.fd(), GITIGNORE, self._capture.cap_bytes) if present else None
        if isinstance(found, Content) and stat.S_ISREG(found.status.st_mode):
            here.set_rules(Rules(found.content, self._as_seen(found.status, Digest(""))))
        elif old is not None:
            here.set_rules(None)
        new = here.place.rules
        return (old and old.content) != (new and new.content)


def _spelled(name: str) -> str:
    return name if name.isascii() and "%" not in name else encode_path(os.fsencode(name))
