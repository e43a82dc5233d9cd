"""SQLite files of the agent: private to their owner, in WAL mode, with a versioned schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.core.paths import make_private


def open_database(path: Path, schemas: Sequence[str], what: str) -> sqlite3.Connection:
    """The file at `path`, made or brought up to date where need be. Raises `ConfigError`.

    `schemas`: the statements that each version of the schema added; `what` the file is, in words.
    """
    try:
        make_private(path)
        # Only one thread uses it at a time, but not always the one that opened it.
        db = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level="IMMEDIATE")
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, what, type(error).__name__) from None
    try:
        db.execute("PRAGMA journal_mode=WAL")
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


def _migrate(db: sqlite3.Connection, path: Path, schemas: Sequence[str], what: str) -> None:
    # Two agents may start at once: the lock comes before the look at the version.
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
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


def _unusable(path: Path, what: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use {what} {path} ({why}): make its folder writable, move a damaged file "
        "away, or set ISTHMUS_HOME to another folder",
        field="ISTHMUS_HOME",
    )
