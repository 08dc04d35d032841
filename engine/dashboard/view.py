"""What the dashboard knows of one log: the fold of it and two projections, brought to its head on request."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from pathlib import Path

from instar.engine.workspace import open_workspace
from instar.fsm.errors import InstarError
from instar.fsm.words import ORIGIN
from instar.store.blobs import BlobStore
from instar.store.reader import LogReader, Row, apply

from .rewards_board import RewardsBoard
from .training_board import TrainingBoard

logger = logging.getLogger("instar.dashboard")

_RECENT = 1024


class LogView:
    """One log, read only; safe to share between threads.

    Attributes:
        head: the last position that was read.
        state: the fold, up to ``head`` unless there is a ``problem``.
        problem: why the log cannot be followed; None while it can.
    """

    def __init__(self, root: Path) -> None:
        self.workspace = open_workspace(root, os.environ)
        self.reader = LogReader(self.workspace.place)
        self.blobs = BlobStore(self.reader.path.with_name("blobs"), self.reader)
        self.training = TrainingBoard()
        self.rewards = RewardsBoard()
        self.problem: str | None = None
        self.moved: Row | None = None
        """The row on which the machine entered its present state."""
        self._recent: deque[tuple[int, str]] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()
        self._file = self._inode()
        self._token = self.reader.changed_token()
        self.state = self.reader.snapshot_before(self.reader.head())
        self.head: int = self.state.head
        for row in self.reader.rows(1, self.head, sorted({*TrainingBoard.TYPES, *RewardsBoard.TYPES})):
            self._project(row)
        self._advance()

    def refresh(self) -> None:
        """Reads what was recorded since the last call; costs one PRAGMA when that is nothing."""
        with self._lock:
            try:
                token = self.reader.changed_token()
                if token != self._token:
                    # Kept before reading: a commit that comes in between changes it again.
                    self._token = token
                    self._advance()
                if self._inode() != self._file:
                    self.problem = "the log was replaced by another file: start the dashboard again"
            except FileNotFoundError:
                self.problem = f"the log {self.workspace.log} is gone: the dashboard shows what it last read"
            except InstarError as error:
                self._fail(str(error))

    def _inode(self) -> int:
        """Tells the log's file from another that was put in its place; a server's stream has none."""
        return 0 if self.reader.place.url else self.workspace.log.stat().st_ino

    def types_between(self, seen: int, head: int) -> list[str] | None:
        """Names the types of the events after ``seen``; None when they are too many or too old to say."""
        with self._lock:
            recent = list(self._recent)
        if not recent or recent[0][0] > seen + 1:
            return None
        return sorted({kind for seq, kind in recent if seen < seq <= head})

    def close(self) -> None:
        """Closes the log."""
        self.reader.close()

    def _advance(self) -> None:
        for row in self.reader.rows(self.head + 1):
            if self.problem is None:
                self._fold(row)
            self._recent.append((row[0], row[1]))
            self.head = row[0]
        if self.state.since > ORIGIN and (self.moved is None or self.moved[0] != self.state.since):
            self.moved = next(iter(self.reader.rows(self.state.since, self.state.since)), None)

    def _fold(self, row: Row) -> None:
        try:
            record = self.reader.decode(row)
            self.state = apply(self.state, record)
        except InstarError as error:
            self._fail(f"the log cannot be folded past event {row[0] - 1}: {error}")
            return
        self.training.add(record)
        self.rewards.add(record)

    def _project(self, row: Row) -> None:
        """Counts an old event in that the saved state already holds; one that cannot be read is left out."""
        try:
            record = self.reader.decode(row)
        except InstarError as error:
            logger.warning("event %s is left out of the dashboard: %s", row[0], error)
            return
        self.training.add(record)
        self.rewards.add(record)

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem
