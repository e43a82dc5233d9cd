"""SQLite files of the agent: private to their owner, in WAL mode, with a versioned schema."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from isthmus.core.errors import ConfigError
from isthmus.core.paths import file_at, make_private

_PATIENCE_S: Final = 10.0
"""How long another program that writes is waited for."""
_PAUSE_S: Final = 0.01
_PASSING: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
}
_CURES: Final = {
    ("SQLITE_BUSY", "SQLITE_LOCKED"): "end the program that has been writing in it for long",
    ("SQLITE_FULL",): "make room on its disk",
    ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "UnicodeDecodeError"): (
        "it is damaged; move it away, with the -wal and -shm beside it, and a new one is begun"
    ),
}
_CURE: Final = "make its folder writable, or set ISTHMUS_HOME to another folder"


class Database:
    """One connection to the file at a path. Whoever moves or deletes that file while it is open
    begins a new one: what was written on into the old one would be seen by nobody.
    """

    def __init__(self, path: Path | None, opening: Callable[[], sqlite3.Connection]) -> None:
        """`opening`: makes the connection; `path` None: to no file."""
        self._path = path
        self._opening = opening
        self._opened: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def connection(self) -> sqlite3.Connection:
        """The connection to the file that lies there now. Raises what `opening` raises."""
        if self._opened is None or self._file != self._there():
            self.close()
            self._opened = self._opening()
            self._file = self._there()
        return self._opened

    def close(self) -> None:
        """Close it; `connection` opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _there(self) -> tuple[int, int] | None:
        return None if self._path is None else file_at(self._path)


def open_database(path: Path, schemas: Sequence[str], what: str) -> sqlite3.Connection:
    """The file at `path`, made or brought up to date where need be. Raises `ConfigError`.

    `schemas`: the statements that each version of the schema added; `what` the file is, in words.
    """
    try:
        make_private(path)
    except OSError as error:
        raise _unusable(path, what, name_of(error)) from None
    with mapped(path, what):
        # Only one thread uses it at a time, but not always the one that opened it.
        db = sqlite3.connect(
            path, timeout=_PATIENCE_S, check_same_thread=False, isolation_level="IMMEDIATE"
        )
        try:
            _use_wal(db)
            # In WAL mode this survives a kill of the process; only a power cut may lose the last
            # rows.
            db.execute("PRAGMA synchronous=NORMAL")
            _migrate(db, path, schemas, what)
        except BaseException:
            db.close()
            raise
    return db


def check_database(path: Path, what: str) -> None:
    """Read all of the file, and change nothing. Raises `ConfigError` where it is damaged."""
    with mapped(path, what):
        address = f"{path.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as db:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _unusable(path, what, "SQLITE_CORRUPT")


@contextlib.contextmanager
def mapped(path: Path, what: str) -> Iterator[None]:
    """Raise SQLite's errors as a `ConfigError` that says what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged schema need not be text
        raise _unusable(path, what, name_of(error)) from None


def name_of(error: Exception) -> str:
    """SQLite's name of an error, where it has one."""
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


def may_pass(error: sqlite3.Error) -> bool:
    """Whether the disk or another program was in the way: the same may be written later."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PASSING


def _use_wal(db: sqlite3.Connection) -> None:
    # Of all statements this one does not wait for a lock: two agents may make the file at once.
    give_up_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                raise
        time.sleep(_PAUSE_S)


def _migrate(db: sqlite3.Connection, path: Path, schemas: Sequence[str], what: str) -> None:
    if _version(db) == len(schemas):
        return  # Who only reads waits for nobody who writes, and needs no room on the disk.
    # Two agents may start at once: the lock comes before the look that counts.
    db.execute("BEGIN IMMEDIATE")
    version = _version(db)
    if version > len(schemas):
        db.rollback()
        raise ConfigError(
            f"{what} {path} was made by a newer Isthmus (schema {version}, this one knows "
            f"{len(schemas)}): upgrade, or set ISTHMUS_HOME to another folder",
            field="ISTHMUS_HOME",
        )
    for schema in schemas[version:]:
        for statement in schema.split(";"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version={len(schemas)}")
    db.commit()


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _unusable(path: Path, what: str, name: str) -> ConfigError:
    cure = next((cure for names, cure in _CURES.items() if name.startswith(names)), _CURE)
    return ConfigError(f"cannot use {what} {path} ({name}): {cure}", field="ISTHMUS_HOME")
