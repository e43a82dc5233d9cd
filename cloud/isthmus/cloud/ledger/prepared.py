"""Statements that every answer waits for, made once and run by the driver itself.

SQLAlchemy's own way to run a statement takes several times as long as SQLite does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor, Dialect
from sqlalchemy.exc import DBAPIError

_T = TypeVar("_T")
_Values: TypeAlias = list[Any] | dict[str, Any]
"""Of one row, by place or by name, as the driver wants them."""


class Ran(NamedTuple):
    """What became of a statement."""

    row: tuple[Any, ...] | None
    """The first that it returned."""
    rows: int
    """How many it changed."""


class Prepared:
    """A statement whose parameters have names."""

    def __init__(self, make: Callable[[Dialect], sa.ClauseElement]) -> None:
        """`make` makes it for a dialect."""
        self._make: Final = make
        self._compiled: Final = lru_cache(self._compile)

    def run(self, connection: sa.Connection, *rows: dict[str, Any]) -> Ran:
        """Run it for each of `rows`, in the transaction. Raises SQLAlchemy's errors."""
        text, values = self._compiled(connection.dialect)

        def ran(cursor: DBAPICursor) -> Ran:
            many: Any = [values(row) for row in rows]
            if len(many) == 1:
                cursor.execute(text, many[0])
            else:
                cursor.executemany(text, many)
            return Ran(cursor.fetchone() if cursor.description else None, cursor.rowcount)

        return by_driver(connection, text, ran)

    def _compile(self, dialect: Dialect) -> tuple[str, Callable[[dict[str, Any]], _Values]]:
        compiled = self._make(dialect).compile(dialect=dialect)
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        places: list[str] | None = getattr(compiled, "positiontup", None)
        if places is None:
            return str(compiled), lambda row: fixed | row

        def by_place(row: dict[str, Any]) -> list[Any]:
            named = fixed | row
            return [named[name] for name in places]

        return str(compiled), by_place


def by_driver(connection: sa.Connection, text: str, use: Callable[[DBAPICursor], _T]) -> _T:
    """What `use` does with a cursor of the driver's. Raises SQLAlchemy's errors for its own."""
    dialect, driver = connection.dialect, connection.connection
    try:
        with closing(driver.cursor()) as cursor:
            return use(cursor)
    except dialect.loaded_dbapi.Error as error:
        gone = dialect.is_disconnect(error, driver.dbapi_connection, None)
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            text,
            None,
            error,
            dialect.loaded_dbapi.Error,
            hide_parameters=True,
            connection_invalidated=gone,
            dialect=dialect,
        ) from error
