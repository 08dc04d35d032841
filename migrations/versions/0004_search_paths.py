"""PostgreSQL's trigger functions look in their own stream before temporary tables, and run on our tables alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_FUNCTIONS = ("events_refuse", "events_check_update", "events_check_insert", "events_erase", "blobs_collect")


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        return  # its triggers see no temporary tables, and none of its own is a function
    schema = bind.dialect.identifier_preparer.quote(bind.execute(sa.text("SELECT current_schema()")).scalar_one())
    for name in _FUNCTIONS:
        # Unless it is named, pg_temp is searched first: whoever appends could give the functions tables of their own.
        op.execute(f"ALTER FUNCTION {name}() SET search_path TO {schema}, pg_temp")
        # Nor may they hang one that acts as the owner on a table of their own.
        op.execute(f"REVOKE EXECUTE ON FUNCTION {name}() FROM PUBLIC")
