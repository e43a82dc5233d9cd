"""SQLite files of the agent: private to their owner, in WAL mode, with a versioned schema."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from isthmus.core.errors import ConfigError
from isthmus.core.paths import make_private

_PATIENCE_S: Final = 10.0
"""How long another program that writes is waited for."""
_PAUSE_S: Final = 0.01


def open_database(path: Path, schemas: Sequence[str], what: str) -> sqlite3.Connection:
    """The file at `path`, made or brought up to date where need be. Raises `ConfigError`.

    `schemas`: the statements that each version of the schema added; `what` the file is, in words.
    """
    try:
        make_private(path)
        # Only one thread uses it at a time, but not always the one that opened it.
        db = sqlite3.connect(
            path, timeout=_PATIENCE_S, check_same_thread=False, isolation_level="IMMEDIATE"
        )
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, what, type(error).__name__) from None
    try:
        _use_wal(db)
        # In WAL mode this survives a kill of the process; only a power cut may lose the last rows.
        db.execute("PRAGMA synchronous=NORMAL")
        _migrate(db, path, schemas, what)
    except sqlite3.Error as error:
        db.close()
        raise _unusable(path, what, error.sqlite_errorname) from None
    except ConfigError:
        db.close()
        raise
    return db


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


def _unusable(path: Path, what: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use {what} {path} ({why}): make its folder writable, move a damaged file "
        "away, or set ISTHMUS_HOME to another folder",
        field="ISTHMUS_HOME",
    )
