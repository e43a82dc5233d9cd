"""The outcome of every request, in SQLite. No text of the user's; a row that is in survives a kill.

Writes happen in one thread of their own, so that the event loop never waits for a disk.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.errors import ConfigError
from isthmus.core.money import Usage
from isthmus.core.paths import home
from isthmus.edge import leg_rows, lessons, receipts
from isthmus.edge.database import Database, check_database, mapped, may_pass, name_of, open_database
from isthmus.edge.fleet import spool
from isthmus.edge.fleet.spool import SpoolRow
from isthmus.edge.leg_rows import LegRow
from isthmus.privacy.receipts import DeviceKey, Entry, Receipt

log = logging.getLogger(__name__)

_OUTCOMES = """
CREATE TABLE outcomes (
    request_id        TEXT PRIMARY KEY,
    at_unix_s         REAL NOT NULL,
    route             TEXT NOT NULL,
    reasons           TEXT NOT NULL,
    status            TEXT NOT NULL,
    privacy_class     TEXT NOT NULL,
    model             TEXT NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    ttft_ms           REAL,
    tpot_ms           REAL,
    total_ms          REAL NOT NULL,
    price_micro_usd   INTEGER NOT NULL,
    saved_micro_usd   INTEGER NOT NULL,
    error_kind        TEXT NOT NULL
) STRICT;
CREATE INDEX outcomes_by_time ON outcomes (at_unix_s);
"""
_HOLDS = """
CREATE TABLE holds (
    request_id TEXT PRIMARY KEY,
    at_unix_s  REAL NOT NULL,
    micro_usd  INTEGER NOT NULL
) STRICT;
"""
"""What was set aside for requests that have no outcome yet."""
_SCHEMAS = (_OUTCOMES, receipts.SCHEMA, _HOLDS, lessons.SCHEMA, leg_rows.SCHEMA, spool.SCHEMA)
"""What each version of the schema added."""
_INSERT = f"INSERT OR REPLACE INTO outcomes VALUES ({', '.join('?' * 17)})"
_SPENT = """
SELECT (SELECT coalesce(sum(price_micro_usd), 0) FROM outcomes WHERE at_unix_s >= ?)
     + (SELECT coalesce(sum(micro_usd), 0) FROM holds WHERE at_unix_s >= ?)
"""
_BATCH = 256

_PATIENCE_S = 10.0
"""How long what is just being written is waited for."""
_PAUSE_S: Final = 0.2
"""Before rows are written again that the disk could not take."""
_WHAT: Final = "the ledger"

_Row = tuple[str | float | int | None, ...]
_Hold = tuple[str, float, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is written in one piece."""

    outcome: Outcome | None = None
    receipt: Receipt | None = None
    hold: _Hold | None = None
    legs: Sequence[LegRow] = ()
    spooled: Sequence[SpoolRow] = ()


class Ledger:
    """Append-only tables of outcomes and of receipts. `record` never blocks and never raises."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        key: DeviceKey | None = None,
        capacity: int = 10_000,
        on_loss: Callable[[int], None] = lambda lost: None,
    ) -> None:
        """Open or create `path` (default: under ISTHMUS_HOME). Raises `ConfigError`.

        `key` signs the receipts; None: the device's own, which lies beside the ledger. At most
        `capacity` rows wait for a disk that is slow, full or taken by another program; `on_loss`
        hears how many were lost when there are more, when the file is damaged, or at the end.
        """
        self.path = ledger_path() if path is None else path
        self.key = receipts.device_key(self.path.parent) if key is None else key
        self._waiting: queue.Queue[_Entry | threading.Event | None] = queue.Queue(capacity)
        self._on_loss = on_loss
        self._closing = threading.Event()
        self._file = Database(self.path, lambda: open_database(self.path, _SCHEMAS, _WHAT))
        self._file.connection()
        self._writer = threading.Thread(target=self._write, name="isthmus-ledger", daemon=True)
        self._writer.start()

    def record(
        self,
        outcome: Outcome,
        receipt: Receipt | None = None,
        legs: Sequence[LegRow] = (),
        spooled: Sequence[SpoolRow] = (),
    ) -> None:
        """Write `outcome` and the legs of its answer, sign `receipt`, and spool, soon."""
        self._put(_Entry(outcome, receipt, legs=legs, spooled=spooled))

    def set_aside(self, request_id: str, at_unix_s: float, micro_usd: int) -> None:
        """Write soon what a request may cost, in the place of what was written for it before.

        It counts as spent until its outcome is recorded: a call that a crash cut off was paid.
        """
        self._put(_Entry(hold=(request_id, at_unix_s, micro_usd)))

    def spent_since(self, unix_s: float) -> int:
        """What the cloud was paid from a moment on, what is still set aside included: in
        micro-dollars. Raises `ConfigError`. Not for an event loop.
        """
        with open_ledger(self.path) as db:
            (spent,) = db.execute(_SPENT, (unix_s, unix_s)).fetchone()
        return int(spent)

    def _put(self, entry: _Entry) -> None:
        if self._closing.is_set():
            self._lost(1, "closed")
            return
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            self._lost(1, "full")

    def flush(self) -> None:
        """Wait until what was recorded is on the disk, within reason. Not for an event loop."""
        written = threading.Event()
        if not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(written, timeout=_PATIENCE_S)
                written.wait(_PATIENCE_S)

    def receipt(self, request_id: str) -> Entry | None:
        """The receipt of a request that was recorded. Waits for the disk; not for an event loop.

        Raises `ConfigError`.
        """
        self.flush()
        with open_ledger(self.path) as db:
            return receipts.find(db, request_id)

    def close(self) -> None:
        """Write what waits and close. Idempotent."""
        if not self._closing.is_set():
            self._closing.set()
            self._waiting.put(None)
        self._writer.join()

    def _write(self) -> None:
        last = False
        while not last:
            batch = [self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            last = None in batch
            self._keep([entry for entry in batch if isinstance(entry, _Entry)])
            for entry in batch:
                if isinstance(entry, threading.Event):
                    entry.set()
        self._file.close()

    def _keep(self, entries: list[_Entry]) -> None:
        """Store them, as soon as the disk can take them."""
        said = ""
        while why := self._store(entries):
            if why != said:
                log.error("the ledger cannot be written now, rows wait (%s): %s", why, self.path)
                said = why
            if self._closing.wait(_PAUSE_S):
                self._lost(len(entries), why)
                return

    def _store(self, entries: list[_Entry]) -> str:
        """Why they cannot be stored now; empty: they are, or are lost."""
        if not entries:
            return ""
        try:
            db = self._file.connection()
            with db:
                # The lock before the look at the chain's end: two agents may share the file.
                db.execute("BEGIN IMMEDIATE")
                self._write_down(db, entries)
        except ConfigError as error:
            return error.message
        except sqlite3.Error as error:
            if may_pass(error):
                return name_of(error)
            self._lost(len(entries), name_of(error))
        except (OverflowError, ValueError) as error:
            # A gateway may count to 2**64, a column to 2**63: such a row is lost, and it alone.
            if len(entries) == 1:
                self._lost(1, type(error).__name__)
            else:
                for entry in entries:
                    self._keep([entry])
        return ""

    def _write_down(self, db: sqlite3.Connection, entries: list[_Entry]) -> None:
        outcomes = [entry.outcome for entry in entries if entry.outcome is not None]
        holds = [entry.hold for entry in entries if entry.hold is not None]
        db.executemany("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", holds)
        db.executemany(_INSERT, map(_row, outcomes))
        db.executemany(leg_rows.INSERT, [row for entry in entries for row in entry.legs])
        settled = [(outcome.request_id,) for outcome in outcomes]
        db.executemany("DELETE FROM holds WHERE request_id = ?", settled)
        signed = [entry.receipt for entry in entries if entry.receipt is not None]
        receipts.append(db, self.key, signed)
        spool.append(db, [row for entry in entries for row in entry.spooled])

    def _lost(self, rows: int, why: str) -> None:
        log.error("the ledger lost %d rows (%s): %s", rows, why, self.path)
        self._on_loss(rows)


def read_outcomes(path: Path | None = None, *, limit: int = 100) -> tuple[Outcome, ...]:
    """The latest outcomes, newest first. Empty when there is no ledger yet."""
    path = ledger_path() if path is None else path
    if not path.exists():
        return ()
    with open_ledger(path) as db:
        rows = db.execute("SELECT * FROM outcomes ORDER BY at_unix_s DESC LIMIT ?", (limit,))
        return tuple(_outcome(row) for row in rows)


def ledger_path() -> Path:
    """Where the ledger lies."""
    return home() / "ledger.sqlite"


def check_ledger(path: Path) -> None:
    """Look through the ledger and its key. Raises `ConfigError` where one of them is damaged."""
    check_database(path, _WHAT)
    if (path.parent / receipts.KEY_FILE).exists():
        receipts.device_key(path.parent)


@contextlib.contextmanager
def open_ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """The ledger's file, made or brought up to date where need be.

    Raises `ConfigError`, also for what fails while it is open.
    """
    with (
        mapped(path, _WHAT),
        contextlib.closing(open_database(path, _SCHEMAS, _WHAT)) as db,
    ):
        yield db


def _row(outcome: Outcome) -> _Row:
    return (
        outcome.request_id,
        outcome.at_unix_s,
        outcome.route.value,
        ",".join(outcome.reasons),
        outcome.status.value,
        outcome.privacy_class.value,
        outcome.model,
        outcome.usage.prompt_tokens,
        outcome.usage.completion_tokens,
        outcome.usage.cached_tokens,
        outcome.ttft_ms,
        outcome.tpot_ms,
        outcome.total_ms,
        outcome.price_micro_usd,
        outcome.saved_micro_usd,
        outcome.error_kind,
        outcome.expected_quality,
    )


def _outcome(row: tuple[Any, ...]) -> Outcome:
    (rid, at, route, reasons, status, privacy, model, prompt, completion, cached, *rest) = row
    ttft, tpot, total, price, saved, error, expected = rest
    return Outcome(
        request_id=rid,
        at_unix_s=at,
        route=Target(route),
        reasons=tuple(Reason(reason) for reason in reasons.split(",") if reason),
        status=Status(status),
        privacy_class=PrivacyClass(privacy),
        model=model,
        usage=Usage(prompt, completion, cached),
        ttft_ms=ttft,
        tpot_ms=tpot,
        total_ms=total,
        price_micro_usd=price,
        saved_micro_usd=saved,
        error_kind=error,
        expected_quality=expected,
    )
