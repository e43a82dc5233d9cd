"""The database: SQLite in a file or PostgreSQL by its DSN, brought up to date at start.

Foreign errors become ours here, without their messages: those may name hosts, users and rows.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from isthmus.cloud.ledger.prepared import by_driver
from isthmus.core.errors import ConfigError, InternalError, IsthmusError, Unavailable
from isthmus.core.paths import file_at, make_private

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_MIGRATION_LOCK: Final = 0x697374686D7573
"""Any number that nobody else locks: PostgreSQL's advisory locks have numbers for names."""
_SERVER_S: Final = 0.5
"""So much later than the server's own timeouts do ours end a statement: what the server says of it
is more exact, and a server that hangs says nothing."""
_MIGRATION_S: Final = 1800.0
"""How long a change of PostgreSQL's schema may take: on large tables minutes."""
COME_BACK_S: Final = 5.0
"""When to ask again of whoever is refused because the database is away."""
_TRANSIENT: Final = frozenset({"08", "28", "3D", "40", "53", "55", "57", "58"})
"""Classes of SQLSTATE that are nothing against the statement: connection, sign-in, no database yet,
serialization and deadlock, resources, locks, an operator's intervention, the system."""
_SQLITE_OURS: Final = frozenset({"SQLITE_ERROR", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH"})
"""What SQLite says of a statement that no repetition makes right."""

_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def sqlite_url(path: Path) -> sa.URL:
    """The URL of a SQLite file."""
    return sa.URL.create("sqlite", database=str(path))


def parse_url(dsn: str) -> sa.URL:
    """The URL of a PostgreSQL database. Raises `ConfigError`, which does not show it."""
    try:
        url = sa.make_url(dsn)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "ledger.dsn cannot be read; it is written postgresql://user:password@host/name",
            field="ledger.dsn",
        ) from None
    if url.drivername not in {"postgresql", "postgres"}:
        raise ConfigError("ledger.dsn must begin with postgresql://", field="ledger.dsn")
    return url.set(drivername="postgresql+psycopg")


def make_engine(
    url: sa.URL, *, timeout_s: float = 5.0, statement_s: float | None = None, writes: bool = True
) -> sa.Engine:
    """An engine for the database; opens nothing yet.

    Whatever takes longer than `timeout_s` (connecting, a lock, a statement) is an error, whether
    the server says so or says nothing at all; `statement_s`: PostgreSQL's locks and statements may
    take so long instead. Raises `ConfigError`.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, timeout_s, writes=writes)
    return _postgres(url, timeout_s, statement_s or timeout_s)


def _sqlite(url: sa.URL, timeout_s: float, *, writes: bool) -> sa.Engine:
    path = Path(url.database).absolute() if url.database else None  # one in memory has none
    if path is not None:
        if writes:
            _make_file(path)
        # One that is gone is not made again by whoever connects next: it is away until it is back.
        url = url.set(database=path.as_uri(), query={"mode": "rw", "uri": "true"})
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": timeout_s})
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        record.info["file"] = path and file_at(path)
        # The driver's own transactions begin late and leave out the schema.
        connection.isolation_level = None
        if writes:
            connection.execute("PRAGMA journal_mode = WAL")
            # A kill takes nothing back; a power cut may take the last moments, and no more.
            connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.info["file"] != (path and file_at(path)):
            # What is written into a file that was moved or deleted is seen by nobody.
            moved = sqlite3.OperationalError("moved")
            connection.invalidate()
            raise OperationalError("BEGIN", {}, moved, connection_invalidated=True)
        # The lock before the first look: a reader that turns into a writer may be refused.
        by_driver(connection, begin, lambda cursor: cursor.execute(begin))

    return engine


def _make_file(path: Path) -> None:
    try:
        make_private(path)
    except OSError as error:
        raise ConfigError(
            f"the ledger {path} cannot be made ({error.strerror})", field="ledger.path"
        ) from None


def _postgres(url: sa.URL, timeout_s: float, statement_s: float) -> sa.Engine:
    ms = int(statement_s * 1000)
    try:
        connect = _impatient(statement_s + _SERVER_S)
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=4,
            pool_timeout=timeout_s,
            connect_args={
                "connect_timeout": max(2, int(timeout_s)),
                "tcp_user_timeout": int(timeout_s * 1000),
                "application_name": "isthmus",
                "options": f"-c statement_timeout={ms} -c lock_timeout={ms} -c timezone=UTC",
            },
        )
    except ImportError:
        raise ConfigError(
            "PostgreSQL needs its driver: pip install 'isthmus[postgres]'", field="ledger.kind"
        ) from None

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, arguments: Any, settings: Any) -> Any:
        return connect(*arguments, **settings)

    return engine


def _impatient(most_s: float) -> Callable[..., Any]:
    """What connects, so that no statement is waited for longer. Raises `ImportError`.

    A server that is stopped, or a network that swallows everything, keeps a connection up and
    answers nothing; the server's own timeouts do not count then.
    """
    import psycopg

    class Impatient(psycopg.Connection[Any]):
        def wait(self, gen: Any, *arguments: Any, **settings: Any) -> Any:
            try:
                return super().wait(gen, *arguments, **{"timeout": most_s} | settings)
            except psycopg.errors._WaitTimeout:  # it has no other name
                self.pgconn.finish()
                raise psycopg.OperationalError("the server does not answer") from None

    return Impatient.connect


def migrate(engine: sa.Engine) -> None:
    """Bring the schema up to date; gateways that start together wait for one another.

    On PostgreSQL only the look whether there is anything to do is held to the time that `engine`
    gives a statement. Raises `ConfigError` for a database that a newer program has written,
    `Unavailable` when it is away.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with mapped(), contextlib.ExitStack() as stack:
        if engine.dialect.name == "postgresql":
            newest = tuple(ScriptDirectory.from_config(config).get_heads())
            with engine.connect() as connection:
                if MigrationContext.configure(connection).get_current_heads() == newest:
                    return
            engine = make_engine(engine.url, statement_s=_MIGRATION_S)
            stack.callback(engine.dispose)
        connection = stack.enter_context(engine.begin())
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise ConfigError(
                "the ledger's database was written by a newer isthmus; update this one",
                field="ledger",
            ) from None


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """Raise a database's errors as ours."""
    try:
        yield
    except SQLAlchemyError as error:
        raise as_ours(error) from None


def as_ours(error: Exception) -> IsthmusError:
    """A database's error: `Unavailable` when it is away or was in the way, else our own fault."""
    what = type(error).__name__
    if isinstance(error, DBAPIError):
        code = _code(error)
        what = f"{type(error.orig).__name__}{f', {code}' if code else ''}"
    if what.endswith(_DAMAGED):
        return Unavailable(
            f"the ledger's file is damaged ({what}): stop the gateway, and put a copy in its place "
            "or move it away, with the -wal and -shm beside it",
            field="ledger",
            retry_after_s=COME_BACK_S,
        )
    if is_transient(error):
        return Unavailable(
            f"the ledger's database is away ({what}); try again",
            field="ledger",
            retry_after_s=COME_BACK_S,
        )
    return InternalError(f"the ledger's database refused a statement ({what})", field="ledger")


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: it is away, busy, or chose another transaction."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = _code(error)
    if isinstance(error, OperationalError | InterfaceError) and not code:
        return True
    if code.startswith("SQLITE_"):
        return "_".join(code.split("_")[:2]) not in _SQLITE_OURS
    return code[:2] in _TRANSIENT


def _code(error: DBAPIError) -> str:
    """SQLSTATE or SQLite's name of the error; empty where the driver has none."""
    orig = error.orig
    return getattr(orig, "sqlstate", None) or getattr(orig, "sqlite_errorname", None) or ""
