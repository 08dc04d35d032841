"""The event log, its blobs and its state snapshots; the log is append-only by trigger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# BEFORE INSERT guards REPLACE and upsert too: both reach the table through an insert of a seq or key that is there.
_SQLITE_TRIGGERS = (
    """
    CREATE TRIGGER events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only: no event is ever changed'); END
    """,
    """
    CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only: no event is ever deleted'); END
    """,
    """
    CREATE TRIGGER events_gapless BEFORE INSERT ON events
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
    BEGIN SELECT RAISE(ABORT, 'events are append-only: seq must follow the head'); END
    """,
    """
    CREATE TRIGGER events_key_once BEFORE INSERT ON events
    WHEN NEW.key IS NOT NULL AND EXISTS (SELECT 1 FROM events WHERE key = NEW.key)
    BEGIN SELECT RAISE(ABORT, 'events are append-only: this key was recorded already'); END
    """,
    """
    CREATE TRIGGER events_chained BEFORE INSERT ON events
    WHEN NEW.seq > 1 AND NEW.prev_hash IS NOT (SELECT hash FROM events WHERE seq = NEW.seq - 1)
    BEGIN SELECT RAISE(ABORT, 'events are append-only: prev_hash must be the hash of the head'); END
    """,
)


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("recorded_at_us", _NUMBER, nullable=False),
        sa.Column("cycle", _NUMBER, nullable=False),
        sa.Column("cause", _NUMBER),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("state_before", sa.Text, nullable=False),
        sa.Column("state_after", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("payload", sa.Text),
        sa.Column("payload_hash", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("state_digest", sa.Text),
        sqlite_strict=True,
    )
    keyed = sa.text("key IS NOT NULL")
    op.create_index("events_key", "events", ["key"], unique=True, sqlite_where=keyed, postgresql_where=keyed)
    op.create_table(
        "blobs",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("size", _NUMBER, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "state_snapshots",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        for trigger in _SQLITE_TRIGGERS:
            op.execute(trigger)
