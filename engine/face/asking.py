"""What an agent asks of memory and of the active model."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from instar.fsm.errors import InputRefused
from instar.fsm.words import Digest

from .arguments import takes_plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from instar.engine.memory.answers import Answer
    from instar.engine.memory.search import Found
    from instar.engine.runtime import Runtime


@takes_plain
class Asking:
    """The part of ``Engine`` that embeds, searches and answers."""

    _process: subprocess.Popen[bytes] | None
    _answered: subprocess.Popen[bytes] | None = None
    """The worker process whose socket was reached."""

    @property
    def runtime(self) -> Runtime:
        """The opened workspace."""
        raise NotImplementedError

    @property
    def space(self) -> Digest | None:
        """The active checkpoint, which names the embedding space; None without a model."""
        return self.runtime.state.checkpoint

    def embed(self, texts: Iterable[str], *, space: str | None = None) -> NDArray[np.float32]:
        """Embeds texts with the active checkpoint, in the worker where there is one, all of them in one space.

        Args:
            texts: what to embed.
            space: the checkpoint to embed with in the active one's place: ``base``, or the beginning of its digest.

        Returns:
            float32 of shape (texts, dim), rows of unit length.

        Raises:
            ConfigError: no checkpoint is called so, several are, or the workspace has no model.
            InputRefused: a single text was given in place of a list.
            ServiceError: the worker is gone, or a text cannot be embedded.
        """
        if isinstance(texts, str | bytes):
            raise InputRefused(f"the texts to embed are one {type(texts).__name__}: give a list, such as [text]")
        texts = list(texts)
        from instar.engine.embedding.checkpoint_names import checkpoint_called
        from instar.engine.service import Client, embed_texts

        if space is not None:
            space = checkpoint_called(self.runtime.reader, self.runtime.state, space)
        if self._serving():
            return Client(self.runtime.workspace.socket).embed(texts, space)[1]
        return embed_texts(self.runtime, texts, space)[1]

    def search(
        self,
        text: str,
        k: int = 10,
        *,
        kinds: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
    ) -> list[Found]:
        """Finds the rows of memory nearest to a text.

        Args:
            text: what to look for.
            k: how many rows.
            kinds: only rows of these kinds, such as ``failure`` or ``unit``.
            task_types: only rows of these task types.
            units: only rows of these units, such as ``scraper.py::fetch``. A name that ends in ``*``, here and in the
                two filters above, stands for all that begin so.
            since: only rows taken into memory then or later; an ISO time, UTC where it names no zone.
            until: only rows taken into memory then or earlier.

        Raises:
            ConfigError: the text is empty, ``k`` out of range or a time none, or the workspace has no model.
            ServiceError: the worker is gone, or cannot do it.
        """
        from instar.engine.memory.search import filter_of, search
        from instar.engine.service import Client

        wanted = filter_of(kinds=kinds, task_types=task_types, units=units, since=since, until=until)
        if self._serving():
            return Client(self.runtime.workspace.socket).search(text, k, wanted)
        return search(self.runtime, text, k, wanted)

    def answer(
        self,
        text: str,
        k: int | None = None,
        *,
        kinds: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
    ) -> Answer:
        """Answers a question by what memory knows to be right, and says how sure that is.

        Args:
            text: the question.
            k: how many of the nearest rows have a vote.
            kinds: only rows of these kinds.
            task_types: only rows of these task types.

        Raises:
            ConfigError: the text is empty or ``k`` out of range, or the workspace has no model.
            ServiceError: the worker is gone, or cannot do it.
        """
        from instar.engine.memory.answers import VOTERS, answer
        from instar.engine.memory.search import filter_of
        from instar.engine.service import Client

        wanted = filter_of(kinds=kinds, task_types=task_types)
        voters = VOTERS if k is None else k
        if self._serving():
            return Client(self.runtime.workspace.socket).answer(text, voters, wanted)
        return answer(self.runtime, text, voters, wanted)

    def _revive_worker(self) -> bool:
        raise NotImplementedError

    def _serving(self, timeout_s: float = 60.0) -> bool:
        """Waits until a worker listens, ours or the one that runs already; says whether there is one to ask.

        A socket that is there may be that of a worker which was killed.
        """
        from instar.engine.service import listens

        if self._process is None:
            return False
        if self._process.poll() is not None:
            self._revive_worker()
        deadline = time.monotonic() + timeout_s
        while self._answered is not self._process:
            if listens(self.runtime.workspace.socket):
                self._answered = self._process
            elif self._process.poll() is not None or time.monotonic() > deadline:
                return False
            else:
                time.sleep(0.02)
        return True
