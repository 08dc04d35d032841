"""The engine as an agent embeds it."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from instar.fsm.errors import EffectFailedError, InputRefused, InstarError, WorkerBusy
from instar.fsm.react import react
from instar.fsm.record import Recorded
from instar.fsm.words import Seq
from instar.store.long_waits import LONG_S, stopped_holder

from .face.arguments import agent_root, require_settings, takes_plain
from .face.asking import Asking
from .face.auditing import Auditing
from .face.points import Points
from .face.reviving import LOOKED_AFTER_S, Revived
from .face.upkeep import Upkeep
from .feedback_rows import check_feedback, check_rows
from .last_settings import load_for_work
from .own_python import worker_command
from .settings import Settings
from .status import Status, read_status, worker_runs
from .workspace import Workspace

if TYPE_CHECKING:
    from .face.learning import Checkpoint
    from .runtime import Runtime
    from .tool_executor import Executed

logger = logging.getLogger("instar.engine")


@takes_plain
class Engine(Asking, Auditing, Points, Upkeep):
    """Instar inside an agent's process.

    The engine records what the agent tells it and lets a worker process do the heavy work; the agent's own process
    loads neither torch nor sentence-transformers.

    Args:
        root: the folder of the agent's code; set up on ``start`` if it was not before.
        worker: start a worker process, and start it anew where it ended and no other runs: when something is recorded
            (looked at every 30 s), asked or waited for. Without one, signals are recorded and wait in the log.
        settings: in place of ``instar.toml`` and the environment.

    Raises:
        ConfigError: the root is no path, or relative where the folder that the process stands in was deleted; or the
            settings are none.

    Example::

        with Engine(".") as engine:
            engine.feedback(task_type="lookup", input="open a file", output="os.open", reference="open", outcome="fail")
            engine.wait()
    """

    def __init__(self, root: str | Path = ".", *, worker: bool = True, settings: Settings | None = None) -> None:
        self.root = agent_root(root)
        require_settings(settings)
        self._with_worker = worker
        self._settings = settings
        self._runtime: Runtime | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._revived = Revived()
        self._reviving = threading.Lock()
        self._starting = threading.RLock()
        self._look_at = 0.0

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Opens the workspace, sets it up first if need be, and starts the worker.

        Raises:
            ConfigError: a setting cannot be used, or the weights cannot be found.
            LogForeign: the log is not ours or from a newer version.
        """
        with self._starting:
            return self if self._runtime is not None else self._start()

    def _start(self) -> Self:
        from .runtime import Runtime

        settings = self._settings or load_for_work(self.root, os.environ)
        workspace = Workspace(self.root, settings.paths, settings.log_url)
        if not workspace.exists:
            from .initialize import initialize

            initialize(self.root, settings=settings)
        self._runtime = Runtime(self.root, actor="agent", settings=settings)
        try:
            self._runtime.require_initialized()
            if self._runtime.state.restoring is not None:
                from .restoring.rollback import finish_begun

                finish_begun(self._runtime)
            if self._with_worker:
                self._start_worker(workspace)
        except BaseException:
            self.stop()  # or a second start would find it open, with half of what it needs
            raise
        return self

    def stop(self, timeout_s: float = 60.0) -> None:
        """Ends the worker after the effect in progress, and closes the log. What is owed then waits in the log."""
        with self._reviving:
            process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()  # safe at any moment: the next worker takes up where the log says
                process.wait()
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None

    def __del__(self) -> None:
        """Lets the worker of an engine end that was dropped without a stop: ``subprocess`` keeps its pipe open else."""
        process = self.__dict__.get("_process")
        if process is not None:
            with suppress(OSError):
                process.stdin.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_worker(self, workspace: Workspace) -> None:
        with workspace.worker_log.open("ab") as log:
            self._process = subprocess.Popen(
                worker_command(self.root),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._worker_environ()},
                start_new_session=True,
            )
        _WITH_WORKER.add(self)

    def _revive_worker(self) -> bool:
        """Starts the engine's own worker anew where none runs any more; says whether it did.

        One that was killed, or that ended at once since another engine's worker ran then, is no reason to give up; one
        that ends again and again before it records anything is.
        """
        with self._reviving:
            if self._process is None or self._worker_runs() or not self._revived.once_more(self.runtime.state.head):
                return False
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._start_worker(self.runtime.workspace)
            return True

    def _look_after_worker(self) -> None:
        """Starts the engine's own worker anew where none runs: an agent that only reports never waits for one.

        What was to be recorded is recorded by then, so nothing is raised: the caller would record it twice.
        """
        process = self._process
        if process is None or process.poll() is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOKED_AFTER_S
        try:
            self._revive_worker()
        except (OSError, InstarError) as error:
            logger.warning("the worker ended, and cannot be started anew now: %s", error)

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
                (``pass``, ``fail``, ``skip``), ``confidence`` and ``reward`` in 0..1, ``group``, ``source``. One whose
                source begins with ``taught:`` is a lesson that the agent was not asked: it earns no reward.

        Raises:
            InputRefused: a field is missing, unknown or out of range; nothing was recorded.
        """
        seq = self.runtime.log.append(check_feedback(row)).seq
        self._look_after_worker()
        return seq

    def feedback_many(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Records many outcomes in one durable append: all of them or, if one is malformed, none.

        Raises:
            InputRefused: a row is malformed, or what was given is no rows; nothing was recorded.
        """
        from instar.store.log import Pending

        events = [Pending(event) for event in check_rows(rows)]
        if not events:
            return []
        recorded = self.runtime.log.transact(lambda _: events)
        self._look_after_worker()
        return [record.seq for record in recorded]

    def execute(self, task: Mapping[str, Any]) -> Executed:
        """Queues a task for the worker, or runs a shell command now and records how it ended.

        Args:
            task: ``{"type": "self_train"}``, ``{"type": "mutate", "patch": …}``, ``{"type": "mutate", "repair": True}``
                or ``{"type": "shell", "command": …}``.
                A command that is a string is a line for ``/bin/sh``; one that is a list is a program and its
                arguments, run without a shell: give that where a part comes from elsewhere.

        Raises:
            InputRefused: the task is malformed, or a text in it is no UTF-8; nothing was recorded.
            ConfigError: the patch is no unified diff.
        """
        from .tool_executor import execute

        done = execute(self.runtime, task, source="agent")
        self._look_after_worker()
        return done

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
            task_type: what the pairs are examples of, as ``answer`` filters by it. The agent was not asked, so they
                count neither for the reward of that type nor for a probation.
            source: who says that they are right; of each pair it is recorded as ``taught:`` and this.
            note: why, for whoever reads the log later.
            timeout_s: how long to wait for a worker; without one this process trains, and that is not cut off.

        Returns:
            The candidate with the gate's verdict: it is active only if ``promoted``.

        Raises:
            InputRefused: there is no pair, or one or the recipe cannot be used; nothing was recorded.
            EffectFailedError: the engine was to have a worker, no other one runs, and its own ends again and again.
            TimeoutError: the time is up; the training goes on.
        """
        from .face.learning import tell

        told = tell(self.runtime, pairs, recipe or {}, task_type=task_type, source=source, note=note)
        return self._candidate(told.task, timeout_s)

    def judge(
        self, weights: str | Path, *, source: str = "user", note: str = "", timeout_s: float | None = None
    ) -> Checkpoint:
        """Has weights that were trained elsewhere judged by the gate, as ones that were trained here, and waits for it.

        Args:
            weights: a model's folder, package or hub name; or ``checkpoint:`` and the beginning of a digest, for a
                candidate that was judged before and may fare better on what was told since.
            source: who says so.
            note: why, for whoever reads the log later.
            timeout_s: how long to wait for a worker; without one this process measures, and that is not cut off.

        Returns:
            The candidate with the gate's verdict: it is active only if ``promoted``.

        Raises:
            InputRefused: they are active already, or none are named; nothing was recorded.
            ConfigError: they cannot be taken, or the workspace has no model to judge them by; nothing was recorded.
            EffectFailedError: the engine was to have a worker, no other one runs, and its own ends again and again.
            TimeoutError: the time is up; it goes on.
        """
        from .tool_executor import execute

        if not str(weights).strip():
            raise InputRefused("judge: no weights are named: give a folder, a package, a hub name or checkpoint:PREFIX")
        asked = {"type": "self_train", "weights": str(weights), "note": note}
        return self._candidate(Seq(execute(self.runtime, asked, source=source).event), timeout_s)

    def _candidate(self, task: Seq, timeout_s: float | None) -> Checkpoint:
        """Waits for what becomes of an order to train."""
        from .face.learning import outcome_of

        if self._process is None:
            self._work_or_wait(timeout_s)
        else:
            self.wait(timeout_s)
        return outcome_of(self.runtime.reader, task)

    def _work_or_wait(self, timeout_s: float | None) -> None:
        """Does what is owed in this process, or waits for the worker that holds the workspace."""
        from .worker import Worker

        until = _deadline(timeout_s)
        while True:
            try:
                Worker(self.runtime).run_once()
                return
            except WorkerBusy as error:
                if error.elsewhere:
                    raise
                if self._settled(until, timeout_s):
                    return

    # ---- where it stands -------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Says where machine and agent stand."""
        return read_status(self.runtime.reader, self.runtime.workspace)

    def events(self, first: int = 1) -> list[Recorded]:
        """Reads the log from a position on."""
        return list(self.runtime.reader.read(first))

    def wait(self, timeout_s: float | None = None, *, poll_s: float = 0.05) -> Status:
        """Waits until nothing is owed and nothing waits, whichever process runs the worker.

        Where none runs any more, the engine's own is started anew.

        Raises:
            EffectFailedError: no worker runs, and the engine has none of its own or it ends again and again; the log
                of workers says why.
            TimeoutError: the time is up; what is owed stays in the log.
        """
        if not self._settled(_deadline(timeout_s), timeout_s, poll_s):
            raise EffectFailedError(f"there is no worker to wait for; see {self.runtime.workspace.worker_log}")
        return self.status()

    def _settled(self, until: float | None, timeout_s: float | None, poll_s: float = 0.05) -> bool:
        """Waits as long as a worker runs; says whether nothing is owed any more."""
        told = False
        look_s = time.monotonic() + LONG_S
        while True:
            runs = self._worker_runs()  # looked at first: one that ends after its last effect has recorded it
            if react(self.runtime.state) is None:
                return True
            if not runs and not self._revive_worker():
                return False
            if until is not None and time.monotonic() > until:
                raise TimeoutError(
                    f"the engine is still busy after {timeout_s} s{self._stopped()}; what is owed stays in the log"
                )
            if not told and time.monotonic() > look_s:
                look_s = time.monotonic() + LONG_S
                if stopped := self._stopped():
                    told = True
                    logger.warning("waiting for the worker%s", stopped)
            time.sleep(poll_s)

    def _stopped(self) -> str:
        """Says that the worker was stopped, and does nothing therefore; empty where it was not."""
        pid = stopped_holder(self.runtime.workspace.worker_lock)
        return f", which is stopped (`kill -CONT {pid}` lets it go on)" if pid else ""

    def _worker_runs(self) -> bool:
        own = self._process is not None and self._process.poll() is None
        return own or worker_runs(self.runtime.workspace)


_WITH_WORKER: weakref.WeakSet[Engine] = weakref.WeakSet()


def _let_go() -> None:
    """Closes, in a process that was forked off, the pipes whose end tells workers that the agent is gone."""
    for engine in _WITH_WORKER:
        # A thread of the parent may have one, which is not there to give it back.
        engine._reviving, engine._starting = threading.Lock(), threading.RLock()
        process = engine._process
        if process is not None and process.stdin is not None:
            process.stdin.close()


os.register_at_fork(after_in_child=_let_go)


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
