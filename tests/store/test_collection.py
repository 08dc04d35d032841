"""Blobs go by an event, in its transaction, on both databases; what rests on them is freed first; nobody names one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import BlobCollected, BlobCorrupt, BlobMissing, PositionConflict
from instar.fsm.events import BlobsCollected, FeedbackReceived, PayloadErased
from instar.fsm.retention import Retention
from instar.fsm.state import AgentState
from instar.fsm.words import Digest, Seq
from instar.store import failpoints
from instar.store.blobs import FILE_BYTES_MIN
from instar.store.collected import list_digests, listed_digests
from instar.store.log import EventLog, Pending
from instar.store.packing import DEPTH_MAX, base_of, press, press_against, unpack
from tests.store.logs import feedback

LARGE = bytes(range(256)) * (FILE_BYTES_MIN // 128)


def texts(count: int) -> list[bytes]:
    """Versions of one file, each with another line more."""
    lines = [b"line %d of a file that grows by one line at a time\n" % n for n in range(40)]
    return [b"".join(lines) + b"".join(b"edit %d\n" % edit for edit in range(n)) for n in range(count)]


def collection(log: EventLog, digests: list[Digest]) -> BlobsCollected:
    return BlobsCollected(
        retention=Retention(days=0),
        cutoff_us=0,
        kept_from=Seq(1),
        points=(),
        blobs=log.blobs.put(list_digests(digests)),
        count=len(digests),
        bytes=1,
    )


def stored(log: EventLog, *contents: bytes) -> list[Digest]:
    digests = [log.blobs.put(content) for content in contents]
    log.append(feedback(1))
    return digests


def rest(log: EventLog, digest: Digest, base: Digest) -> None:
    form = press_against(log.blobs.get(digest), base, log.blobs.get(base))
    with log.upkeep() as journal:
        journal.rewrite([(form, digest)])


def test_collected_blobs_are_gone_and_said_to_be(log: EventLog) -> None:
    small, large, kept = stored(log, b"small", LARGE, b"kept")
    record = log.collect(lambda _: (collection(log, [small, large]), [small, large]))
    assert record is not None
    for digest in (small, large):
        with pytest.raises(BlobCollected, match=f"collected by event {record.seq}") as told:
            log.blobs.get(digest)
        assert told.value.exit_code == 4
        assert not log.blobs.has(digest)
    assert log.blobs.get(kept) == b"kept"
    assert log.blobs.collected() == {small: record.seq, large: record.seq}
    with pytest.raises(BlobMissing) as never:
        log.blobs.get(Digest("0" * 64))
    assert not isinstance(never.value, BlobCollected)


def test_collected_blob_can_be_stored_again(log: EventLog) -> None:
    small, large = stored(log, b"small", LARGE)
    log.collect(lambda _: (collection(log, [small, large]), [small, large]))
    assert stored(log, b"small", LARGE) == [small, large]
    assert (log.blobs.get(small), log.blobs.get(large)) == (b"small", LARGE)


def test_collection_is_decided_from_the_head_that_it_follows(
    log: EventLog, reopen: Callable[[EventLog], EventLog]
) -> None:
    (digest,) = stored(log, b"small")
    head = reopen(log).append(feedback(2)).seq
    seen: list[Seq] = []

    def decide(state: AgentState) -> None:
        seen.append(state.head)

    assert log.collect(decide) is None
    assert seen == [head]
    assert log.blobs.get(digest) == b"small"
    assert log.reader.head() == head


def test_another_process_may_not_name_what_was_collected(log: EventLog, reopen: Callable[[EventLog], EventLog]) -> None:
    """It looked the blob up before the collection, and its event comes after it."""
    small, large = stored(log, b"small", LARGE)
    other = reopen(log)
    assert (other.blobs.put(b"small"), other.blobs.put(LARGE)) == (small, large)
    log.collect(lambda _: (collection(log, [small, large]), [small, large]))
    for digest in (small, large):
        named = FeedbackReceived(task_type="t", input="i", log=digest)
        with pytest.raises(PositionConflict, match="was collected or erased after it was looked up"):
            other.append(named)
    assert other.append(feedback(3)).seq == log.reader.head()
    assert other.blobs.put(b"small") == small
    seq = other.append(FeedbackReceived(task_type="t", input="i", log=small)).seq
    assert log.blobs.get(small) == b"small"
    assert log.state.head == seq


def test_blob_that_others_rest_on_goes_alone(log: EventLog) -> None:
    versions = texts(4)
    digests = stored(log, *versions)
    rest(log, digests[1], digests[0])
    rest(log, digests[2], digests[1])
    rest(log, digests[3], digests[2])
    assert log.blobs.rests_on(digests[3]) == [digests[2], digests[1], digests[0]]
    log.collect(lambda _: (collection(log, digests[:2]), digests[:2]))
    assert log.blobs.rests_on(digests[3]) == [digests[2]]
    assert [log.blobs.get(digest) for digest in digests[2:]] == versions[2:]
    assert {digest for digest, _ in log.reader.stored_blobs()} >= set(digests[2:])


def test_erased_blob_leaves_nothing_in_those_that_rested_on_it(log: EventLog) -> None:
    secret = b"my name is Ada Lovelace"
    plain = texts(1)[0]
    kept, gone = stored(log, plain, plain + secret)
    rest(log, kept, gone)
    record = log.append(feedback(7))
    remains = encode_event(remains_of(record.event)).decode()
    erasure = PayloadErased(
        target=record.seq, payload_hash=record.payload_hash, remains=remains, reason="asked", blobs=(gone,)
    )
    log.erase([erasure])
    assert log.blobs.get(kept) == plain
    assert log.blobs.rests_on(kept) == []
    assert not log.blobs.has(gone)


def test_form_with_a_lost_base_is_told_as_damaged(log: EventLog) -> None:
    versions = texts(2)
    digests = stored(log, *versions)
    with log.upkeep() as journal:
        journal.rewrite([(press_against(versions[1], Digest("ab" * 32), versions[0]), digests[1])])
    with pytest.raises(BlobCorrupt):
        log.blobs.get(digests[1])


def test_circle_of_forms_is_told_as_damaged(log: EventLog) -> None:
    versions = texts(2)
    digests = stored(log, *versions)
    forms = [
        (press_against(versions[0], digests[1], versions[1]), digests[0]),
        (press_against(versions[1], digests[0], versions[0]), digests[1]),
    ]
    with log.upkeep() as journal:
        journal.rewrite(forms)
    with pytest.raises(BlobCorrupt):
        log.blobs.get(digests[0])


def test_forms_give_the_content_back() -> None:
    old, new = texts(2)
    base = Digest("cd" * 32)
    against = press_against(new, base, old)
    assert len(against) < len(press(new)) // 2
    assert (base_of(against), base_of(press(new)), base_of(b"")) == (base, None, None)
    assert unpack(against, old) == unpack(press(new), b"") == new


@pytest.mark.parametrize("statement", [
    "INSERT INTO doomed (digest, seq) SELECT digest, (SELECT max(seq) FROM events) FROM blobs",
    "INSERT INTO doomed (digest, seq) SELECT digest, 1 FROM blobs",
    "INSERT INTO doomed (digest, seq) SELECT digest, NULL FROM blobs",
])  # fmt: skip
def test_no_blob_goes_without_an_event(log: EventLog, statement: str) -> None:
    (digest,) = stored(log, b"small")
    with log.upkeep() as journal:
        connection = getattr(journal, "_driver", None) or journal._connection  # type: ignore[attr-defined]
        with pytest.raises(Exception, match="append-only"):
            connection.execute(statement)
    assert log.blobs.get(digest) == b"small"


def test_saved_states_are_thinned(log: EventLog) -> None:
    log.transact(lambda _: [Pending(feedback(n)) for n in range(300)])
    log.transact(lambda _: [Pending(feedback(n)) for n in range(300)])
    saved = [Seq(seq) for seq, _ in log.reader.saved_digests()]
    assert len(saved) == 2
    with log.upkeep() as journal:
        journal.thin(saved[:1])
    assert [seq for seq, _ in log.reader.saved_digests()] == saved[1:]
    assert log.reader.state_at(saved[0] + 1).head == saved[0] + 1


def test_files_of_a_cut_off_collection_go_when_the_log_is_opened(
    log: EventLog, reopen: Callable[[EventLog], EventLog]
) -> None:
    small, large = stored(log, b"small", LARGE)
    failpoints.arm("log.collected=error")
    try:
        with pytest.raises(OSError, match="failpoint"):
            log.collect(lambda _: (collection(log, [small, large]), [small, large]))
    finally:
        failpoints.arm("")
    assert log.blobs.is_file(large)
    again = reopen(log)
    assert not again.blobs.is_file(large)
    with pytest.raises(BlobCollected):
        again.blobs.get(small)


def test_vacuum_gives_room_back_and_readers_go_on(tmp_path: object, log: EventLog) -> None:
    if log.place.url is not None:
        pytest.skip("a server vacuums its tables by itself")
    digests = stored(log, *(bytes([n]) * 10 + bytes(range(256)) * 200 + n.to_bytes(4, "big") for n in range(200)))
    log._journal.checkpoint()
    before = log.path.stat().st_size
    with closing(sqlite3.connect(f"file:{log.path}?mode=ro", uri=True)) as reading:
        cursor = reading.execute("SELECT seq FROM events")
        assert cursor.fetchone() == (1,)
        log.collect(lambda _: (collection(log, digests), digests))
        log.vacuum()
        assert cursor.fetchone() == (2,)
        cursor.close()
    log.append(feedback(5))
    log._journal.checkpoint()
    assert log.path.stat().st_size < before
    assert log.reader.head() == 4


def test_list_of_digests_is_in_order_and_nothing_else() -> None:
    digests = [Digest(f"{n:064x}") for n in (9, 3, 3, 250)]
    content = list_digests(digests)
    assert len(content) == 96
    assert listed_digests(content) == set(digests)
    for wrong in (content[32:] + content[:32], content[:32] * 2, content[:40]):
        with pytest.raises(BlobCorrupt):
            listed_digests(wrong)


def test_depth_is_bounded(log: EventLog) -> None:
    contents = texts(DEPTH_MAX + 3)
    digests = stored(log, *contents)
    with log.upkeep() as journal:
        journal.rewrite(
            [(press_against(contents[n], digests[n - 1], contents[n - 1]), digests[n]) for n in range(1, len(contents))]
        )
    assert log.blobs.get(digests[DEPTH_MAX]) == contents[DEPTH_MAX]
    with pytest.raises(BlobCorrupt):
        log.blobs.get(digests[DEPTH_MAX + 2])
