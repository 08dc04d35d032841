"""Making many written files durable at once, for little more than one of them costs.

An fsync a file makes the journal commit as often. Written out first, all go into the same commit and the later calls
find nothing to do but to have the disk empty its own memory: asked at once by several threads, it does so once for all.

One call for the whole file system (syncfs) does all of it in one commit, and the disk empties its memory once. But it
waits for what others wrote there too. So it is asked for where the files are so many that this matters little, and
where the kernel says that little is left to be written.
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
"""So many files are made durable by one call for their file system, whatever others wrote there."""
WHOLE_IF_CLEAN_FROM = 32
"""So many are, where little else is to be written."""

_DIRTY_BYTES_MAX = 32 << 20
"""On all file systems together. A slow disk writes so much in a third of a second."""
_DIRTY = re.compile(rb"^(?:Dirty|Writeback): +(\d+) kB$", re.MULTILINE)
_MEMORY = "/proc/meminfo"
_THREADS = 16
_THREADS_FROM = 8
_QUICK_S = 0.000_1
"""What takes no longer waits for no disk (it is in memory, say): threads would cost more than they save."""
_WRITE_OUT = 2  # linux/fs.h: SYNC_FILE_RANGE_WRITE
_TMPFS = 0x01021994
_TELLING = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, _TMPFS}  # linux/magic.h: ext2 to ext4, xfs, btrfs, f2fs
"""File systems whose own record of what could not be written syncfs reads; that of an overlay lies below it."""
_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint]


def _tells_errors() -> bool:
    """Says whether syncfs reports what could not be written: it does from Linux 5.8 on."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (5, 8)


_syncfs = getattr(_libc, "syncfs", None) if _tells_errors() else None
_fstatfs = getattr(_libc, "fstatfs", None)


def write_out(fd: int) -> None:
    """Lets the kernel begin to write a file to the disk; only a hint, nothing is durable by it."""
    if _sync_file_range is not None:
        _sync_file_range(fd, 0, 0, _WRITE_OUT)


def sync_names(fd: int, names: Sequence[bytes]) -> None:
    """Makes files durable that were just written into an open folder, and the folder's own names.

    Args:
        fd: the folder, open since before the files were written.
        names: the files.

    Raises:
        OSError: something could not be written.
    """
    if sync_all(fd, len(names)):
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

    threads = min(_THREADS, len(what) // 2)
    with ThreadPoolExecutor(threads, thread_name_prefix="instar-sync") as pool:
        running = [pool.submit(several, what[number::threads]) for number in range(threads)]
    for done in running:
        done.result()


def sync_all(fd: int, count: int) -> bool:
    """Makes the whole file system durable that a descriptor lies on, if that is wise; says whether it did.

    Args:
        fd: open since before anything was written that is to be durable: what could not be written is told from then.
        count: how many files and folders are to be durable.

    Raises:
        OSError: something could not be written.
    """
    if _syncfs is None or count < WHOLE_IF_CLEAN_FROM:
        return False
    kind = _kind_of(fd)
    if kind not in _TELLING or (count < WHOLE_FROM and kind != _TMPFS and not _is_clean()):
        return False
    if _syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


def _is_clean() -> bool:
    """Says whether the kernel has little to write, to any disk."""
    try:
        with open(_MEMORY, "rb", buffering=0) as file:  # noqa: PTH123 - unbuffered: one call reads it all
            found = _DIRTY.findall(file.read(8192))
    except OSError:
        return False
    return len(found) == 2 and sum(map(int, found)) * 1024 < _DIRTY_BYTES_MAX


def _kind_of(fd: int) -> int:
    """Gives the number of the type of a file system; 0 where nothing tells."""
    status = ctypes.create_string_buffer(512)  # struct statfs, of which that is the first field
    if _fstatfs is None or _fstatfs(fd, status) != 0:
        return 0
    return ctypes.c_long.from_buffer(status).value & 0xFFFFFFFF
