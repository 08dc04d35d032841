"""Which paths under a root changed, as the kernel tells it; says so itself when it can no longer tell.

inotify gives the events of all folders in the order in which they happened. So a *cookie* file, made after a change, is
seen after it: once its event is there, every change before it was told (the way of Watchman's cookies). Two kinds of
change are never told, a write through a memory map and one through a hard link from elsewhere: a rescan sees them.

A folder is watched from before its names are listed, since the scan itself asks for that: nothing falls in between.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchDescriptor

logger = logging.getLogger("instar.engine")

_MASK = {
    "IN_MODIFY",
    "IN_ATTRIB",
    "IN_CLOSE_WRITE",
    "IN_CREATE",
    "IN_DELETE",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_DELETE_SELF",
    "IN_MOVE_SELF",
    "IN_ONLYDIR",
    "IN_DONT_FOLLOW",
}
"""Opening and reading are no change; asking for them would answer our own hashing."""
_UNMOUNT = 0x2000
_COOKIE = "cookie"
_PATHS_MAX = 50_000
"""So many changed paths are looked at faster by a rescan."""


class Dirty(Struct, frozen=True):
    """What changed since it was last asked for.

    Attributes:
        paths: relative to the root, as ``os.fsdecode`` gives them; whether all below must be looked at too.
        lost: why the paths may not be all of it, from then on for good; empty if they are.
    """

    paths: Mapping[str, bool]
    lost: str


class TreeWatch:
    """The watches of one root: a callback of watchdog's reader of inotify, which runs in a thread of its own.

    Args:
        root: the folder.
        cookies: a folder for cookie files, which is not captured.
        on_change: called, in the reader's thread, when something changed.

    Attributes:
        is_refused: the system gives no more watches; a new try would go the same way.

    Raises:
        OSError: the system gives no inotify instance or no watch.
        ImportError: this system has no inotify.
    """

    def __init__(self, root: Path, cookies: Path, on_change: Callable[[], None]) -> None:
        from watchdog.observers.inotify_c import (
            CallbackId,
            InotifyConstants,
            InotifyFD,
            Mask,
            WatchDescriptor,
        )

        self._root, self._cookies, self._on_change = root, cookies, on_change
        self._lock = threading.Lock()
        self._folders: dict[WatchDescriptor, str] = {}
        """The path of each watched folder, and a slash; empty for the root."""
        self._watched: dict[str, WatchDescriptor] = {}
        self._paths: dict[str, bool] = {}
        self._lost = ""
        self._cookie_made = self._cookie_seen = 0
        self._closing = self.is_refused = False
        self._cookie_told = threading.Condition(self._lock)
        self._mask: Mask = Mask(sum(getattr(InotifyConstants, name) for name in _MASK))
        self._id: CallbackId = CallbackId(id(self))
        cookies.mkdir(exist_ok=True)
        for left in cookies.glob(f"{_COOKIE}-*"):
            left.unlink(missing_ok=True)
        self._cookie_wd = self._root_wd = WatchDescriptor(-1)
        self._reader: InotifyFD = InotifyFD()
        self._reader.start()
        try:
            self._cookie_wd = self._reader.add_callback(os.fsencode(cookies), self._mask, self, self._id)
            self._root_wd = self._add("")
        except BaseException:
            self.close()
            raise

    # ---- asked by the scan and by whoever captures -----------------------------------------------------------------

    def cover(self, folder: str) -> None:
        """Watches a folder from now on; the caller has not listed it yet.

        Args:
            folder: its path below the root, and a slash; empty for the root.
        """
        with self._lock:
            if folder in self._watched:
                return
        try:
            self._add(folder)
        except FileNotFoundError:
            return  # gone again; so says its parent
        except NotADirectoryError:
            return
        except OSError as error:
            self.is_refused = True
            self._give_up(f"the folder {folder!r} cannot be watched: {error.strerror}")

    def _add(self, folder: str) -> WatchDescriptor:
        path = os.fsencode(self._root / folder)
        wd = self._reader.add_callback(path, self._mask, self, self._id)
        if wd < 0:  # it may not be read; nor can its content be captured
            self._reader.remove_callbacks([(wd, self._id)])
            return wd
        with self._lock:
            self._forget(self._folders.get(wd))
            self._folders[wd] = folder
            self._watched[folder] = wd
        return wd

    def _forget(self, folder: str | None) -> None:
        if folder is not None:
            self._folders.pop(self._watched.pop(folder), None)

    def prove(self, timeout_s: float = 2.0) -> bool:
        """Makes sure that every change before this call was told; False if that cannot be had in time."""
        if not self.is_alive:
            return False
        with self._lock:
            self._cookie_made += 1
            number = self._cookie_made
        path = self._cookies / f"{_COOKIE}-{number}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with self._lock:
                return self._cookie_told.wait_for(lambda: self._cookie_seen >= number, timeout_s) and self.is_alive
        except OSError as error:
            logger.warning("no cookie can be written to %s: %s", self._cookies, error.strerror)
            return False
        finally:
            with suppress(OSError):
                path.unlink()

    def take(self) -> Dirty:
        """Gives what changed since the last call, and begins anew; whoever takes it looks at it."""
        with self._lock:
            found = Dirty(self._paths, self._lost)
            self._paths = {}  # but what was lost stays lost
            return found

    @property
    def is_alive(self) -> bool:
        """Whether changes are still told."""
        return self._reader.is_alive()

    def close(self) -> None:
        """Ends the watching."""
        self._closing = True
        self._reader.stop()
        self._reader.join(timeout=5)

    # ---- told by the reader's thread -------------------------------------------------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        """Notes what an event says."""
        try:
            self._note(event)
        except Exception as error:  # the reader must live on; what it could not understand, a rescan will
            logger.exception("an event could not be understood")
            self._give_up(f"an event could not be understood: {error!r}")

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Forgets a watch: its folder is gone."""
        with self._lock:
            self._forget(self._folders.get(wd))
            gone = wd in (self._root_wd, self._cookie_wd)
        if gone:
            self._give_up("the root is gone or was replaced")

    def on_queue_overflow(self) -> None:
        """Notes that the kernel dropped events."""
        self._give_up("the kernel's queue of events overflowed")

    def _note(self, event: InotifyEvent) -> None:
        if event.wd == self._cookie_wd:
            self._note_cookie(event)
            return
        with self._lock:
            folder = self._folders.get(event.wd)
        if event.mask & _UNMOUNT or (event.wd == self._root_wd and (event.is_delete_self or event.is_move_self)):
            self._give_up("the root is gone or was replaced")
        if folder is None or not event.name:
            return  # its parent tells the same, and under which name
        path = folder + os.fsdecode(event.name)
        is_folder = event.is_directory
        if is_folder and event.is_moved_from:
            self._uncover(f"{path}/")
        with self._lock:
            self._paths[path] = self._paths.get(path, False) or (is_folder and not event.is_attrib)
            if len(self._paths) > _PATHS_MAX:
                self._paths, self._lost = {}, "very many paths changed"
        self._on_change()

    def _note_cookie(self, event: InotifyEvent) -> None:
        name = os.fsdecode(event.name)
        if event.is_create and name.startswith(f"{_COOKIE}-"):
            with self._lock:
                self._cookie_seen = max(self._cookie_seen, int(name.removeprefix(f"{_COOKIE}-")))
                self._cookie_told.notify_all()

    def _uncover(self, prefix: str) -> None:
        """Ends the watches of a folder that was moved away, and of all below it."""
        with self._lock:
            moved = [wd for wd, folder in self._folders.items() if folder.startswith(prefix)]
            for wd in moved:
                self._forget(self._folders[wd])
        self._reader.remove_callbacks([(wd, self._id) for wd in moved])

    def _give_up(self, why: str) -> None:
        with self._lock:
            if self._closing:
                return
            if not self._lost:
                logger.warning("%s: %s; everything is looked at", self._root, why)
            self._lost = self._lost or why
        self._on_change()
