"""Runs the migrations on the connection that the store hands over, or on the one that alembic.ini names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, engine_from_config

from instar.store.schema import metadata


def migrate(connection: Connection) -> None:
    """Brings the schema behind a connection to the wanted revision, in one transaction."""
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    migrate(handed_over)
else:
    with engine_from_config(context.config.get_section(context.config.config_ini_section, {})).connect() as opened:
        migrate(opened)
