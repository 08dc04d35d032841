"""A payload is erased by an event of its own; the chain still verifies, and every fold gives the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from instar.engine.replay import replay
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import BlobMissing, IllegalTransition, LogCorrupt
from instar.fsm.events import FeedbackReceived, PayloadErased
from instar.fsm.words import Seq
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.log import EventLog, Pending
from instar.store.reader import _LAST_ERASURE, LogReader
from tests.store.logs import feedback, fresh_log

SECRET = "my name is Ada Lovelace"


def secret_log(log: EventLog) -> tuple[Seq, str, str]:
    """Records a request with a secret, a small and a large blob of it, and 200 events after it."""
    small, large = log.blobs.put(SECRET.encode()), log.blobs.put(SECRET.encode() * (FILE_BYTES_MIN // 8))
    seq = log.append(feedback(1, input=SECRET)).seq
    log.transact(lambda _: [Pending(feedback(n)) for n in range(200)])
    return seq, small, large


def erasure(log: EventLog, seq: Seq, *blobs: str) -> PayloadErased:
    record = log.reader.get(seq)
    return PayloadErased(
        target=seq,
        payload_hash=record.payload_hash,
        remains=encode_event(remains_of(record.event)).decode(),
        reason="asked for by the person it names",
        blobs=blobs,  # type: ignore[arg-type]
    )


def test_erased_payload_is_gone_and_the_chain_verifies(log: EventLog) -> None:
    seq, small, large = secret_log(log)
    state, before, between = log.state, list(log.reader.rows()), log.reader.state_at(seq + 100)
    (erased,) = log.erase([erasure(log, seq, small, large)])
    after = list(log.reader.rows())
    assert after[seq - 1] == (*before[seq - 1][:10], None, *before[seq - 1][11:])
    assert after[: seq - 1] + after[seq:-1] == before[: seq - 1] + before[seq:]
    assert erased.cause == seq
    event = log.reader.get(seq).event
    assert isinstance(event, FeedbackReceived)
    assert (event.input, event.task_type, event.outcome) == ("", "find", "pass")
    for digest in (small, large):
        with pytest.raises(BlobMissing):
            log.blobs.get(digest)  # type: ignore[arg-type]
    assert replay(log.reader).state.waiting == state.waiting
    assert log.reader.state_at(seq + 100) == between


def test_fold_over_what_remains_gives_the_recorded_digests(log: EventLog) -> None:
    seq, *_ = secret_log(log)
    digests = replay(log.reader).digests
    log.erase([erasure(log, seq)])
    again = replay(log.reader)
    assert again.digests == digests == 3
    assert again.events == log.reader.head()


def test_erased_text_is_nowhere_in_the_files(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    seq, small, large = secret_log(log)
    assert any(SECRET.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    log.erase([erasure(log, seq, small, large)])
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert not list(log.blobs.files())
    log.close()


def test_payload_without_an_erasure_is_found(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    log.append(feedback(1))
    log.close()
    with sqlite3.connect(log.path) as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE events SET payload = NULL WHERE seq = 2")
    connection.close()
    reader = LogReader(log.path)
    with pytest.raises(LogCorrupt, match="no event says that it was erased"):
        reader.get(2)
    with pytest.raises(LogCorrupt, match="no event says that it was erased"):
        replay(reader)
    reader.close()
    with pytest.raises(LogCorrupt, match="no event says that it was erased"):
        EventLog(log.path)


@pytest.mark.parametrize("target", [0, 5, 900])
def test_erasure_names_an_earlier_event(log: EventLog, target: int) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(3)])
    fact = PayloadErased(target=Seq(target), payload_hash=log.reader.get(2).payload_hash, remains="{}", reason="r")
    with pytest.raises(IllegalTransition, match="earlier event"):
        log.erase([fact])
    assert log.reader.head() == 4


def test_update_beside_an_erasure_is_refused(tmp_path: Path) -> None:
    """An erasure allows the payload to go, and no other column to change with it."""
    log = fresh_log(tmp_path)
    seq, *_ = secret_log(log)
    log.erase([erasure(log, seq)])
    connection = sqlite3.connect(log.path)
    for assignment in ("actor = 'x'", "payload = 'x'", "payload = NULL, hash = 'x'", "payload_hash = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(f"UPDATE events SET {assignment} WHERE seq = {seq}")
    connection.close()
    log.close()


def test_reader_that_keeps_what_was_erased_in_the_files_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instar.store.log.ERASING_MS", 50)
    log = fresh_log(tmp_path)
    seq = log.append(feedback(1, input=SECRET)).seq
    with closing(sqlite3.connect(log.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        log.erase([erasure(log, seq)])
        assert not log.erased_from_file
        assert any(SECRET.encode() in file.read_bytes() for file in tmp_path.glob("log.db*"))
        reader.execute("COMMIT")
    other = log.append(feedback(2, input="of somebody else")).seq
    log.erase([erasure(log, other)])
    assert log.erased_from_file
    assert not any(SECRET.encode() in file.read_bytes() for file in tmp_path.glob("log*"))
    log.close()


def test_last_erasure_is_found_without_reading_the_log(tmp_path: Path) -> None:
    log = fresh_log(tmp_path)
    seq = log.append(feedback(1, input=SECRET)).seq
    assert log.reader.last_erasure() == 0
    (record,) = log.erase([erasure(log, seq)])
    assert log.reader.last_erasure() == record.seq
    plan = log.reader.query(f"EXPLAIN QUERY PLAN {_LAST_ERASURE}")
    assert "events_erasures" in plan[0][3]
    log.close()
