"""The worker: a process of its own that watches, folds and runs what the log owes.

If it dies, the agent lives; the next worker takes up where the log says. There is one worker a workspace.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from instar.fsm.errors import InstarError, LogUnavailable, WorkerBusy
from instar.fsm.events import PolicyChanged
from instar.fsm.react import react
from instar.fsm.words import Seq
from instar.store.failpoints import failpoint
from instar.store.follow import PATIENCE_S, RETRY_S
from instar.store.lock import FileLock
from instar.store.log import Pending

from .beginnings import forget
from .children import wait_for_own
from .clock_ahead import ahead_of, told
from .feedback_loop import foreign_trigger, remove_trigger
from .kernel import remove_copies
from .loop import Listener, Loop
from .progress import HANGS_S
from .restoring.rollback import finish_begun
from .runtime import Runtime
from .self_repair import SelfRepair
from .visible import VisibleFormatter
from .watcher import Watcher

logger = logging.getLogger("instar.engine")

_POLL_S = 0.1
_ENDING_S = 1.0
"""For so long a server may take to find that a worker which was killed is gone."""
_PAUSE_S_MAX = 10.0
"""Between two tries at a server that can be read but not written: each may do an effect anew."""
_QUIET_S = 60.0
"""So long without a fault is the end of it, though nothing was recorded."""


class Worker:
    """Runs one workspace until it is told to stop.

    Args:
        runtime: the workspace, opened as actor ``worker``.
        listener: called with each event that the loop recorded.
    """

    def __init__(self, runtime: Runtime, listener: Listener | None = None) -> None:
        self._runtime = runtime
        self._lock = FileLock(runtime.workspace.worker_lock)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        runtime.ending = self._stopping.is_set
        self._loop = Loop(runtime, listener)
        self._watcher = Watcher(runtime, self._wake)
        self._repair = SelfRepair(runtime)
        self._trigger_seen: tuple[int, ...] | None = None
        self._told_of_clock = False

    def acquire(self) -> None:
        """Becomes the workspace's one worker.

        Raises:
            WorkerBusy: there is one already, of this folder or of another one on the same stream.
        """
        # A look at whether a worker runs holds the lock for a moment: try a few times.
        for _ in range(6):
            if self._lock.acquire(blocking=False):
                break
            time.sleep(0.05)
        else:
            raise WorkerBusy(
                f"another worker runs {self._runtime.workspace.root}: one is enough. "
                f"It takes up what waits by itself; `instar status` shows it."
            )
        try:
            self._hold_stream()
        except BaseException:
            self._lock.release()
            raise

    def _hold_stream(self) -> None:
        deadline = time.monotonic() + _ENDING_S
        while True:
            try:
                self._runtime.log.hold_stream()
                return
            except WorkerBusy:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)

    def _release(self) -> None:
        try:
            if self._lock.level():  # else another worker of this process has the stream
                self._runtime.log.give_stream_back()
        finally:
            try:
                self._lock.back_to(0)
            except BaseException:  # Ctrl-C in the process of an agent, which lives on
                self._lock.back_to(0)
                raise

    def stop(self) -> None:
        """Asks the worker to end after the effect in progress; a training is put off at its next step."""
        self._stopping.set()
        self._wake.set()
        forget(self._runtime.workspace.begun)  # whoever asks may kill it soon: that is no fault of the effect

    def run_once(self) -> int:
        """Consumes what waits, runs the cycles that follow, and ends.

        Returns:
            The number of effects that were run.
        """
        try:
            self.acquire()
            self._prepare()
            self._tell_of_clock()
            self._watcher.rescan()
            count = self._loop.run_until_idle(self._wanted)
            self.take_trigger_file()
            self._watcher.rescan()
            return count + self._loop.run_until_idle(self._wanted)
        finally:
            self._release()

    def run_forever(self, begun: Callable[[], object] = lambda: None) -> None:
        """Works until ``stop``; what a killed worker left is finished first.

        Args:
            begun: called once this is the workspace's one worker.

        Raises:
            WorkerBusy: there is one already; or one of another folder took the stream while its server was away.
            LogUnavailable: the disk is full or read-only, or a server stays away for too long.
        """
        from .service import Service

        self.acquire()
        service = Service(self._runtime)
        try:
            begun()
            self._prepare()
            service.start()
            self._watcher.start()
            token = -1
            away = _Away()
            while self._wanted():
                try:
                    token = self._round(token)
                    away.went_well(self._runtime.log.known_head)
                except LogUnavailable as error:
                    if self._runtime.log.place.url is None:
                        raise
                    self._await_log(away, error)
                    token = -1
        finally:
            self._watcher.stop()
            service.stop()
            self._release()

    def _round(self, token: int) -> int:
        """Looks at the folder and the log once, and waits a moment; gives what tells whether the log changed."""
        if self._watcher.due_in() <= 0:
            self._watcher.look()
        fresh = self._runtime.reader.changed_token()
        if fresh != token:
            self._runtime.log.check_known()
            self._tell_of_clock()
            self._loop.run_until_idle(self._wanted)
        self.take_trigger_file()
        if self._repair.look():
            return token  # and at once to work on it
        self._runtime.models.rest()
        self._wake.wait(min(_POLL_S, self._watcher.due_in()))
        self._wake.clear()
        return fresh

    def _tell_of_clock(self) -> None:
        """Says once that recorded times stand still, since the last one is yet to come."""
        now_us = self._runtime.log.now_us()
        ahead = 0.0 if self._told_of_clock else ahead_of(self._runtime.log.last_us, now_us)
        if ahead:
            self._told_of_clock = True
            logger.warning("%s.", told(ahead, now_us))

    def _await_log(self, away: _Away, error: LogUnavailable) -> None:
        """Waits until a server's log can be read again, and finishes what was cut off; what is owed stays owed.

        Raises:
            LogUnavailable: it cannot be read, or not be written, for too long.
        """
        pause_s = away.pause_s(error, self._runtime.log.known_head)
        while self._wanted():
            self._stopping.wait(pause_s)
            try:
                self._runtime.reader.head()
                self._prepare()
                return
            except LogUnavailable as still:
                away.require_patience(still)
            pause_s = RETRY_S

    def _wanted(self) -> bool:
        return not self._stopping.is_set()

    def _prepare(self) -> None:
        self._runtime.require_initialized()
        finish_begun(self._runtime)
        remove_copies(self._runtime.workspace)
        policy = self._runtime.settings.policy
        self._runtime.log.transact(
            lambda state: [Pending(PolicyChanged(policy=policy))] if state.policy != policy else []
        )
        active = self._runtime.state.checkpoint
        if active is not None or self._runtime.workspace.active_checkpoint.is_symlink():  # else no model need be loaded
            self._runtime.models.activate(active)

    def take_trigger_file(self) -> None:
        """Takes a retrain trigger that another program dropped; our own, and one that was taken, are left."""
        if react(self._runtime.state) is not None:
            return  # the file may be ours, written by a worker that was killed before it could record it
        seen = _signature(self._runtime.workspace.retrain_trigger)
        if seen is None or seen == self._trigger_seen:
            return
        foreign = foreign_trigger(self._runtime)
        self._trigger_seen = seen if _signature(self._runtime.workspace.retrain_trigger) == seen else None
        if foreign:
            self._runtime.log.transact(lambda _: [foreign])
            failpoint("trigger.taken")
            remove_trigger(self._runtime, foreign)
            self._wake.set()


class _Away:
    """For how long a server's log could not be used: it is away, read-only, or its disk is full.

    That is over once something was recorded, or no round failed for a while: a round may have nothing to record.
    """

    def __init__(self) -> None:
        self._count = 0
        """Rounds that failed."""
        self._head = Seq(0)
        self._since = self._last = 0.0

    def pause_s(self, error: LogUnavailable, head: Seq) -> float:
        """Says how long to wait before the next try, after a round that failed.

        Raises:
            LogUnavailable: it was waited for long enough.
        """
        now = time.monotonic()
        if not self._count:
            self._since, self._head = now, head
            logger.warning("%s Trying again for up to %d s.", error, PATIENCE_S)
        self._last = now
        self.require_patience(error)
        self._count += 1
        return float(min(RETRY_S * 2 ** min(self._count - 1, 10), _PAUSE_S_MAX))

    def require_patience(self, error: LogUnavailable) -> None:
        """Makes sure that it was not waited for too long.

        Raises:
            LogUnavailable: it was.
        """
        if time.monotonic() - self._since > PATIENCE_S:
            raise error

    def went_well(self, head: Seq) -> None:
        """Notes that a round went well."""
        if self._count and (head != self._head or time.monotonic() - self._last > _QUIET_S):
            self._count = 0
            logger.warning("the event log can be used again; the work goes on")


def _signature(path: Path) -> tuple[int, ...] | None:
    """Tells one writing of a file from the next; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _end_with_parent(worker: Worker, runtime: Runtime) -> None:
    """Ends the worker when the agent's process is gone: its end of the pipe on standard input closes.

    Where the effect in progress hangs, nobody is there any more who would kill it.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        worker.stop()
        since = time.monotonic()
        while (left_s := max(since, runtime.progress.last) + HANGS_S - time.monotonic()) > 0:
            time.sleep(left_s)
        logger.error(
            "the agent's process is gone, and nothing was heard of the effect in progress for %d s: the worker ends; "
            "what is owed stays in the log",
            HANGS_S,
        )
        os._exit(1)

    threading.Thread(target=watch, name="instar-parent", daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Runs a worker for a workspace; the embedding facade starts it as ``python -m instar.engine.worker ROOT``."""
    parser = argparse.ArgumentParser(prog="instar-worker")
    parser.add_argument("root", type=Path)
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    chosen = parser.parse_args(arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    wait_for_own()
    try:
        with closing(Runtime(chosen.root, actor="worker")) as runtime:
            worker = Worker(runtime)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: worker.stop())
            if chosen.with_parent:
                _end_with_parent(worker, runtime)
            worker.run_forever()
    except InstarError as error:
        logger.error("%s", error)
        return error.exit_code
    except OSError as error:  # a disk or a right of this machine
        logger.error("%s. What was recorded stays recorded: mend this, then start again.", error)
        return 1
    except Exception:  # a bug of ours
        logger.exception("the worker ends; what is owed stays in the log")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
