"""Whether the file that was opened is still the one at its path: what is written to a deleted one is gone with it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

from instar.fsm.errors import LogLost, LogUnavailable

from .lost_log import lost, stands, traces_of
from .place import Place

_LOOK_EVERY_S = 0.1
"""Between two looks at the path, where a look at the file alone is half of what that costs."""


class OpenedFile:
    """The file of a log, told by its device and number, as it stood at its path when it was opened.

    Its number is given to no other file while it is open. It is held by a descriptor that can only be looked at: to
    close any other one would take away the locks that SQLite has on the file.

    Args:
        path: where it stands.

    Raises:
        OSError: nothing stands there, or its folder cannot be entered.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._name = path, os.fspath(path)
        self._fd = -1
        self._fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._device, self._number = status.st_dev, status.st_ino
        self._look_at = 0.0

    def require(self) -> None:
        """Makes sure that it still stands there.

        Raises:
            LogLost: it was deleted, moved or replaced.
            LogUnavailable: its folder cannot be entered.
        """
        try:
            status = os.stat(self._name)  # noqa: PTH116 - Path would double its cost
        except (FileNotFoundError, NotADirectoryError):
            raise self._gone() from None
        except OSError as error:
            raise LogUnavailable(
                f"the event log {self._path} cannot be reached: {error}. Nothing was recorded; give permission."
            ) from error
        if status.st_ino != self._number or status.st_dev != self._device:
            raise self._gone()
        self._look_at = monotonic() + _LOOK_EVERY_S

    def require_kept(self) -> None:
        """Makes sure that it was not deleted or replaced and, if that was not looked at just now, not moved either.

        Raises:
            LogLost, LogUnavailable: as ``require``.
        """
        if not os.fstat(self._fd).st_nlink or monotonic() > self._look_at:
            self.require()

    def _gone(self) -> LogLost:
        try:
            if stands(self._path):
                return LogLost(
                    f"the event log {self._path} is no longer the file that was opened: another was put in its place. "
                    "Nothing was recorded. Run `instar verify`, then open it again to go on with the one that stands "
                    "there now."
                )
            traces = traces_of(self._path)
        except OSError:
            traces = []
        if traces:
            return lost(Place(self._path), traces)
        return LogLost(
            f"the event log {self._path} is gone: it was moved or deleted while it was open. Nothing was recorded. Put "
            "its folder back where it was, or from a backup, then run `instar verify`."
        )

    def __del__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
