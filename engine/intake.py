"""Puts what a scan reads into the store: beside the scan, once that is much."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from instar.fsm.words import Digest
from instar.store.ports import BlobIntake

from .places import Place

Key = tuple[Place, str, os.stat_result]
"""Where a content was found: the folder, the name in it, and its status."""

_BATCH_BYTES = 512 * 1024
_BATCH_FILES = 64
_ALONE_BYTES = 4 << 20
"""What comes first is stored by the thread that reads it: to start others for less does not pay."""
_AHEAD = 4
"""Batches that may wait for a thread: what bounds the memory."""


class Intake:
    """Hashing and compressing leave the interpreter free, so threads do them while the next files are read.

    Args:
        blobs: the store.
        stored: is told where a content was found, and the blob that it became; in the thread that calls.
    """

    def __init__(self, blobs: BlobIntake, stored: Callable[[Key, Digest], None]) -> None:
        self.blobs = blobs
        self._stored = stored
        self._threads: ThreadPoolExecutor | None = None
        self._bytes = self._sent_bytes = 0
        self._contents: list[bytes] = []
        self._keys: list[Key] = []
        self._running: deque[tuple[list[Key], Future[list[Digest]]]] = deque()

    def add(self, content: bytes, key: Key) -> None:
        """Stores a content before ``drain`` returns."""
        self._contents.append(content)
        self._keys.append(key)
        self._bytes += len(content)
        if self._bytes >= _BATCH_BYTES or len(self._keys) >= _BATCH_FILES:
            self._send()

    def drain(self) -> None:
        """Waits until all is stored.

        Raises:
            InstarError, OSError: something could not be stored.
        """
        try:
            self._send()
            while self._running:
                self._collect()
        finally:
            self.close()

    def close(self) -> None:
        """Ends the threads."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None

    def _send(self) -> None:
        keys, contents = self._keys, self._contents
        if not keys:
            return
        self._sent_bytes += self._bytes
        self._contents, self._keys, self._bytes = [], [], 0
        if self._sent_bytes < _ALONE_BYTES:
            self._tell(keys, self.blobs.put_many(contents))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1)), thread_name_prefix="instar-intake")
        while len(self._running) >= _AHEAD:
            self._collect()
        self._running.append((keys, self._threads.submit(self.blobs.put_many, contents)))

    def _collect(self) -> None:
        keys, digests = self._running.popleft()
        self._tell(keys, digests.result())

    def _tell(self, keys: list[Key], digests: list[Digest]) -> None:
        for key, digest in zip(keys, digests, strict=True):
            self._stored(key, digest)
