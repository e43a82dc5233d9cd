"""Alembic's way in: runs on the connection that `database.migrate` opened and locked."""

from __future__ import annotations

from alembic import context

from isthmus.cloud.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
