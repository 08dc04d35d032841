"""Making many written files durable at once, for little more than one of them costs.

An fsync a file makes the journal commit as often. Written out first, all go into the same commit and the later calls
find nothing to do but to have the disk empty its own memory: asked at once by several threads, it does so once for all.
Where there are many files, one call for the whole file system is cheaper still.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

WHOLE_FROM = 512
"""So many files are made durable by one call for their file system, which waits for what others wrote there too."""

_THREADS = 4
_THREADS_FROM = 8
_QUICK_S = 0.000_1
"""What takes no longer waits for no disk (it is in memory, say): threads would cost more than they save."""
_WRITE_OUT = 2  # linux/fs.h: SYNC_FILE_RANGE_WRITE
_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint]


def _tells_errors() -> bool:
    """Says whether syncfs reports what could not be written: it does from Linux 5.8 on."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (5, 8)


_syncfs = getattr(_libc, "syncfs", None) if _tells_errors() else None


def write_out(fd: int) -> None:
    """Lets the kernel begin to write a file to the disk; only a hint, nothing is durable by it."""
    if _sync_file_range is not None:
        _sync_file_range(fd, 0, 0, _WRITE_OUT)


def sync_names(fd: int, names: Sequence[bytes]) -> None:
    """Makes files in an open folder durable, and the folder's own names.

    Raises:
        OSError: something could not be written.
    """
    if len(names) >= WHOLE_FROM and sync_all(fd):
        return

    def sync(name: bytes | None) -> None:
        if name is None:
            os.fsync(fd)
            return
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    sync_each([*names, None], sync)


def sync_each(what: Sequence[T], sync: Callable[[T], None]) -> None:
    """Calls ``sync`` for each, in any order, by several threads once one had to wait; all are done when it returns.

    Raises:
        Exception: what one of the calls raised; none still runs.
    """
    for done, each in enumerate(what, 1):
        began = time.perf_counter()
        sync(each)
        if time.perf_counter() - began > _QUICK_S and len(what) - done >= _THREADS_FROM:
            _sync_by_threads(what[done:], sync)
            return


def _sync_by_threads(what: Sequence[T], sync: Callable[[T], None]) -> None:
    def several(part: Sequence[T]) -> None:
        for each in part:
            sync(each)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="instar-sync") as pool:
        running = [pool.submit(several, what[number::_THREADS]) for number in range(_THREADS)]
    for done in running:
        done.result()


def sync_all(fd: int) -> bool:
    """Makes the whole file system durable that a descriptor lies on; says whether the kernel can do that and tell.

    Raises:
        OSError: something could not be written.
    """
    if _syncfs is None:
        return False
    if _syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True
