"""Alembic's way in: runs on the connection that `database.migrate` opened and locked."""

from __future__ import annotations

from alembic import context

from isthmus.cloud.fleet import tables as fleet_tables
from isthmus.cloud.ledger.tables import metadata

# Known by being imported: they are of the same metadata.
assert fleet_tables.devices.metadata is metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
