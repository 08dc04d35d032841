"""Payloads can be erased by an event of their own, followers keep a cursor, and PostgreSQL is append-only too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_KEPT = (
    *("seq", "type", "version", "recorded_at_us", "cycle", "cause", "actor", "state_before", "state_after", "key"),
    *("payload_hash", "prev_hash", "hash", "state_digest"),
)

# An erasure is the one update that may be: of the payload alone, to nothing, where an event says so.
_SQLITE_ERASURE = " AND ".join(
    (
        "NEW.payload IS NULL",
        *(f"NEW.{column} IS OLD.{column}" for column in _KEPT),
        "EXISTS (SELECT 1 FROM events WHERE type = 'PayloadErased' AND cause = OLD.seq)",
    )
)
# The list of blobs comes first in canonical JSON; SQLite's own JSON functions do not run under trusted_schema=OFF.
# One trigger in place of three: what an insert is checked for costs each append.
# The first condition guards REPLACE and upsert as well: both reach the table through an insert of a seq that is there.
_SQLITE_TRIGGERS = (
    "DROP TRIGGER events_no_update",
    "DROP TRIGGER events_gapless",
    "DROP TRIGGER events_key_once",
    "DROP TRIGGER events_chained",
    f"""
    CREATE TRIGGER events_no_update BEFORE UPDATE ON events WHEN NOT ({_SQLITE_ERASURE})
    BEGIN SELECT RAISE(ABORT, 'events are append-only: no event is ever changed'); END
    """,
    """
    CREATE TRIGGER events_appended BEFORE INSERT ON events
    WHEN (SELECT NOT (seq = NEW.seq - 1 AND hash = NEW.prev_hash) FROM events ORDER BY seq DESC LIMIT 1)
      OR (NEW.seq <> 1 AND NOT EXISTS (SELECT 1 FROM events))
      OR (NEW.key IS NOT NULL AND EXISTS (SELECT 1 FROM events WHERE key = NEW.key))
    BEGIN SELECT RAISE(ABORT, 'events are append-only: seq and prev_hash follow the head, a key is recorded once'); END
    """,
    """
    CREATE TRIGGER events_erased AFTER INSERT ON events WHEN NEW.type = 'PayloadErased'
    BEGIN
      UPDATE events SET payload = NULL WHERE seq = NEW.cause;
      DELETE FROM blobs WHERE instr(substr(NEW.payload, 1, instr(NEW.payload, ']')), digest);
    END
    """,
)

_POSTGRESQL = (
    """
    CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'events are append-only: no event is ever changed or deleted'; END $$
    """,
    f"""
    CREATE FUNCTION events_check_update() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.payload IS NULL AND ({", ".join(f"NEW.{column}" for column in _KEPT)})
          IS NOT DISTINCT FROM ({", ".join(f"OLD.{column}" for column in _KEPT)})
          AND EXISTS (SELECT 1 FROM events WHERE type = 'PayloadErased' AND cause = OLD.seq) THEN
        RETURN NEW;
      END IF;
      RAISE EXCEPTION 'events are append-only: no event is ever changed';
    END $$
    """,
    """
    CREATE FUNCTION events_check_insert() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE head record;
    BEGIN
      SELECT seq, hash INTO head FROM events ORDER BY seq DESC LIMIT 1;
      IF NEW.seq <> coalesce(head.seq, 0) + 1 OR (head.seq IS NOT NULL AND NEW.prev_hash <> head.hash) THEN
        RAISE EXCEPTION 'events are append-only: seq must follow the head, prev_hash must be its hash';
      END IF;
      RETURN NEW;
    END $$
    """,
    # As the owner of the tables: who appends may erase by an event, and by nothing else.
    """
    CREATE FUNCTION events_erase() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
      UPDATE events SET payload = NULL WHERE seq = NEW.cause;
      DELETE FROM blobs WHERE digest IN (SELECT jsonb_array_elements_text(NEW.payload::jsonb -> 'blobs'));
      RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION events_check_update()",
    "CREATE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION events_refuse()",
    "CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events EXECUTE FUNCTION events_refuse()",
    "CREATE TRIGGER events_appended BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION events_check_insert()",
    """
    CREATE TRIGGER events_erased AFTER INSERT ON events FOR EACH ROW WHEN (NEW.type = 'PayloadErased')
    EXECUTE FUNCTION events_erase()
    """,
    # ALWAYS: session_replication_role = replica walks past plain triggers.
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_update",
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_delete",
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_truncate",
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_appended",
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_erased",
)


def upgrade() -> None:
    erasure = sa.text("type = 'PayloadErased'")
    op.create_index("events_erasures", "events", ["cause"], sqlite_where=erasure, postgresql_where=erasure)
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seq", _NUMBER, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    dialect = op.get_bind().dialect.name
    for statement in _SQLITE_TRIGGERS if dialect == "sqlite" else _POSTGRESQL:
        op.execute(statement)
