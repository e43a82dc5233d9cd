"""The chain of receipts in the ledger's file, and the key of the device beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from isthmus.core.errors import ConfigError
from isthmus.core.paths import write_whole
from isthmus.privacy.receipts import START, DeviceKey, Entry, Receipt

SCHEMA = """
CREATE TABLE receipts (
    sequence   INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    at_unix_s  REAL NOT NULL,
    statement  TEXT NOT NULL,
    signature  TEXT NOT NULL
) STRICT;
CREATE INDEX receipts_by_request ON receipts (request_id);
CREATE INDEX receipts_by_time ON receipts (at_unix_s);
CREATE TABLE receipt_head (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    count     INTEGER NOT NULL,
    last      TEXT NOT NULL,
    statement TEXT NOT NULL,
    signature TEXT NOT NULL
) STRICT;
"""

KEY_FILE = "device_key.pem"


def device_key(folder: Path) -> DeviceKey:
    """The key of this device, made the first time. Raises `ConfigError`."""
    path = folder / KEY_FILE
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_once(path, DeviceKey.new().pem())
        return DeviceKey.from_pem(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"cannot use the device's key {path} ({error.strerror})", field="ISTHMUS_HOME"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{path} is {error}: put the right one back, or move it away with the ledger to begin "
            "anew",
            field="ISTHMUS_HOME",
        ) from None


def _write_once(path: Path, content: bytes) -> None:
    """Make `path`, whole and for its owner alone, unless another process was quicker."""
    # A lock and no hard link, which Android and FAT refuse.
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            write_whole(path, content)


def append(db: sqlite3.Connection, key: DeviceKey, receipts: Sequence[Receipt]) -> None:
    """Sign `receipts` and put them behind the last one. For a transaction that holds the lock."""
    if not receipts:
        return
    row = db.execute("SELECT count, last FROM receipt_head").fetchone()
    count, last = row or (0, START)
    for receipt in receipts:
        count += 1
        entry = key.receipt(receipt, sequence=count, previous=last)
        last = entry.hash
        db.execute(
            "INSERT INTO receipts VALUES (?, ?, ?, ?, ?)",
            (count, receipt.request_id, receipt.at_unix_s, entry.statement, entry.signature),
        )
    head = key.head(count=count, last=last)
    db.execute(
        "INSERT OR REPLACE INTO receipt_head VALUES (1, ?, ?, ?, ?)",
        (count, last, head.statement, head.signature),
    )


def read_chain(db: sqlite3.Connection, *, since_unix_s: float = 0.0) -> Iterator[Entry]:
    """The receipts from the first one of that time on, in order."""
    (first,) = db.execute(
        "SELECT min(sequence) FROM receipts WHERE at_unix_s >= ?", (since_unix_s,)
    ).fetchone()
    if first is None:
        return
    rows = db.execute(
        "SELECT statement, signature FROM receipts WHERE sequence >= ? ORDER BY sequence", (first,)
    )
    for statement, signature in rows:
        yield Entry(statement, signature)


def read_head(db: sqlite3.Connection) -> Entry | None:
    """The signed head; None before the first receipt."""
    row = db.execute("SELECT statement, signature FROM receipt_head").fetchone()
    return None if row is None else Entry(*row)


def misfiled(db: sqlite3.Connection) -> Iterator[str]:
    """What the columns, by which receipts are looked up, tell otherwise than what was signed."""
    rows = db.execute("SELECT sequence, request_id, at_unix_s, statement FROM receipts")
    for sequence, request_id, at_unix_s, statement in rows:
        told = _read(statement)
        if told is not None and (sequence, request_id, at_unix_s) != tuple(
            told.get(name) for name in ("sequence", "request_id", "at_unix_s")
        ):
            yield f"receipt {sequence} is filed under another request, number or time than its own"
    head = db.execute("SELECT count, last, statement FROM receipt_head").fetchone()
    told = _read(head[2]) if head is not None else None
    if told is not None and head[:2] != (told.get("count"), told.get("last")):
        yield "the head is filed with another count or hash than its own"


def _read(statement: str) -> dict[str, Any] | None:
    """A statement's fields; `None`: it is none, which `isthmus.privacy.receipts.check` tells."""
    with contextlib.suppress(ValueError):
        return Entry(statement, "").read()
    return None


def find(db: sqlite3.Connection, request_id: str) -> Entry | None:
    """The latest receipt of a request."""
    row = db.execute(
        "SELECT statement, signature FROM receipts WHERE request_id = ? "
        "ORDER BY sequence DESC LIMIT 1",
        (request_id,),
    ).fetchone()
    return None if row is None else Entry(*row)
