"""How good answers were found to be: rows in the ledger's file. No text of the user's."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from enum import StrEnum

from isthmus.core.decision import Target
from isthmus.router.online import Lesson

SCHEMA = """
ALTER TABLE outcomes ADD COLUMN expected_quality REAL;
CREATE TABLE lessons (
    request_id TEXT NOT NULL,
    source     TEXT NOT NULL,
    at_unix_s  REAL NOT NULL,
    tier       TEXT NOT NULL,
    expected   REAL NOT NULL,
    found      REAL NOT NULL,
    weight     REAL NOT NULL,
    PRIMARY KEY (request_id, source)
) STRICT;
CREATE INDEX lessons_by_time ON lessons (at_unix_s);
"""

KEPT = 2_000
"""How many of the latest lessons count."""


class Source(StrEnum):
    """Who found an answer good or bad."""

    USER = "user"
    """The person who asked, by POST /v1/feedback."""
    DOUBT = "doubt"
    """The cascade, which handed the answer over."""


def expected(db: sqlite3.Connection, request_id: str) -> tuple[Target, float] | None:
    """Who answered a request, and how good that was expected to be; None when nobody knows."""
    row = db.execute(
        "SELECT route, expected_quality FROM outcomes WHERE request_id = ? AND status = 'ok'",
        (request_id,),
    ).fetchone()
    return None if row is None or row[1] is None else (Target(row[0]), row[1])


def note(db: sqlite3.Connection, request_id: str, source: Source, lesson: Lesson) -> None:
    """Keep one lesson; a second one of the same source on the same answer takes its place."""
    with contextlib.closing(db.cursor()) as cursor, db:
        cursor.execute(
            "INSERT OR REPLACE INTO lessons VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                request_id,
                source.value,
                time.time(),
                lesson.tier.value,
                lesson.expected,
                lesson.found,
                lesson.weight,
            ),
        )


def forget(db: sqlite3.Connection, request_id: str, source: Source) -> None:
    """Take back the lesson of one source on an answer."""
    with contextlib.closing(db.cursor()) as cursor, db:
        cursor.execute(
            "DELETE FROM lessons WHERE request_id = ? AND source = ?", (request_id, source.value)
        )


def latest(db: sqlite3.Connection, *, limit: int = KEPT) -> list[Lesson]:
    """The latest lessons, oldest first."""
    rows = db.execute(
        "SELECT tier, expected, found, weight FROM lessons ORDER BY at_unix_s DESC LIMIT ?",
        (limit,),
    ).fetchall()
    return [Lesson(Target(tier), *figures) for tier, *figures in reversed(rows)]
