"""Writes many files out of the store into folders that only their writer knows yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from msgspec import Struct

from instar.engine.files.flush import WHOLE_FROM, write_out
from instar.engine.files.open_beneath import OPEN_FOLDER, open_beneath
from instar.store.paths import decode_path
from instar.store.ports import Blobs, contents_of
from instar.store.tree_nodes import Entry

from .plan_check import check_content

_THREADS_FROM = 256
"""So many files are unpacked and written by more than one thread."""
_BATCH_BYTES = 1 << 20
_BATCH_FILES = 64


class Writing(Struct, frozen=True, gc=False):
    """Where one file or link is written.

    Attributes:
        folder: below the folder that all are written into, as trees spell paths; empty for that itself.
        name: its name there.
        path: what it is, for messages.
        entry: what it holds.
    """

    folder: str
    name: bytes
    path: str
    entry: Entry


def write_all(fd: int, blobs: Blobs, places: Sequence[Writing], each: Callable[[], None] = lambda: None) -> None:
    """Writes files and links; many of them by a thread for each processor, up to four.

    Args:
        fd: the open folder.
        blobs: where the contents are.
        places: those of one folder one after another. The folders are there, and a file of the name is replaced.
        each: called before each file.

    Raises:
        BlobMissing, BlobCorrupt: the store lacks one.
        OSError: the disk is full, or not writable.
    """
    eager = len(places) < WHOLE_FROM

    def write(batch: list[Writing]) -> None:
        contents = contents_of(blobs, [place.entry.blob for place in batch])
        with _Folder(fd) as folder:
            for place, content in zip(batch, contents, strict=True):
                each()
                check_content(content, place.path, place.entry)
                write_file(folder.at(place.folder), place.name, place.entry, content, eager=eager)

    threads = min(4, os.cpu_count() or 1)
    if len(places) < _THREADS_FROM or threads == 1:
        for batch in _batches(places):
            write(batch)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="instar-write")
    try:
        for done in [pool.submit(write, batch) for batch in _batches(places)]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(places: Sequence[Writing]) -> Iterator[list[Writing]]:
    """Parts the places so that little is in memory at once."""
    batch: list[Writing] = []
    size = 0
    for place in places:
        if batch and (size + place.entry.size > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += place.entry.size
    if batch:
        yield batch


class _Folder:
    """The folder in which was written last, held open."""

    def __init__(self, top: int) -> None:
        self._top = self._fd = top
        self._path = ""

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd != self._top:
            os.close(self._fd)
            self._fd = self._top

    def at(self, path: str) -> int:
        """Gives a folder below the top, open until the next call."""
        if path != self._path:
            self.__exit__()
            self._path = ""
            if path:
                raw = decode_path(path)
                opened = open_beneath(self._top, raw)
                self._fd = os.open(raw, OPEN_FOLDER, dir_fd=self._top) if opened is None else opened
            self._path = path
        return self._fd


def write_file(fd: int, name: bytes, target: Entry, content: bytes, *, eager: bool) -> None:
    """Writes a file or link under a name of an open folder; with ``eager`` the disk begins to write it at once."""
    if target.kind == "link":
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
        os.symlink(content, name, dir_fd=fd)
        return
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
    except FileExistsError:  # a part that a process left which died
        os.unlink(name, dir_fd=fd)
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
    try:
        written = os.write(file, content)
        while written < len(content):
            written += os.write(file, memoryview(content)[written:])
        if target.mode != 0o600:
            os.fchmod(file, target.mode)
        if eager:
            write_out(file)
    finally:
        os.close(file)
