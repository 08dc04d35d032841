"""Blobs can be collected by an event of their own: who names them in the view ``doomed`` beside it takes them away."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

# A view without rows: naming a blob in it, in the transaction of the event, takes the blob away, and nothing else can.
_VIEW = "CREATE VIEW doomed AS SELECT digest, size AS seq FROM blobs WHERE 1 = 0"
_RULE = "(SELECT type FROM events ORDER BY seq DESC LIMIT 1)"

_SQLITE = (
    _VIEW,
    f"""
    CREATE TRIGGER blobs_collected INSTEAD OF INSERT ON doomed
    BEGIN
      SELECT RAISE(ABORT, 'events are append-only: only an event at the head collects blobs')
      WHERE NEW.seq IS NOT (SELECT max(seq) FROM events) OR {_RULE} IS NOT 'BlobsCollected';
      DELETE FROM blobs WHERE digest = NEW.digest;
    END
    """,
)

_POSTGRESQL = (
    _VIEW,
    # As the owner of the tables: who appends may collect by an event, and by nothing else.
    f"""
    CREATE FUNCTION blobs_collect() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
      IF NEW.seq IS DISTINCT FROM (SELECT max(seq) FROM events) OR {_RULE} IS DISTINCT FROM 'BlobsCollected' THEN
        RAISE EXCEPTION 'events are append-only: only an event at the head collects blobs';
      END IF;
      DELETE FROM blobs WHERE digest = NEW.digest;
      RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER blobs_collected INSTEAD OF INSERT ON doomed FOR EACH ROW EXECUTE FUNCTION blobs_collect()",
)


def upgrade() -> None:
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)
