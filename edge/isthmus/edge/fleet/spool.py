"""The spool: what is to be told to the operator, on the disk until the gateway has taken it.

It lies in the ledger's file and is written with the outcome in one transaction, so that neither a
kill nor an outage loses a row. It is bounded: the oldest rows go first, those that nothing is
billed by before the others, and what is dropped is counted. What is billed (acknowledgements) and
what is shared (outcomes) are kept apart: an owner who stops sharing has the latter deleted unsent.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SCHEMA = """
CREATE TABLE spool (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    at_unix_s       REAL NOT NULL,
    outcome         BLOB,
    acknowledgement BLOB,
    CHECK (outcome IS NOT NULL OR acknowledgement IS NOT NULL)
) STRICT;
CREATE TABLE spool_dropped (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    rows INTEGER NOT NULL
) STRICT;
INSERT INTO spool_dropped VALUES (1, 0);
"""
_INSERT = "INSERT INTO spool (at_unix_s, outcome, acknowledgement) VALUES (?, ?, ?)"
_OLDEST: Final = """
DELETE FROM spool WHERE sequence IN (
    SELECT sequence FROM spool ORDER BY acknowledgement IS NOT NULL, sequence LIMIT ?
)
"""
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """What is to be told of one request: messages of `isthmus.v1`, serialized."""

    outcome: bytes | None = None
    """Shared by consent."""
    acknowledgement: bytes | None = None
    """Billed by."""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How full it is."""

    rows: int = 0
    oldest_unix_s: float | None = None
    dropped: int = 0
    """Rows that were dropped unsent, ever."""


def append(db: sqlite3.Connection, rows: Sequence[SpoolRow]) -> None:
    """Put `rows` at the end. For a transaction that holds the lock."""
    now = time.time()
    db.executemany(_INSERT, [(now, row.outcome, row.acknowledgement) for row in rows])


class Spool:
    """Reads and empties the spool in the ledger's file. Blocking: not for an event loop.

    Raises what `connect` raises.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[sqlite3.Connection]],
        *,
        max_rows: int,
        max_days: float,
    ) -> None:
        self._connect = connect
        self._max_rows = max_rows
        self._max_days = max_days

    def read(self, limit: int) -> tuple[SpoolRow, ...]:
        """The oldest rows."""
        with self._connect() as db:
            rows = db.execute(
                "SELECT outcome, acknowledgement, sequence FROM spool ORDER BY sequence LIMIT ?",
                (limit,),
            )
            return tuple(SpoolRow(*row) for row in rows)

    def remove(self, rows: Sequence[SpoolRow], *, dropped: bool = False) -> None:
        """Take out rows that were sent, or (`dropped`) that nobody will take."""
        with self._connect() as db, db:
            for row in rows:
                db.execute("DELETE FROM spool WHERE sequence = ?", (row.sequence,))
            if dropped:
                _count(db, len(rows))

    def trim(self, *, shares: bool) -> SpoolState:
        """Keep the bounds, and delete what is no longer shared; how full it is after that."""
        with self._connect() as db, db:
            if not shares:
                db.execute("DELETE FROM spool WHERE acknowledgement IS NULL")
                db.execute("UPDATE spool SET outcome = NULL WHERE outcome IS NOT NULL")
            oldest_kept = time.time() - self._max_days * _DAY_S
            _count(db, db.execute("DELETE FROM spool WHERE at_unix_s < ?", (oldest_kept,)).rowcount)
            (rows,) = db.execute("SELECT count(*) FROM spool").fetchone()
            if rows > self._max_rows:
                _count(db, db.execute(_OLDEST, (rows - self._max_rows,)).rowcount)
            (rows, oldest) = db.execute("SELECT count(*), min(at_unix_s) FROM spool").fetchone()
            (dropped,) = db.execute("SELECT rows FROM spool_dropped").fetchone()
        return SpoolState(rows, oldest, dropped)


def ledger_spool(path: Path, *, max_rows: int, max_days: float) -> Spool:
    """The spool of the ledger at `path`."""
    from isthmus.edge.ledger import open_ledger

    return Spool(lambda: open_ledger(path), max_rows=max_rows, max_days=max_days)


def _count(db: sqlite3.Connection, rows: int) -> None:
    if rows:
        db.execute("UPDATE spool_dropped SET rows = rows + ?", (rows,))
