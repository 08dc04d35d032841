"""One folder works on a stream: copies are told, a move works on, and a stream has one worker, wherever that is."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from instar.engine.doctor import examine
from instar.engine.initialize import initialize
from instar.engine.one_folder import worker_elsewhere
from instar.engine.runtime import Runtime
from instar.engine.settings import Settings
from instar.engine.snapshot import take_snapshot
from instar.engine.worker import Worker
from instar.engine.workspace import Workspace
from instar.fsm.errors import FolderCopied, InstarError, WorkerBusy
from instar.store.postgres_hold import other_worker
from tests.engine.test_server_away import Database, database, set_up, until
from tests.store.logs import feedback

__all__ = ["database"]


def opened(root: Path, database: Database) -> Runtime:
    return Runtime(root, actor="test", settings=Settings(log_url=database.url))


def elsewhere(root: Path) -> Path:
    """A copy as on another machine: the folder that it came from cannot be seen from there."""
    copied = root.with_name("elsewhere")
    shutil.copytree(root, copied, symlinks=True, ignore=shutil.ignore_patterns("*.sock", "begun.*", "progress.*"))
    (copied / ".instar" / "stands-at").unlink()
    return copied


@contextmanager
def working(runtime: Runtime) -> Iterator[tuple[Worker, threading.Thread, list[InstarError]]]:
    worker = Worker(runtime)
    ended: list[InstarError] = []
    begun = threading.Event()

    def work() -> None:
        try:
            worker.run_forever(begun.set)
        except InstarError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    try:
        yield worker, thread, ended
    finally:
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


def test_copy_records_nothing_and_says_what_to_do(database: Database, tmp_path: Path) -> None:
    root, copied = tmp_path / "agent", tmp_path / "agent2"
    set_up(root, database)
    shutil.copytree(root, copied, symlinks=True)
    with closing(opened(root, database)) as runtime:
        head = runtime.reader.head()
        with pytest.raises(FolderCopied, match=f"a copy of {root}, .*instar init"):
            opened(copied, database)
        (found,) = [one for one in examine(Workspace(copied, log_url=database.url)) if one.subject == "workspace"]
        assert found.level == "bad"
        assert str(root) in found.text
        assert runtime.reader.head() == head
    shutil.move(copied / ".instar", tmp_path / "copied.instar")
    initialize(copied, settings=Settings(log_url=database.url), with_model=False)
    assert (copied / ".instar" / "stream").read_bytes() != (root / ".instar" / "stream").read_bytes()
    opened(copied, database).close()
    opened(root, database).close()


def test_moved_folder_works_where_it_is(database: Database, tmp_path: Path) -> None:
    root, moved = tmp_path / "agent", tmp_path / "moved"
    set_up(root, database)
    root.rename(moved)
    with closing(opened(moved, database)) as runtime:
        runtime.log.append(feedback(1))
    assert os.fsdecode((moved / ".instar" / "stands-at").read_bytes()) == str(moved)
    shutil.copytree(moved, root, symlinks=True)
    with pytest.raises(FolderCopied, match=f"a copy of {moved}"):
        opened(root, database)
    shutil.rmtree(moved)
    opened(root, database).close()


def test_stream_has_one_worker_wherever_its_folder_is(database: Database, tmp_path: Path) -> None:
    root = tmp_path / "agent"
    set_up(root, database)
    copied = elsewhere(root)
    (copied / "new.py").write_text("x = 1\n", encoding="utf-8")
    with closing(opened(root, database)) as runtime, closing(opened(copied, database)) as other:
        with working(runtime):
            head = runtime.reader.head()
            told = f"instar: process {os.getpid()} on {os.uname().nodename}"
            for work in (Worker(other).run_once, Worker(other).run_forever):
                with pytest.raises(WorkerBusy, match=told) as caught:
                    work()
                assert caught.value.elsewhere
            with pytest.raises(WorkerBusy, match="of another folder"):
                take_snapshot(other, "mine")
            assert worker_elsewhere(other.reader, other.workspace)
            assert not worker_elsewhere(runtime.reader, runtime.workspace)
            take_snapshot(runtime, "ours")
            assert runtime.reader.head() == head + 1
        assert not worker_elsewhere(other.reader, other.workspace)
        Worker(other).run_once()
        Worker(runtime).run_once()


def end_sessions(database: Database) -> None:
    database.run(f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{database.name}'")


def test_worker_whose_connection_broke_holds_the_stream_anew(database: Database, tmp_path: Path) -> None:
    root = tmp_path / "agent"
    set_up(root, database)
    with closing(opened(root, database)) as runtime, working(runtime) as (_, thread, ended):
        end_sessions(database)
        with closing(opened(root, database)) as other:
            other.log.append(feedback(1))
            until(lambda: other.state.cycles > 0)
            copied = elsewhere(root)
            with closing(opened(copied, database)) as far, pytest.raises(WorkerBusy):
                Worker(far).run_once()
        assert thread.is_alive()
        assert not ended


def test_worker_that_lost_the_stream_records_nothing_more(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "agent"
    set_up(root, database)
    copied = elsewhere(root)
    with (
        caplog.at_level(logging.WARNING),
        closing(opened(root, database)) as runtime,
        closing(opened(copied, database)) as other,
        working(runtime) as (_, thread, ended),
    ):
        end_sessions(database)
        other.log.hold_stream()
        (root / "late.py").write_text("x = 2\n", encoding="utf-8")
        other.log.append(feedback(1))
        thread.join(60)
        assert isinstance(ended[0], WorkerBusy)
        assert other.state.cycles == 0
        assert other.reader.head() == runtime.reader.head()


def test_own_session_that_the_server_still_has_is_ended(database: Database, tmp_path: Path) -> None:
    """As after a cut network: the connection is gone here, and the server does not know."""
    root = tmp_path / "agent"
    set_up(root, database)
    with closing(opened(root, database)) as runtime:
        runtime.log.hold_stream()
        journal = runtime.log._journal
        cut, journal._connection = journal._connection, None  # type: ignore[attr-defined]
        runtime.log.append(feedback(1))
        assert other_worker(runtime.reader)
        with pytest.raises(Exception, match=r"terminat|closed"):
            cut.execute("SELECT 1")
        runtime.log.give_stream_back()
        assert not other_worker(runtime.reader)
        shown = journal._connection.execute("SHOW tcp_keepalives_idle").fetchone()  # type: ignore[attr-defined]
        assert shown == ("30",)


def test_second_worker_of_a_process_that_is_refused_leaves_the_stream_with_the_first(
    database: Database, tmp_path: Path
) -> None:
    root = tmp_path / "agent"
    set_up(root, database)
    with closing(opened(root, database)) as runtime:
        first = Worker(runtime)
        first.acquire()
        with pytest.raises(WorkerBusy):
            Worker(runtime).run_once()
        assert other_worker(runtime.reader)
