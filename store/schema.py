"""The tables, as SQLAlchemy metadata. Alembic owns their creation; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    select,
    text,
)

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")

# Partial: an index over random keys of every event would cost each append 5 µs.
_KEYED = text("key IS NOT NULL")
_ERASURE = text("type = 'PayloadErased'")

events = Table(
    "events",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("recorded_at_us", _Number, nullable=False),
    Column("cycle", _Number, nullable=False),
    Column("cause", _Number),
    Column("actor", Text, nullable=False),
    Column("state_before", Text, nullable=False),
    Column("state_after", Text, nullable=False),
    Column("key", Text),
    Column("payload", Text),
    Column("payload_hash", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("state_digest", Text),
    Index("events_key", "key", unique=True, sqlite_where=_KEYED, postgresql_where=_KEYED),
    Index("events_erasures", "cause", sqlite_where=_ERASURE, postgresql_where=_ERASURE),
    sqlite_strict=True,
)

newer = select(*events.columns).where(events.c.seq > bindparam("head")).order_by(events.c.seq)
"""The events after a head."""

blobs = Table(
    "blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", _Number, nullable=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_strict=True,
)

state_snapshots = Table(
    "state_snapshots",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    sqlite_strict=True,
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seq", _Number, nullable=False),
    Column("hash", Text, nullable=False),
    sqlite_strict=True,
)
