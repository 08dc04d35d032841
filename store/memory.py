"""The vector memory: a projection of the log, one usearch index for each embedding space.

The vectors are recorded (``SignalEmbedded``, ``MemoryReembedded``); what lies on disk is a copy of them that answers
quickly. Each space is read when it is first asked for and brought up to the head of the log from there; what is
missing, torn, or from another log is built anew from the log. A space that nobody asks for costs nothing. No search
waits for a graph: while a thread builds it, vectors are compared one by one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instar.fsm.errors import LogUnavailable
from instar.fsm.events import PayloadErased, Span
from instar.fsm.words import ORIGIN, Digest, Seq

from .durable import write_durably
from .kept_vectors import SUFFIX as KEPT_SUFFIX
from .lock import FileLock
from .memory_log import MemoryLog, anchor_of, apply_log
from .memory_row import Hit, MemoryRow
from .ports import Blobs
from .row_filter import EVERYTHING, RowFilter
from .vector_index import LINKED_AT_ONCE_MAX
from .vector_space import VectorSpace

__all__ = ["Hit", "MemoryLog", "MemoryRow", "RowFilter", "VectorMemory"]

logger = logging.getLogger("instar.store")

_SUFFIXES = (".usearch", ".vectors", ".meta")
"""The files of a space; the last holds the checksums of the others."""
_LOADED_MAX = 2
"""Spaces held in RAM: the active one, and the one before while a promotion is judged."""
_SAVE_SHARE = 32
"""A space is written once 1/32 of its rows are new: a restart then embeds nothing and adds few rows again."""


class VectorMemory:
    """The rows of every space; safe to share between threads and, on disk, between processes.

    Args:
        folder: where the copies lie; made when first written. It may be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source: tuple[MemoryLog, Blobs] | None = None
        self._head: Seq = ORIGIN
        self._loaded: dict[Digest, VectorSpace] = {}
        self._lock = threading.RLock()
        self._linker: threading.Thread | None = None

    def catch_up(self, log: MemoryLog, blobs: Blobs, *, to: Seq | None = None) -> None:
        """Takes a position, the log's present head by default, as what every later answer must hold at least."""
        with self._lock:
            self._source = (log, blobs)
            self._head = log.head() if to is None else to

    def covers(self, space: Digest) -> Seq:
        """The position up to which a space holds everything that the log says about it."""
        with self._lock:
            return self._fresh(space).covers

    def add(self, space: Digest, rows: Sequence[MemoryRow], vectors: NDArray[np.float32]) -> int:
        """Adds rows beside the log; returns how many were written. Rows with ``replaceable=False`` stay as they are.

        Raises:
            ConfigError: vectors that do not fit the rows or the space.
        """
        with self._lock:
            return self._fresh(space).add(rows, vectors)

    def search(
        self,
        space: Digest,
        vector: NDArray[np.float32],
        k: int,
        *,
        kinds: Collection[str] | None = None,
        task_types: Collection[str] | None = None,
        units: Collection[str] | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        within: Sequence[Span] | None = None,
    ) -> list[Hit]:
        """Gives the ``k`` rows of a space that are nearest to a vector, nearest first; the filters are ``RowFilter``'s.

        Args:
            space: the checkpoint that made the vector; no other space's rows are ever given.
            vector: (dim,) float32.
            k: how many; fewer are given only if fewer fit the filters.
            kinds: only rows of these kinds.
            task_types: only rows of these task types.
            units: only rows of these units.
            since_us: only rows that were recorded then or later.
            until_us: only rows that were recorded then or earlier.
            within: only rows embedded at these positions; this is how a rollback hides later rows.

        Raises:
            ConfigError: the vector does not fit the space.
        """
        wanted = RowFilter(
            kinds=kinds, task_types=task_types, units=units, since_us=since_us, until_us=until_us, within=within
        )
        return self.search_each(space, vector[None], k, wanted)[0]

    def search_each(
        self, space: Digest, vectors: NDArray[np.float32], k: int, wanted: RowFilter = EVERYTHING
    ) -> list[list[Hit]]:
        """Gives for each of many vectors, (vectors, dim) float32, what ``search`` gives for it.

        Raises:
            ConfigError: the vectors do not fit the space.
        """
        with self._lock:
            return self._fresh(space).search(vectors, k, wanted)

    def last_of_unit(
        self, space: Digest, unit: str, within: Sequence[Span] | None = None
    ) -> NDArray[np.float32] | None:
        """Gives the latest vector of a unit, (dim,) float32 of length one, or None."""
        with self._lock:
            return self._fresh(space).last_of_unit(unit, RowFilter(within=within))

    def latest_of_task(
        self, space: Digest, task_type: str, count: int, within: Sequence[Span] | None = None
    ) -> tuple[list[MemoryRow], NDArray[np.float32]]:
        """Gives the last ``count`` rows of a task type that have an outcome, and their vectors, (rows, dim) float32."""
        with self._lock:
            return self._fresh(space).latest_of_task(task_type, count, within)

    def vectors(
        self, space: Digest, within: Sequence[Span] | None = None
    ) -> tuple[list[MemoryRow], NDArray[np.float32]]:
        """Gives all rows of a space in the order of the log, and their vectors, (rows, dim) float32."""
        with self._lock:
            return self._fresh(space).vectors(RowFilter(within=within))

    def rebuild(self, space: Digest) -> int:
        """Builds a space anew from the log and saves it; returns its number of rows."""
        with self._lock:
            self._loaded[space] = VectorSpace(space)
            held = self._fresh(space)
            self._write(held)
            return len(held.rows)

    def save(self) -> None:
        """Writes what is not yet on disk. A disk that refuses costs time at the next start, no rows."""
        with self._lock:
            for held in self._loaded.values():
                if held.unsaved:
                    self._write(held, linked=held.behind <= LINKED_AT_ONCE_MAX)

    def prune(self, keep: Collection[Digest]) -> int:
        """Deletes the files of all other spaces and returns how many spaces; they can be built anew at any time."""
        with self._lock, self._guarded():
            gone = {path.stem for path in self._folder.glob("*.*") if path.suffix in _SUFFIXES} - set(keep)
            for path in self._folder.glob(f"*{KEPT_SUFFIX}"):
                path.unlink(missing_ok=True)
            for space in gone:
                self._loaded.pop(Digest(space), None)
                for path in self._paths(Digest(space)):
                    path.unlink(missing_ok=True)
            return len(gone)

    def _fresh(self, space: Digest) -> VectorSpace:
        known = self._loaded.get(space)
        if known is not None and len(self._loaded) == 1 and not known.behind and known.covers >= self._head:
            return known
        self._loaded.pop(space, None)
        held = known or self._read(space)
        self._loaded[space] = held  # the last used comes last
        if self._source is not None and held.covers < self._head:
            log, blobs = self._source
            erased = held.covers and next(log.read(held.covers + 1, self._head, (PayloadErased,)), None)
            if erased:  # rows that are held may be gone from the log
                held = self._loaded[space] = VectorSpace(space)
            try:
                apply_log(held, log, blobs, self._head)
            except BaseException:
                del self._loaded[space]  # half applied; the next call starts from disk
                raise
            if erased or held.unsaved * _SAVE_SHARE >= max(1, len(held.rows)):
                self._write(held, linked=held.behind <= LINKED_AT_ONCE_MAX)
        if known and held.behind > LINKED_AT_ONCE_MAX:  # who asks once, like a command, is not worth a graph
            self._start_link(held)
        while len(self._loaded) > _LOADED_MAX:
            oldest = self._loaded.pop(next(iter(self._loaded)))
            if oldest.unsaved:
                self._write(oldest, linked=oldest.behind <= LINKED_AT_ONCE_MAX)
        return held

    def _start_link(self, held: VectorSpace) -> None:
        if self._linker is None or not self._linker.is_alive():
            self._linker = threading.Thread(target=self._link, args=(held,), name="instar-memory")
            self._linker.start()

    def _link(self, held: VectorSpace) -> None:
        main = threading.main_thread()
        held.link(main.is_alive)  # a process that ends does not wait for a graph
        with self._lock:
            if main.is_alive() and self._loaded.get(held.space) is held:
                self._write(held)

    def _read(self, space: Digest) -> VectorSpace:
        try:
            with self._guarded():
                held = VectorSpace.unpack(space, *(path.read_bytes() for path in self._paths(space)))
        except FileNotFoundError:
            return VectorSpace(space)
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("memory of space %s is built anew from the log: %s", space[:12], error)
            return VectorSpace(space)
        if self._source is not None and held.covers and anchor_of(self._source[0], held.covers) != held.anchor:
            logger.warning("memory of space %s belongs to another log and is built anew", space[:12])
            return VectorSpace(space)
        return held

    def _write(self, held: VectorSpace, *, linked: bool = True) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            with self._guarded():
                for path, content in zip(self._paths(held.space), held.pack(linked=linked), strict=True):
                    write_durably(path, content)
        except OSError as error:
            logger.warning("memory of space %s is not saved and stays in RAM: %s", held.space[:12], error)
        else:
            held.unsaved = 0

    def _paths(self, space: Digest) -> list[Path]:
        return [self._folder / f"{space}{suffix}" for suffix in _SUFFIXES]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keeps the files of a space one set while another process writes them."""
        try:
            lock = FileLock(self._folder / "memory.lock")
            lock.acquire()
        except LogUnavailable:  # no folder yet, or a read-only one: then nobody writes there either
            yield
            return
        try:
            yield
        finally:
            lock.release()
