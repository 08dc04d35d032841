"""What is PostgreSQL's own: rights, triggers that always fire, streams beside each other, a server that goes away."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from instar.fsm.errors import ConfigError, LogForeign, LogLost, LogMissing, LogUnavailable
from instar.fsm.state import AgentState
from instar.store import postgres_journal
from instar.store.log import EventLog, Pending, create_log
from instar.store.place import Place
from instar.store.postgres_source import _SILENCE, connect, patience
from instar.store.reader import SCHEMA_HEAD, LogReader
from tests.store.between import Between
from tests.store.logs import feedback, fresh_log, fresh_stream

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'instar[postgresql]'")


@pytest.fixture
def log(stream: Place) -> Iterator[EventLog]:
    opened = fresh_log(stream)
    opened.append(feedback(1), key="k")
    opened.append(feedback(2))
    yield opened
    opened.close()


HOSTILE = (
    "UPDATE events SET actor = 'x' WHERE seq = 1",
    "UPDATE events SET payload = NULL WHERE seq = 2",
    "DELETE FROM events WHERE seq = 2",
    "TRUNCATE events",
    "TRUNCATE events CASCADE",
    "INSERT INTO events SELECT * FROM events WHERE seq = 2",
    "INSERT INTO events SELECT * FROM events WHERE seq = 2 ON CONFLICT (seq) DO UPDATE SET actor = 'x'",
    "INSERT INTO events SELECT seq + 5, type, version, recorded_at_us, cycle, cause, actor, state_before, state_after, "
    "NULL, payload, payload_hash, prev_hash, hash, NULL FROM events WHERE seq = 2",
    "MERGE INTO events USING (SELECT 2 AS seq) AS s ON events.seq = s.seq WHEN MATCHED THEN DELETE",
)


@pytest.mark.parametrize("statement", HOSTILE)
@pytest.mark.parametrize("mode", ["origin", "replica"])
def test_owner_cannot_change_events_in_any_mode(log: EventLog, statement: str, mode: str) -> None:
    before = list(log.reader.rows())
    with connect(log.place) as owner:
        owner.execute(f"SET session_replication_role = {mode}".encode())
        with pytest.raises(psycopg.Error, match="append-only"):
            owner.execute(statement.encode())
    assert list(log.reader.rows()) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'x'",
        "DELETE FROM events",
        "DELETE FROM blobs",
        "TRUNCATE events",
        "DROP TABLE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "CREATE TABLE mine (x int)",
    ],
)
def test_our_own_connection_has_insert_and_select_alone(log: EventLog, statement: str) -> None:
    connection = log._journal._connection  # type: ignore[attr-defined]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


SHADOWS = {
    "collects": (
        "CREATE TEMP TABLE events AS SELECT 9999 AS seq, 'BlobsCollected'::text AS type",
        "INSERT INTO doomed (digest, seq) SELECT digest, 9999 FROM {stream}.blobs",
    ),
    "leaves a gap": (
        "CREATE TEMP TABLE events AS SELECT 4999 AS seq, hash FROM {stream}.events WHERE seq = 4",
        "INSERT INTO {stream}.events SELECT 5000, type, version, recorded_at_us, cycle, cause, actor, state_before, "
        "state_after, NULL, payload, payload_hash, hash, hash, NULL FROM {stream}.events WHERE seq = 4",
    ),
    "erases by another table": (
        "CREATE TEMP TABLE mine (seq bigint, cause bigint, payload text)",
        "CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {stream}.events_erase()",
        "INSERT INTO mine SELECT 1, 1, jsonb_build_object('blobs', jsonb_agg(digest)) FROM {stream}.blobs",
    ),
}


def _run_all(connection: Any, statements: Sequence[str], stream: str) -> None:
    for statement in statements:
        connection.execute(statement.format(stream=stream).encode())


@pytest.mark.parametrize("name", SHADOWS)
def test_who_appends_cannot_shadow_what_the_triggers_look_at(log: EventLog, name: str) -> None:
    digest = log.blobs.put(b"small")
    log.append(feedback(3))
    before = list(log.reader.rows())
    refused = r"append-only|permission denied for function"
    with closing(connect(log.place)) as role, pytest.raises(psycopg.Error, match=refused):
        _run_all(role, ["SET ROLE {stream}_writer", *SHADOWS[name]], log.place.stream)
    assert list(log.reader.rows()) == before
    assert log.blobs.get(digest) == b"small"
    assert log.append(feedback(9)).seq == len(before) + 1


def test_stream_of_an_older_schema_gets_the_search_paths(log: EventLog) -> None:
    functions = (
        "SELECT proname, proconfig, proacl::text FROM pg_proc, pg_class "
        "WHERE pronamespace = relnamespace AND pg_class.oid = 'events'::regclass ORDER BY 1"
    )
    made = log.reader.query(functions)
    assert {tuple(config) for _, config, _ in made} == {(f"search_path={log.place.stream}, pg_temp",)}
    with connect(log.place) as owner:
        for name, *_ in made:
            owner.execute(f"ALTER FUNCTION {name}() RESET search_path".encode())
            owner.execute(f"GRANT EXECUTE ON FUNCTION {name}() TO PUBLIC".encode())
        owner.execute(b"UPDATE alembic_version SET version_num = '0003'")
    upgraded = EventLog(log.place)
    assert upgraded.reader.schema == SCHEMA_HEAD
    assert upgraded.reader.query(functions) == made
    assert upgraded.append(feedback(3)).seq == 4
    upgraded.close()


def test_reading_connection_writes_nothing(log: EventLog) -> None:
    with pytest.raises(LogUnavailable, match="read-only"):
        log.reader.query("INSERT INTO cursors VALUES ('a', 1, 'b')")


def test_streams_know_nothing_of_each_other(log: EventLog, tmp_path: Path) -> None:
    other = fresh_log(fresh_stream(tmp_path / "other"))
    other.append(feedback(7), key="k")
    assert (log.reader.head(), other.reader.head()) == (3, 2)
    assert other.append(feedback(8)).seq == 3
    other.close()


def test_two_migrations_at_once_make_one_log(stream: Place) -> None:
    script = (
        "import sys; from pathlib import Path; from instar.store.log import create_log; "
        "from instar.store.place import Place; create_log(Place(Path(sys.argv[1]), *sys.argv[2:4]))"
    )
    where = [str(stream.path), str(stream.url), stream.stream]
    makers = [subprocess.Popen([sys.executable, "-c", script, *where], cwd=Path.cwd()) for _ in range(3)]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    log = fresh_log(stream)
    assert log.reader.schema == SCHEMA_HEAD
    log.close()


def test_schema_from_the_future_is_refused(log: EventLog) -> None:
    with connect(log.place) as owner:
        owner.execute(b"UPDATE alembic_version SET version_num = '9999'")
    for open_it in (LogReader, EventLog, create_log):
        with pytest.raises(LogForeign, match="newer Instar"):
            open_it(log.place)


def _cut_off(log: EventLog) -> None:
    """Ends this process's sessions alone: other tests run beside this one."""
    with connect(log.place) as owner:
        ended = owner.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE application_name LIKE %s AND pid <> pg_backend_pid()",
            (f"instar: process {os.getpid()} on %",),
        ).fetchall()
    assert ended


def test_connection_that_died_while_idle_is_opened_again(log: EventLog) -> None:
    _cut_off(log)
    assert log.append(feedback(3)).seq == 4
    _cut_off(log)
    assert log.reader.head() == 4
    assert log.append(feedback(4)).seq == 5


def test_connection_that_dies_in_an_append_is_told_of(log: EventLog) -> None:
    def decide(_state: AgentState) -> list[Pending]:
        _cut_off(log)
        return [Pending(feedback(3))]

    with pytest.raises(LogUnavailable, match="broke in an append, of which nothing was recorded") as told:
        log.transact(decide)
    assert not told.value.in_doubt
    assert log.reader.head() == 3
    assert log.append(feedback(4)).seq == 4


@pytest.fixture
def between(log: EventLog) -> Iterator[tuple[Between, Callable[[], EventLog]]]:
    """Stands between the server and logs that are opened by it."""
    assert log.place.url is not None
    proxy, opened = Between(log.place.url), list[EventLog]()

    def opens() -> EventLog:
        opened.append(EventLog(Place(log.place.path, proxy.url, log.place.stream)))
        return opened[-1]

    yield proxy, opens
    for one in opened:
        one.close()
    proxy.close()


def _append_together(log: EventLog, first: int, count: int) -> list[Exception | None]:
    """Appends from as many threads, which wait until all can go in one commit."""
    told: list[Exception | None] = [None] * count
    gathered = threading.Event()

    def append(number: int) -> None:
        try:
            log.append(feedback(first + number))
        except LogUnavailable as error:
            told[number] = error

    def hold(_state: AgentState) -> list[Pending]:
        gathered.wait(30)
        return []

    threads = [threading.Thread(target=log.transact, args=(hold,))]
    threads += [threading.Thread(target=append, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    while len(log._appender.waiting._waiting) < count:
        time.sleep(0.01)
    gathered.set()
    for thread in threads:
        thread.join()
    return told


@pytest.mark.parametrize("count", [1, 4])
def test_commit_whose_answer_was_lost_is_found_and_not_made_twice(
    between: tuple[Between, Callable[[], EventLog]], count: int
) -> None:
    proxy, opens = between
    log = opens()
    before = log.reader.head()
    proxy.lose(b"COMMIT\0")
    assert _append_together(log, 10, count) == [None] * count
    assert proxy.lost == 1
    inputs = [record.event.input for record in log.reader.read(before + 1)]  # type: ignore[union-attr]
    assert sorted(inputs) == sorted(f"request {number}" for number in range(10, 10 + count))


def test_commit_whose_answer_was_lost_stays_in_doubt_while_the_server_is_away(
    between: tuple[Between, Callable[[], EventLog]],
) -> None:
    proxy, opens = between
    log = opens()
    before = log.reader.head()
    proxy.lose(b"COMMIT\0", and_shut=True)
    told = _append_together(log, 10, 4)
    assert all(isinstance(error, LogUnavailable) and error.in_doubt for error in told)
    assert len(set(map(id, told))) == 4  # each has an error of its own
    proxy.open()
    assert log.reader.head() == before + 4
    assert log.append(feedback(20)).seq == before + 5


def test_server_far_away_is_asked_seldom(between: tuple[Between, Callable[[], EventLog]]) -> None:
    proxy, opens = between

    def turns(act: Callable[[], object]) -> int:
        before = proxy.turns
        act()
        return proxy.turns - before

    log = opens()
    log.append(feedback(3))  # from the second on the driver has what it needs
    assert turns(lambda: log.append(feedback(4))) == 2
    assert turns(lambda: log.transact(lambda _: [Pending(feedback(5)), Pending(feedback(6))])) == 2
    assert turns(lambda: log.state) == 1
    reader = LogReader(log.place)
    assert turns(reader.state_at) == 2
    reader.close()
    signing_in = 2
    ending = 1  # it is counted when it comes
    assert turns(lambda: LogReader(log.place).close()) <= signing_in + 3 + ending
    assert turns(opens) <= 2 * signing_in + 3 + 3 + 3 + ending


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_server_with_a_stricter_isolation_lets_processes_append_in_turns(log: EventLog, isolation: str) -> None:
    option = "-c default_transaction_isolation=" + isolation.replace(" ", "\\ ")
    strict = EventLog(Place(log.place.path, f"{log.place.url}?options={quote(option)}", log.place.stream))
    begun = threading.Event()

    def decide(_state: AgentState) -> list[Pending]:
        begun.set()
        time.sleep(0.3)
        return [Pending(feedback(3))]

    thread = threading.Thread(target=log.transact, args=(decide,))
    thread.start()
    begun.wait(30)
    waited = strict.append(feedback(4))  # its transaction begins while the other one has the turn
    thread.join()
    strict.close()
    assert waited.seq == 5


def test_stream_without_a_version_is_no_log_of_ours(log: EventLog) -> None:
    with connect(log.place) as owner:
        owner.execute(b"DELETE FROM alembic_version")
    for open_it in (LogReader, EventLog, create_log):
        with pytest.raises(LogForeign, match="says no version of its schema"):
            open_it(log.place)
    with connect(log.place) as owner:
        owner.execute(b"DROP TABLE alembic_version")
    with pytest.raises(LogForeign, match="says no version of its schema"):
        LogReader(log.place)


def test_user_who_may_not_read_is_told_so(log: EventLog) -> None:
    stream = log.place.stream
    other = Place(log.place.path, re.sub("//[^@]*@", f"//{stream}_other@", str(log.place.url)), stream)
    with connect(log.place) as owner:
        owner.execute(f"CREATE ROLE {stream}_other LOGIN".encode())
        for right in (f"USAGE ON SCHEMA {stream}", f"SELECT ON ALL TABLES IN SCHEMA {stream}"):
            with pytest.raises(LogUnavailable, match="may not read it: connect as its owner"):
                LogReader(other)
            owner.execute(f"GRANT {right} TO {stream}_other".encode())
    reader = LogReader(other)
    assert reader.head() == 3
    reader.close()


def _use_in_child(log: EventLog) -> None:
    """Tries all that a child may do with what it inherited, and lets go of it."""
    for use in (lambda: log.append(feedback(9)), log.reader.head, log.reader.changed_token):
        with pytest.raises(LogUnavailable, match="opened before this process was forked off: open it again here"):
            use()
    log.close()
    again = EventLog(log.place)
    again.append(feedback(8))
    again.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_neither_uses_nor_closes_what_its_parent_opened(log: EventLog) -> None:
    before = log._journal._connection.info.backend_pid  # type: ignore[attr-defined]
    child = multiprocessing.get_context("fork").Process(target=_use_in_child, args=(log,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert log.append(feedback(4)).seq == 5
    assert before == log._journal._connection.info.backend_pid  # type: ignore[attr-defined]


def test_stream_that_is_gone_is_not_made_anew(log: EventLog) -> None:
    (log.path.parent / "files.lock").touch()
    with connect(log.place) as owner:
        owner.execute(f"DROP SCHEMA {log.place.stream} CASCADE".encode())
    for open_it in (LogReader, EventLog, create_log):
        with pytest.raises(LogLost, match=r"is gone, and what .+files\.lock.+from a backup \(the stream\)"):
            open_it(log.place)
    with connect(log.place) as owner:
        assert owner.execute(b"SELECT 1 FROM pg_namespace WHERE nspname = %s", (log.place.stream,)).fetchall() == []


def test_missing_stream_server_and_driver_scheme_are_named(stream: Place) -> None:
    with pytest.raises(LogMissing, match="instar init"):
        LogReader(stream)
    nobody = Place(stream.path, "postgresql+psycopg://me:secret@127.0.0.1:1/none", "s")
    with pytest.raises(LogUnavailable) as told:
        LogReader(nobody)
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg"):
        LogReader(Place(stream.path, "mysql://x", "s"))
    with pytest.raises(ConfigError, match="cannot name a stream"):
        LogReader(Place(stream.path, stream.url, 'x"; drop'))


# ---- a machine that no longer answers ------------------------------------------------------------------------------


def sockets_of(log: EventLog) -> list[socket.socket]:
    connections = (log._journal._connection, log.reader._source._connection)  # type: ignore[attr-defined]
    return [socket.socket(fileno=os.dup(connection.fileno())) for connection in connections]


def test_connections_give_a_machine_up_that_no_longer_answers(log: EventLog) -> None:
    for found in sockets_of(log):
        with found:
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_limits_on_silence_that_the_url_names_are_taken(log: EventLog) -> None:
    url = f"{log.place.url}?tcp_user_timeout=7000&keepalives_idle=5"
    with closing(EventLog(Place(log.place.path, url, log.place.stream))) as other:
        for found in sockets_of(other):
            with found:
                assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
                assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5


@pytest.mark.parametrize("act", [create_log, LogReader], ids=["create", "read"])
def test_server_that_takes_a_connection_and_says_nothing_is_given_up(
    tmp_path: Path, act: Callable[[Place], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert patience(Place(tmp_path / "log.db", "postgresql+psycopg://me@db/agents"))["connect_timeout"] == 10
    monkeypatch.setitem(_SILENCE, "connect_timeout", 2)  # the least that libpq knows
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        place = Place(tmp_path / "log.db", f"postgresql+psycopg://me@127.0.0.1:{port}/agents", "silent")
        before = time.monotonic()
        with pytest.raises(LogUnavailable, match="timeout"):
            act(place)
        assert time.monotonic() - before < 20


def test_threads_of_a_process_do_not_meet_in_one_transaction(log: EventLog) -> None:
    """Whoever holds the log for upkeep, a cursor or blobs uses the same connection as who appends."""
    before = log.reader.head()
    appended = threading.Thread(target=lambda: log.append(feedback(9)))
    with log.upkeep():
        appended.start()
        appended.join(0.5)
        assert appended.is_alive()
        assert log.reader.head() == before
    appended.join(60)
    assert log.reader.head() == before + 1


def test_interrupted_thread_ends_its_own_transaction_alone(log: EventLog) -> None:
    journal = log._appender._journal
    let_go = threading.Thread(target=journal.let_go)
    with journal.exclusive(log.reader.head()):
        let_go.start()
        let_go.join(60)
        assert journal._in_transaction()  # type: ignore[attr-defined]
        journal.let_go()
        assert not journal._in_transaction()  # type: ignore[attr-defined]


def test_long_wait_for_the_turn_says_whose_it_is(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres_journal, "LONG_S", 0.1)
    log.append(feedback(3))
    with connect(log.place) as other:
        other.execute(b"SET application_name = 'a stopped process'")
        other.execute(b"BEGIN")
        other.execute(b"SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (log.place.stream,))
        appending = threading.Thread(target=log.append, args=(feedback(4),))
        appending.start()
        until = time.monotonic() + 30
        while "in another's hand" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
        assert f"waiting for {log.place.name}, which is in another's hand (a stopped process" in caplog.text
        assert f"server process {other.info.backend_pid}" in caplog.text
        other.execute(b"ROLLBACK")
        appending.join()
    assert log.reader.head() == 5


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
def test_pooler_that_shares_sessions_is_refused(stream: Place, tmp_path: Path, mode: str) -> None:
    assert stream.url is not None
    server = urlsplit(stream.url)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path / "pooler.ini"
    settings.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port} user={server.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = {mode}\n"
        "default_pool_size = 4\nunix_socket_dir =\n"
    )
    user = ["-u", "postgres"] if os.getuid() == 0 else []  # it refuses to run as root
    os.chmod(tmp_path, 0o755)  # noqa: PTH101
    with subprocess.Popen(["pgbouncer", *user, str(settings)], stderr=subprocess.DEVNULL) as pooler:
        try:
            pooled = Place(tmp_path / "log.db", stream.url.replace(f":{server.port}/", f":{port}/"), stream.stream)
            until = time.monotonic() + 30
            while True:
                with closing(socket.socket()) as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert time.monotonic() < until
                time.sleep(0.05)
            if mode == "session":
                with closing(fresh_log(pooled)) as log:
                    log.append(feedback(1))
                    assert log.reader.head() == 2
            else:
                for _ in range(3):
                    with pytest.raises(LogUnavailable, match=r"behind a pooler .*pool_mode = session"):
                        create_log(pooled)
                create_log(stream)  # the pool's sessions were left as they were
                with pytest.raises(LogUnavailable, match="behind a pooler"):
                    LogReader(pooled)
        finally:
            pooler.terminate()
