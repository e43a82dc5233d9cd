"""The one statement that SQLAlchemy has by dialect alone: insert, or leave what is there."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect


def insert(dialect: Dialect, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows `on_conflict_do_nothing`."""
    if dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
