"""The page's conversations, in SQLite: `ISTHMUS_HOME/conversations.db`, for its owner alone.

All work is done by one thread, in order, so that the event loop never waits for a disk. What a
caller has begun to write is written, though the caller be cancelled. The file is opened with the
first call: one that cannot be used keeps nobody from anything but the page.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from isthmus.core.errors import ConfigError, Unavailable
from isthmus.edge.database import Database, mapped, open_database
from isthmus.edge.page.messages import (
    MessageStatus,
    StoredConversation,
    StoredMessage,
    new_id,
    title_of,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE conversations (
    id             TEXT PRIMARY KEY,
    title          TEXT NOT NULL,
    created_unix_s REAL NOT NULL,
    updated_unix_s REAL NOT NULL,
    head           TEXT
) STRICT;
CREATE INDEX conversations_by_time ON conversations (updated_unix_s, id);
CREATE TABLE messages (
    number        INTEGER PRIMARY KEY,
    conversation  TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    id            TEXT NOT NULL UNIQUE,
    parent        TEXT,
    role          TEXT NOT NULL,
    content       TEXT NOT NULL,
    at_unix_s     REAL NOT NULL,
    status        TEXT NOT NULL,
    error         TEXT,
    rating        INTEGER NOT NULL,
    request_id    TEXT,
    finish_reason TEXT,
    begins_at     TEXT,
    left_out      INTEGER NOT NULL,
    isthmus       TEXT
) STRICT;
CREATE INDEX messages_by_conversation ON messages (conversation, number);
CREATE INDEX messages_by_status ON messages (status) WHERE status = 'running'
"""
_TAINT = "ALTER TABLE conversations ADD COLUMN taint TEXT NOT NULL DEFAULT ''"
_SCHEMAS = (_SCHEMA, _TAINT)
"""What each version of the schema added."""
_COLUMNS = (
    "id, parent, role, content, at_unix_s, status, error, rating, request_id, finish_reason, "
    "begins_at, left_out, isthmus"
)
_INSERT = f"INSERT INTO messages (conversation, {_COLUMNS}) VALUES ({', '.join('?' * 14)})"
_UPDATE = (
    f"UPDATE messages SET ({_COLUMNS}) = ({', '.join('?' * 13)}) WHERE id = ? AND conversation = ?"
)
_BRANCH = f"""
WITH RECURSIVE branch (message, above, depth) AS (
    SELECT id, parent, 0 FROM messages WHERE id = ? AND conversation = ?
    UNION ALL
    SELECT id, parent, depth + 1 FROM messages JOIN branch ON id = above
)
SELECT {_COLUMNS} FROM messages JOIN branch ON id = message ORDER BY depth DESC
"""
_HEAD = "id, title, created_unix_s, updated_unix_s, head, taint"
_INTERRUPTED = '{"code": "interrupted", "message": "the agent ended before the answer did"}'
_WHAT = "the conversations"
Page = tuple[list[StoredConversation], tuple[float, str] | None]


class Store:
    """Conversations and their messages. Every method raises `Unavailable` when the file fails."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: None: in memory, for as long as this object lives."""
        self.path = path
        self._file = Database(path, lambda: _open(path))
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="isthmus-conversations")

    async def create(self, title: str = "") -> StoredConversation:
        """A new conversation."""
        now = _now()
        made = StoredConversation(new_id(), title, now, now)

        def work(db: sqlite3.Connection) -> None:
            row = (made.id, made.title, now, now, None, "")
            db.execute(f"INSERT INTO conversations ({_HEAD}) VALUES (?, ?, ?, ?, ?, ?)", row)

        await self._do(work)
        return made

    async def latest(
        self, *, limit: int = 50, before: tuple[float, str] | None = None, text: str = ""
    ) -> Page:
        """Those of late, the latest first, and where the next page begins, if there is one.

        `text`: those alone in whose title or messages it occurs.
        """
        where, values = ["1"], []
        if before is not None:
            where.append("(updated_unix_s, id) < (?, ?)")
            values += [*before]
        if text:
            where.append(
                "(title LIKE ? ESCAPE '!' OR EXISTS (SELECT 1 FROM messages WHERE conversation = "
                "conversations.id AND content LIKE ? ESCAPE '!'))"
            )
            escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
            values += [f"%{escaped}%"] * 2
        select = (
            f"SELECT {_HEAD} FROM conversations WHERE {' AND '.join(where)} "
            "ORDER BY updated_unix_s DESC, id DESC LIMIT ?"
        )
        rows = await self._do(lambda db: db.execute(select, (*values, limit + 1)).fetchall())
        found = [StoredConversation(*row) for row in rows[:limit]]
        more = len(rows) > limit
        return found, (found[-1].updated_unix_s, found[-1].id) if more else None

    async def get(self, conversation: str) -> tuple[StoredConversation, list[StoredMessage]] | None:
        """A conversation and all its messages, in the order in which they were begun."""

        def work(db: sqlite3.Connection) -> tuple[StoredConversation, list[StoredMessage]] | None:
            head = _find(db, conversation)
            if head is None:
                return None
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM messages WHERE conversation = ? ORDER BY number",
                (conversation,),
            )
            return head, [StoredMessage.of_row(row) for row in rows]

        return await self._do(work)

    async def branch(
        self, conversation: str, leaf: str | None
    ) -> tuple[StoredConversation, list[StoredMessage]] | None:
        """A conversation and its messages from the first to `leaf`, if that is one of them."""

        def work(db: sqlite3.Connection) -> tuple[StoredConversation, list[StoredMessage]] | None:
            head = _find(db, conversation)
            if head is None:
                return None
            rows = db.execute(_BRANCH, (leaf, conversation))
            return head, [StoredMessage.of_row(row) for row in rows]

        return await self._do(work)

    async def change(
        self, conversation: str, *, title: str | None = None, head: str | None = None
    ) -> StoredConversation | None:
        """Give it another title, or show another branch of it."""

        def work(db: sqlite3.Connection) -> StoredConversation | None:
            if title is not None:
                db.execute("UPDATE conversations SET title = ? WHERE id = ?", (title, conversation))
            if head is not None:
                db.execute("UPDATE conversations SET head = ? WHERE id = ?", (head, conversation))
            return _find(db, conversation)

        return await self._do(work)

    async def delete(self, conversation: str | None = None) -> list[str]:
        """Delete one or (None) all of them, text and all; the ids of those that were there."""

        def work(db: sqlite3.Connection) -> list[str]:
            chosen = "1" if conversation is None else "id = ?"
            values = () if conversation is None else (conversation,)
            rows = db.execute(f"DELETE FROM conversations WHERE {chosen} RETURNING id", values)
            return [row[0] for row in rows]

        gone = await self._do(work)
        # What was overwritten in the file still stands in the log beside it.
        await self._do(_checkpoint)
        return gone

    async def begin(
        self, conversation: str, question: StoredMessage | None, answer: StoredMessage
    ) -> bool:
        """Store a turn before it is answered; False: there is no such conversation (any more)."""

        def work(db: sqlite3.Connection) -> bool:
            if _find(db, conversation) is None:
                return False
            for message in (question, answer):
                if message is not None:
                    db.execute(_INSERT, (conversation, *message.row()))
            if question is not None:
                db.execute(
                    "UPDATE conversations SET title = ? WHERE id = ? AND title = ''",
                    (title_of(question.content), conversation),
                )
            db.execute(
                "UPDATE conversations SET head = ?, updated_unix_s = ? WHERE id = ?",
                (answer.id, _now(), conversation),
            )
            return True

        return await self._do(work)

    async def save(self, conversation: str, message: StoredMessage) -> bool:
        """Store `message` as it is now; False: it was deleted, and stays so."""
        row = (*message.row(), message.id, conversation)
        return await self._do(lambda db: db.execute(_UPDATE, row).rowcount > 0)

    async def taint(self, conversation: str, labels: str) -> None:
        """Keep the labels of what was private in it."""
        update = "UPDATE conversations SET taint = ? WHERE id = ?"
        await self._do(lambda db: db.execute(update, (labels, conversation)))

    async def rate(self, message: str, rating: int) -> StoredMessage | None:
        """Rate an answer; None: there is none of that id."""

        def work(db: sqlite3.Connection) -> StoredMessage | None:
            rows = db.execute(
                "UPDATE messages SET rating = ? WHERE id = ? AND role = 'assistant' "
                f"RETURNING {_COLUMNS}",
                (rating, message),
            ).fetchall()
            return StoredMessage.of_row(rows[0]) if rows else None

        return await self._do(work)

    def close(self) -> None:
        """Write what waits and close. Idempotent; not for an event loop."""
        self._worker.shutdown()
        self._file.close()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            begun = self._worker.submit(self._work, work)
        except RuntimeError:
            raise Unavailable("the agent is stopping") from None
        return await asyncio.shield(asyncio.wrap_future(begun))

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with mapped(self.path or Path(":memory:"), _WHAT):
                db = self._file.connection()
                with db:
                    return work(db)
        except ConfigError as error:
            log.warning("%s", error.message)
            raise Unavailable(error.message, field=error.field) from None


def _open(path: Path | None) -> sqlite3.Connection:
    if path is None:
        db = sqlite3.connect(":memory:", check_same_thread=False)
        db.executescript(";".join(_SCHEMAS))
    else:
        db = open_database(path, _SCHEMAS, _WHAT)
    db.execute("PRAGMA foreign_keys=ON")
    # What a person deletes is overwritten.
    db.execute("PRAGMA secure_delete=ON")
    with db:
        # Nobody writes them any more.
        db.execute(
            "UPDATE messages SET status = ?, error = ? WHERE status = ?",
            (MessageStatus.FAILED.value, _INTERRUPTED, MessageStatus.RUNNING.value),
        )
    return db


def _now() -> float:
    """Unix seconds as a cursor can tell them."""
    return round(time.time(), 6)


def _find(db: sqlite3.Connection, conversation: str) -> StoredConversation | None:
    select = f"SELECT {_HEAD} FROM conversations WHERE id = ?"
    row = db.execute(select, (conversation,)).fetchone()
    return None if row is None else StoredConversation(*row)


def _checkpoint(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
