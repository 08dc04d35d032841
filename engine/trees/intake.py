"""Puts what a scan reads into the store, beside what goes on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from instar.fsm.words import Digest, digest_of
from instar.store.ports import BlobIntake

_BATCH_BYTES = 2 << 20
_ALONE_BYTES = 4 << 20
"""So little is stored at the end by the thread that reads it: others that take turns with it cost more than they do."""
_BESIDE_BYTES = 256 << 10
"""From so much on a thread is worth its start where the one that reads has other work meanwhile."""
_AHEAD_BYTES = 32 << 20
"""What may wait for a thread: what bounds the memory."""


class Intake:
    """Compressing leaves the interpreter free, so threads do it while the next files are read and nodes are made.

    Hashing does too, but file by file: the threads would wait for each other more than they work. So the one that reads
    hashes, and knows the names of all that is on its way.

    Args:
        blobs: the store.
    """

    def __init__(self, blobs: BlobIntake) -> None:
        self.blobs = blobs
        self._threads: ThreadPoolExecutor | None = None
        self._next: list[tuple[Digest, bytes]] = []
        self._next_bytes = self._ahead_bytes = 0
        self._running: deque[tuple[int, Future[None]]] = deque()

    def add(self, content: bytes, digest: Digest | None = None) -> Digest:
        """Gives the name of a content, which is stored before ``drain`` returns."""
        if digest is None:
            digest = digest_of(content)
        self._next.append((digest, content))
        self._next_bytes += len(content)
        if self._next_bytes >= (_ALONE_BYTES if self._threads is None else _BATCH_BYTES):
            self._send()
        return digest

    def compress_beside(self) -> None:
        """Begins to store what was read, while the caller goes on; says nothing of whether that succeeds."""
        if self._next_bytes >= _BESIDE_BYTES:
            batch, size = self._taken()
            # Asked here which are new, a thread takes turns with the caller at its end alone.
            self._run(self.blobs.prepared(batch), size)

    def drain(self) -> None:
        """Waits until all is stored.

        Raises:
            InstarError, OSError: something could not be stored.
        """
        try:
            batch, _ = self._taken()
            if batch:
                self.blobs.prepared(batch)()
            while self._running:
                self._collect()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None

    def _taken(self) -> tuple[list[tuple[Digest, bytes]], int]:
        batch, size, self._next, self._next_bytes = self._next, self._next_bytes, [], 0
        return batch, size

    def _send(self) -> None:
        batch, size = self._taken()
        self._run(lambda: self.blobs.prepared(batch)(), size)

    def _run(self, store: Callable[[], None], size: int) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1)), thread_name_prefix="instar-intake")
        while self._running and self._ahead_bytes + size > _AHEAD_BYTES:
            self._collect()
        self._ahead_bytes += size
        self._running.append((size, self._threads.submit(store)))

    def _collect(self) -> None:
        size, stored = self._running.popleft()
        self._ahead_bytes -= size
        stored.result()
