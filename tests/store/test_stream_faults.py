"""What was disarmed, altered or given away in a stream of PostgreSQL is named; a stream as it was made has no fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from instar.store.log import EventLog
from instar.store.place import Place
from instar.store.postgres_source import connect
from instar.store.reader import LogReader
from instar.store.schema_faults import schema_faults
from tests.store.logs import fresh_log

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'instar[postgresql]'")

REFUSE = "CREATE OR REPLACE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path TO {0}, pg_temp"
DISARMED = {
    "ALTER TABLE events DISABLE TRIGGER events_no_update": ["the trigger events_no_update does not always fire"],
    "ALTER TABLE events ENABLE REPLICA TRIGGER events_erased": ["the trigger events_erased does not always fire"],
    "DROP TRIGGER events_no_truncate ON events": ["the trigger events_no_truncate is missing"],
    "CREATE TRIGGER mine AFTER INSERT ON blobs EXECUTE FUNCTION events_refuse()": [
        "the trigger mine is not of Instar's making"
    ],
    "CREATE OR REPLACE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW WHEN (OLD.seq < 0) "
    "EXECUTE FUNCTION events_refuse()": [
        "the trigger events_no_delete was altered",
    ],
    REFUSE + " AS 'begin return OLD; end'": ["the function events_refuse was altered"],
    "CREATE OR REPLACE FUNCTION events_check_update() RETURNS trigger LANGUAGE plpgsql SET search_path TO {0}, pg_temp "
    "AS 'begin return NEW; end'": ["the function events_check_update was altered"],
    "ALTER FUNCTION events_refuse() SECURITY DEFINER": ["the function events_refuse was altered"],
    "ALTER FUNCTION events_erase() SET search_path TO {0}": [
        "the function events_erase does not look in the stream first"
    ],
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION mine() FROM PUBLIC": [
        "the function mine is not of Instar's making"
    ],
    "DROP VIEW doomed CASCADE": ["the trigger blobs_collected is missing", "the view doomed is missing"],
    "CREATE OR REPLACE VIEW doomed AS SELECT digest, size AS seq FROM blobs": ["the view doomed was altered"],
    "CREATE TABLE mine (x int)": ["the table mine is not of Instar's making"],
    "CREATE RULE mine AS ON DELETE TO blobs DO INSTEAD NOTHING": [
        "the table blobs has rules or policies that are not of Instar's making"
    ],
    "GRANT INSERT ON events TO PUBLIC": ["everybody has the right INSERT on events, which Instar did not give"],
    "GRANT UPDATE (hash) ON events TO {0}_writer": [
        "{0}_writer has the right UPDATE on events (hash), which Instar did not give"
    ],
    "GRANT DELETE ON blobs TO {0}_writer": ["{0}_writer has the right DELETE on blobs, which Instar did not give"],
    "GRANT CREATE ON SCHEMA {0} TO {0}_writer": [
        "{0}_writer has the right CREATE on the stream, which Instar did not give"
    ],
    "GRANT EXECUTE ON FUNCTION events_erase() TO PUBLIC": [
        "everybody has the right EXECUTE on events_erase(), which Instar did not give"
    ],
    "ALTER TABLE events OWNER TO {0}_writer": ["{0}_writer may act as the owner of the tables"],
}


@pytest.fixture
def log(stream: Place) -> Iterator[EventLog]:
    opened = fresh_log(stream)
    yield opened
    opened.close()


@pytest.mark.parametrize("statement", DISARMED)
def test_disarmed_guard_is_named(log: EventLog, statement: str) -> None:
    assert schema_faults(log.reader) == []
    with connect(log.place) as owner:
        owner.execute(statement.format(log.place.stream).encode())
    assert schema_faults(log.reader) == [fault.format(log.place.stream) for fault in DISARMED[statement]]


def test_right_to_read_is_no_fault(log: EventLog) -> None:
    with connect(log.place) as owner:
        owner.execute(f"GRANT USAGE ON SCHEMA {log.place.stream} TO PUBLIC".encode())
        owner.execute(b"GRANT SELECT ON events, blobs TO PUBLIC")
    assert schema_faults(log.reader) == []


def test_stream_of_an_older_schema_has_no_fault(log: EventLog) -> None:
    with connect(log.place) as owner:
        for name in ("events_refuse", "events_check_update", "events_check_insert", "events_erase", "blobs_collect"):
            owner.execute(f"ALTER FUNCTION {name}() SET search_path TO {log.place.stream}".encode())
            owner.execute(f"GRANT EXECUTE ON FUNCTION {name}() TO PUBLIC".encode())
        assert len(schema_faults(log.reader)) == 10
        owner.execute(b"UPDATE alembic_version SET version_num = '0003'")
    reader = LogReader(log.place)
    assert schema_faults(reader) == []
    reader.close()
