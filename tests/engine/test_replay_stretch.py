"""What a stretch of rows is verified for all at once is what its rows are verified for one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from instar.engine.replay import Level, folding, replay
from instar.engine.replay.chain import Place, check_row, whole
from instar.engine.replay.stretch import fold_stretch, readable
from instar.fsm.chain import GENESIS, link
from instar.fsm.codec import encode_event
from instar.fsm.erasure import remains_of
from instar.fsm.errors import InstarError, LogCorrupt, ReplayDiverged
from instar.fsm.events import PayloadErased
from instar.fsm.state import AgentState
from instar.fsm.words import Seq, digest_of
from instar.store.columns import columns_of
from instar.store.log import EventLog, Pending
from instar.store.reader import COLUMNS, LogReader, Row
from tests.engine.decided_log import decided_log
from tests.store.logs import feedback, fresh_log
from tests.store.test_columns import altered

NAMES = COLUMNS.split(", ")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    """All kinds of events: cycles, tasks, a promotion, a rollback, a snapshot, changes that were seen before."""
    with closing(decided_log(tmp_path_factory.mktemp("log"))) as log:
        yield log


@pytest.fixture(scope="module")
def rows(log: EventLog) -> list[Row]:
    return list(log.reader.rows())


def put(rows: list[Row], at: int, name: str, value: Any) -> list[Row]:
    """The rows with another value in one of them."""
    place = NAMES.index(name)
    return [*rows[:at], (*rows[at][:place], value, *rows[at][place + 1 :]), *rows[at + 1 :]]


def chained(rows: list[Row]) -> list[Row]:
    """The rows with hashes that fit, as one makes them who can write the log."""
    prev, made = GENESIS, []
    for row in rows:
        facts = dict(zip(NAMES, row, strict=True))
        facts |= {"payload_hash": digest_of(facts.pop("payload").encode()), "prev_hash": prev}
        del facts["hash"]
        prev = link(kind=facts.pop("type"), **facts)
        given = {**dict(zip(NAMES, row, strict=True)), **facts, "hash": prev}
        made.append(tuple(given[name] for name in NAMES))
    return made


def others(value: Any) -> list[Any]:
    """What else might stand in a row's place: near values, none, and other types."""
    if value is None:
        return [1, "x"]
    if isinstance(value, int):
        return [value + 1, value - 1, None, str(value)]
    return [value + "x", value[:-1], f"{value},", None, value.encode()]


def fits(rows: list[Row]) -> bool:
    columns = columns_of(rows)
    return columns is not None and whole(columns, Place())


def test_true_rows_fit_and_fold_to_the_state(log: EventLog, rows: list[Row]) -> None:
    columns = columns_of(rows)
    assert columns is not None
    assert whole(columns, Place())
    assert readable(columns)
    folded = fold_stretch(AgentState(), columns, digests=True)
    assert folded is not None
    assert (folded.state, folded.digests) == (log.state, len(rows) // 64)
    assert folded.transitions == replay(log.reader).transitions
    assert chained(rows) == rows


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_every_row_is_looked_at(rows: list[Row], name: str) -> None:
    for at, row in enumerate(rows):
        for value in others(row[NAMES.index(name)]):
            if name in ("key", "state_digest", "cause") and value == "":
                continue  # None and no text are the same to the chain; no log holds the latter
            assert not fits(put(rows, at, name, value)), (at, name, value)


def test_rows_that_come_twice_lack_or_change_places_do_not_fit(rows: list[Row]) -> None:
    for at in range(len(rows) - 1):
        assert not fits([*rows[: at + 1], *rows[at:]])
        assert not fits([*rows[:at], *rows[at + 1 :]])
        assert not fits([*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]])


NEAR: dict[str, list[Any]] = {
    "recorded_at_us": [1_700_000_000_000_000],
    "cycle": [0, 2],
    "cause": [None, 3],
    "state_before": ["Training", "Idle"],
    "state_after": ["Training", "Idle"],
    "state_digest": [None, "3:" + "0" * 64],
    "type": ["PlanChosen", "FeedbackReceived"],
    "version": [1, 2],
}


@pytest.mark.parametrize("name", NEAR)
def test_rechained_rows_fold_only_if_they_fold_one_by_one(log: EventLog, rows: list[Row], name: str) -> None:
    """For each row and what else might stand there; the fold of single rows is the judge."""
    for at, row in enumerate(rows):
        for value in NEAR[name]:
            if value == row[NAMES.index(name)]:
                continue
            forged = chained(put(rows, at, name, value))
            columns = columns_of(forged)
            assert columns is not None
            if whole(columns, Place()) and fold_stretch(AgentState(), columns, digests=True):
                assert one_by_one(log.reader, forged) is None, at


def one_by_one(reader: LogReader, rows: list[Row]) -> InstarError | None:
    """The first fault that the fold of single rows finds."""
    fold = folding.Folding(reader, Level.DIGESTS, AgentState(), Place())
    try:
        for row in rows:
            fold._fold([row], [check_row(row, fold.place)])
    except InstarError as error:
        return error
    return None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = CAST(actor AS BLOB) WHERE seq = 30",
        "UPDATE events SET actor = actor || char(0) || 'x' WHERE seq = 30",
        "UPDATE events SET state_after = state_after || char(0) WHERE seq = 30",
        "UPDATE events SET prev_hash = prev_hash || char(0) WHERE seq = 30",
        "UPDATE events SET hash = hash || char(0) WHERE seq = 96",
        "UPDATE events SET payload = payload || char(0) WHERE seq = 30",
        "UPDATE events SET payload = payload || char(10) WHERE seq = 30",
        "UPDATE events SET payload_hash = NULL, actor = actor || char(10) WHERE seq = 30",
        "UPDATE events SET payload = CAST(payload AS BLOB) WHERE seq = 30",
        "UPDATE events SET recorded_at_us = CAST(recorded_at_us AS BLOB) WHERE seq = 30",
        "UPDATE events SET seq = 31 WHERE seq = 30",
        "UPDATE events SET seq = 29 WHERE seq = 30",
        "UPDATE events SET seq = seq + 1 WHERE seq >= 30",
        "INSERT INTO events SELECT * FROM events WHERE seq = 30",
        "UPDATE events SET state_digest = '' WHERE seq = 30",
        "UPDATE events SET state_digest = NULL WHERE seq = 64",
        "UPDATE events SET version = version + 0.5 WHERE seq = 30",
        "DELETE FROM events WHERE seq = 30",
    ],
)
def test_file_that_somebody_wrote_by_himself_is_found_as_by_single_rows(
    log: EventLog, tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(altered(log, tmp_path / "altered", statement)) as reader:
        found: list[tuple[Any, ...]] = []
        for columns in (folding.read_columns, lambda *_: None):  # type: ignore[attr-defined]
            monkeypatch.setattr(folding, "read_columns", columns)
            with pytest.raises((LogCorrupt, ReplayDiverged)) as caught:
                replay(reader)
            found.append((type(caught.value), str(caught.value), *caught.value.details.items()))
        assert found[0] == found[1]


def test_log_is_verified_by_stretches_and_an_erased_payload_by_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "CHUNK", 10)
    taken: list[bool] = []
    take = folding.Folding._take_stretch

    def taking(self: folding.Folding, first: Seq, last: Seq) -> bool:
        taken.append(take(self, first, last))
        return taken[-1]

    monkeypatch.setattr(folding.Folding, "_take_stretch", taking)
    log = fresh_log(tmp_path)
    log.transact(lambda _: [Pending(feedback(n)) for n in range(40)])
    assert replay(log.reader).state == log.state
    assert taken == [True] * 5
    record = log.reader.get(14)
    remains = encode_event(remains_of(record.event)).decode()
    log.erase([PayloadErased(target=Seq(14), payload_hash=record.payload_hash, remains=remains, reason="asked")])
    taken.clear()
    assert replay(log.reader).state == log.state
    assert taken == [True, False, True, True, True]
