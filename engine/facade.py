"""The engine as an agent embeds it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from instar.fsm.errors import EffectFailedError, InstarError
from instar.fsm.react import react
from instar.fsm.record import Recorded
from instar.fsm.words import Digest, Seq

from .feedback_rows import check_feedback
from .points import Points
from .settings import Settings, load_settings
from .status import Status, read_status
from .workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from instar.store.follow import Follower

    from .anchor import Anchor
    from .answers import Answer
    from .bundle import Exported
    from .bundle_format import Wanted
    from .learning import Checkpoint
    from .provenance.taint import Taint
    from .provenance.why import Why
    from .replay import Replayed
    from .runtime import Runtime
    from .search import Found
    from .signing import SigningKey
    from .tool_executor import Executed
    from .what_if import WhatIf


class Engine(Points):
    """Instar inside an agent's process.

    The engine records what the agent tells it and lets a worker process do the heavy work; the agent's own process
    loads neither torch nor sentence-transformers.

    Args:
        root: the folder of the agent's code; set up on ``start`` if it was not before.
        worker: start a worker process. Without one, signals are recorded and wait in the log.
        settings: in place of ``instar.toml`` and the environment.

    Example::

        with Engine(".") as engine:
            engine.feedback(task_type="lookup", input="open a file", output="os.open", reference="open", outcome="fail")
            engine.wait()
    """

    def __init__(self, root: str | Path = ".", *, worker: bool = True, settings: Settings | None = None) -> None:
        self.root = Path(root).resolve()
        self._with_worker = worker
        self._settings = settings
        self._runtime: Runtime | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Opens the workspace, sets it up first if need be, and starts the worker.

        Raises:
            ConfigError: a setting cannot be used, or the weights cannot be found.
            LogForeign: the log is not ours or from a newer version.
        """
        if self._runtime is not None:
            return self
        from .runtime import Runtime

        settings = self._settings or load_settings(self.root, os.environ)
        workspace = Workspace(self.root, settings.paths, settings.log_url)
        if not workspace.exists:
            from .initialize import initialize

            initialize(self.root, settings=settings)
        self._runtime = Runtime(self.root, actor="agent", settings=settings)
        self._runtime.require_initialized()
        if self._runtime.state.restoring is not None:
            from .rollback import finish_begun

            finish_begun(self._runtime)
        if self._with_worker:
            self._start_worker(workspace)
        return self

    def stop(self, timeout_s: float = 60.0) -> None:
        """Ends the worker after the effect in progress, and closes the log. What is owed then waits in the log."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()  # safe at any moment: the next worker takes up where the log says
                self._process.wait()
            self._process = None
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_worker(self, workspace: Workspace) -> None:
        with workspace.worker_log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "instar.engine.worker", str(self.root), "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._worker_environ()},
                start_new_session=True,
            )

    def _worker_environ(self) -> dict[str, str]:
        """Hands settings that were given in code over to the worker, which reads files and environment."""
        if self._settings is None:
            return {}
        from .settings import as_environ

        return as_environ(self._settings)

    @property
    def runtime(self) -> Runtime:
        """The opened workspace.

        Raises:
            InstarError: the engine was not started.
        """
        if self._runtime is None:
            raise InstarError("the engine is not started: use `with Engine(...)` or call start()")
        return self._runtime

    # ---- signals ---------------------------------------------------------------------------------------------------

    def feedback(self, **row: Any) -> int:
        """Records an outcome of the agent's work; returns its position in the log when it is durable.

        Args:
            row: ``task_type`` and ``input``; optional ``output``, ``reference`` (the right answer), ``outcome``
                (``pass``, ``fail``, ``skip``), ``confidence`` and ``reward`` in 0..1, ``group``, ``source``.

        Raises:
            InputRefused: a field is missing, unknown or out of range; nothing was recorded.
        """
        return self.runtime.log.append(check_feedback(row)).seq

    def feedback_many(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Records many outcomes in one durable append: all of them or, if one is malformed, none.

        Raises:
            InputRefused: a row is malformed; nothing was recorded.
        """
        from instar.store.log import Pending

        events = [Pending(check_feedback(dict(row))) for row in rows]
        return [record.seq for record in self.runtime.log.transact(lambda _: events)] if events else []

    def execute(self, task: Mapping[str, Any]) -> Executed:
        """Queues a task for the worker, or runs a shell command now and records how it ended.

        Args:
            task: ``{"type": "self_train"}``, ``{"type": "mutate", "patch": …}`` or ``{"type": "shell", "command": …}``.

        Raises:
            InputRefused: the task is malformed.
            ConfigError: there is no such program, or the patch is no unified diff.
        """
        from .tool_executor import execute

        return execute(self.runtime, task, source="agent")

    def learn(
        self,
        pairs: Iterable[tuple[str, str] | Mapping[str, Any]],
        *,
        recipe: Mapping[str, float | int | str] | None = None,
        task_type: str = "learn",
        source: str = "user",
        note: str = "",
        timeout_s: float | None = None,
    ) -> Checkpoint:
        """Records pairs of an input and its right output, has them learnt, and waits for the gate's verdict.

        Args:
            pairs: ``(input, output)``, or mappings with ``input``, ``output`` and, if need be, ``negatives`` (outputs
                that are wrong) and ``group`` (what is held out as a whole).
            recipe: parts of the training recipe that are to be otherwise than configured.
            task_type: what the pairs count for.
            source: who says that they are right.
            note: why, for whoever reads the log later.
            timeout_s: how long to wait.

        Returns:
            The candidate with the gate's verdict: it is active only if ``promoted``.

        Raises:
            InputRefused: there is no pair, or one or the recipe cannot be used; nothing was recorded.
            EffectFailedError: the worker ended meanwhile.
            TimeoutError: the time is up; the training goes on.
        """
        from .learning import outcome_of, tell

        told = tell(self.runtime, pairs, recipe or {}, task_type=task_type, source=source, note=note)
        if self._process is None:
            from .worker import Worker

            Worker(self.runtime).run_once()
        else:
            self.wait(timeout_s)
        return outcome_of(self.runtime.reader, told.task)

    # ---- memory and model ------------------------------------------------------------------------------------------

    @property
    def space(self) -> Digest | None:
        """The active checkpoint, which names the embedding space; None without a model."""
        return self.runtime.state.checkpoint

    def embed(self, texts: Sequence[str], *, space: str | None = None) -> NDArray[np.float32]:
        """Embeds texts with the active checkpoint, in the worker where there is one.

        Returns:
            float32 of shape (texts, dim), rows of unit length.

        Raises:
            ServiceError: the worker is gone, or a text cannot be embedded.
        """
        from .service import Client, embed_texts

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
            ConfigError: the text is empty, ``k`` out of range or a time none.
        """
        from .search import filter_of, search
        from .service import Client

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
            ConfigError: the text is empty or ``k`` out of range.
        """
        from .answers import VOTERS, answer
        from .search import filter_of
        from .service import Client

        wanted = filter_of(kinds=kinds, task_types=task_types)
        voters = VOTERS if k is None else k
        if self._serving():
            return Client(self.runtime.workspace.socket).answer(text, voters, wanted)
        return answer(self.runtime, text, voters, wanted)

    def _serving(self, timeout_s: float = 60.0) -> bool:
        """Waits for our own worker's socket; says whether there is a worker to ask."""
        path = self.runtime.workspace.socket
        if self._process is None:
            return False
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    # ---- the log ---------------------------------------------------------------------------------------------------

    def replay(self, *, to: str | int | None = None, level: str = "decisions") -> Replayed:
        """Folds the log again from its first event and compares every row and decision with it. Runs no effect.

        Args:
            to: the last event, any reference; the head by default.
            level: how deep to look: ``chain``, ``decode``, ``transitions``, ``digests`` or ``decisions``.

        Raises:
            LogCorrupt, ReplayDiverged: the first event that does not fit, and why.
            ConfigError: there is no such level or reference.
        """
        from .references import resolve
        from .replay import level_of, replay

        reader = self.runtime.reader
        return replay(reader, to=resolve(reader, to) if to is not None else None, level=level_of(level))

    def what_if(self, policy: Mapping[str, Any], *, to: str | int | None = None) -> WhatIf:
        """Lists the decisions that would have been others under another policy. Runs no effect.

        Args:
            policy: what to set otherwise, by dotted name, such as ``{"drift.threshold": 0.6}``; keys as in
                ``[policy]`` of ``instar.toml``.
            to: the last event, any reference; the head by default.

        Raises:
            ConfigError: a key is not known, a value cannot stand there, or there is no such reference.
        """
        from .references import resolve
        from .what_if import what_if

        reader = self.runtime.reader
        return what_if(reader, policy, to=resolve(reader, to) if to is not None else None)

    def why(self, reference: str | int) -> Why:
        """Says what an event, checkpoint, mutation, row of memory or row of a data set rests on, back to the signals.

        Args:
            reference: any reference to an event; or ``checkpoint:PREFIX``, ``mutation:SEQ``, ``memory:SEQ.ITEM`` (as a
                search tells it), ``dataset:PREFIX``, ``dataset:PREFIX#ROW``.

        Raises:
            ConfigError: it names nothing in this log, or more than one thing.
        """
        from .provenance.why import why

        return why(self.runtime.reader, reference)

    def taint(self, reference: str | int) -> Taint:
        """Says what was derived from something, and whether what is active now rests on it; references as ``why``.

        Raises:
            ConfigError: it names nothing in this log, or more than one thing.
        """
        from .provenance.taint import taint

        return taint(self.runtime.reader, reference)

    def anchor(self, *, key: str | Path | None = None) -> Anchor:
        """Gives the head of the log for an outside witness: ``print(engine.anchor().line)``.

        Args:
            key: a signing key outside the workspace; without one the anchor is not signed.

        Raises:
            LogCorrupt: the chain is broken.
            ConfigError: the key cannot be used.
        """
        from .anchor import make_anchor

        return make_anchor(self.runtime.reader, key=self._signing_key(key))

    def export(
        self,
        bundle: str | Path,
        *,
        first: str | int | None = None,
        to: str | int | None = None,
        blobs: Wanted = "named",
        key: str | Path | None = None,
    ) -> Exported:
        """Writes a bundle that others can verify without Instar: a folder, or a file named ``….tar``.

        Args:
            bundle: where; nothing may stand there yet.
            first: the first event, as a reference; that of the log by default.
            to: the last event, as a reference; the head by default.
            blobs: those ``named`` by an exported event, ``all`` in the store, or ``none``.
            key: a signing key outside the workspace; without one the bundle is not signed.

        Raises:
            ConfigError: the place, a reference or the key cannot be used.
            LogCorrupt, BlobMissing, BlobCorrupt: the log is not whole.
        """
        from .bundle import export
        from .references import resolve

        reader = self.runtime.reader
        begin, end = (None if reference is None else resolve(reader, reference) for reference in (first, to))
        return export(reader, Path(bundle), first=begin, last=end, wanted=blobs, key=self._signing_key(key))

    def _signing_key(self, path: str | Path | None) -> SigningKey | None:
        from .signing import load_key

        return None if path is None else load_key(Path(path), workspace=self.root)

    def follow(self, name: str | None = None, *, start: int | None = None) -> Follower:
        """Gives each event of the log once it is recorded, from the durable cursor of that name on.

        Args:
            name: the subscriber; None keeps no cursor.
            start: the first position, for a subscriber without a cursor; 1 by default.

        Raises:
            ConfigError: the name cannot be used.
            LogCorrupt: the log no longer holds what this subscriber acknowledged.
        """
        return self.runtime.log.follow(name, start=None if start is None else Seq(start))

    def erase(self, reference: str | int, reason: str) -> list[int]:
        """Erases the text of a signal and every copy of it, on lawful request; cannot be undone.

        Args:
            reference: the signal.
            reason: on whose request, and why; it is recorded.

        Returns:
            The positions of the erasures.

        Raises:
            ConfigError: it holds nothing to erase, or was erased before.
            RollbackRefused: the content still stands in the workspace.
        """
        from .erase import erase, plan_erasure
        from .references import resolve

        plan = plan_erasure(self.runtime, resolve(self.runtime.reader, reference), reason)
        return [record.seq for record in erase(self.runtime, plan)]

    def status(self) -> Status:
        """Says where machine and agent stand."""
        return read_status(self.runtime.reader, self.runtime.workspace)

    def events(self, first: int = 1) -> list[Recorded]:
        """Reads the log from a position on."""
        return list(self.runtime.reader.read(first))

    def wait(self, timeout_s: float | None = None, *, poll_s: float = 0.05) -> Status:
        """Waits until nothing is owed and nothing waits.

        Raises:
            EffectFailedError: the worker ended before that; its log says why.
            TimeoutError: the time is up.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while react(self.runtime.state) is not None:
            if self._process is None or self._process.poll() is not None:
                raise EffectFailedError(f"there is no worker to wait for; see {self.runtime.workspace.worker_log}")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the engine is still busy after {timeout_s} s; what is owed stays in the log")
            time.sleep(poll_s)
        return self.status()
