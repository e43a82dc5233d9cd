"""The ledger's outcomes as columns of numbers, for figures over many of them.

Rows are read once, and after that only those that are new.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Reason, Status, Target
from isthmus.edge.ledger import Ledger

Floats = npt.NDArray[np.float64]
Chosen = npt.NDArray[np.bool_]

CLASSES: Final = tuple(PrivacyClass)
_STATUSES: Final = tuple(Status)
_STAYED: Final = (
    Reason.PRIVACY_LOCAL_ONLY,
    Reason.PRIVACY_SCAN_FAILED,
    Reason.PRIVACY_NOT_REDACTABLE,
)


def _has(*reasons: Reason) -> str:
    listed = " + ".join(f"instr(',' || reasons || ',', ',{reason.value},')" for reason in reasons)
    return f"({listed}) > 0"


def _code(column: str, values: tuple[StrEnum, ...]) -> str:
    cases = " ".join(f"WHEN '{one.value}' THEN {code}" for code, one in enumerate(values))
    return f"CASE {column} {cases} ELSE -1 END"


_COLUMNS: Final = {
    "at_unix_s": "at_unix_s",
    "cloud": f"route = '{Target.CLOUD.value}'",
    "status": _code("status", _STATUSES),
    "privacy_class": _code("privacy_class", CLASSES),
    "stayed": _has(*_STAYED),
    "redacted": _has(Reason.PRIVACY_REDACTED),
    "blocked": _has(Reason.PRIVACY_BLOCKED),
    "shadow": _has(Reason.SHADOW),
    "ttft_ms": "ttft_ms",
    "tpot_ms": "tpot_ms",
    "total_ms": "total_ms",
    "paid_micro_usd": "price_micro_usd",
    "saved_micro_usd": "saved_micro_usd",
    "completion_tokens": "completion_tokens",
}
"""Each column's name and what SQLite makes it of."""
_AT: Final = {name: place for place, name in enumerate(_COLUMNS)}
_ROWS: Final = (
    f"SELECT rowid, {', '.join(_COLUMNS.values())} FROM outcomes "
    "WHERE rowid > ? AND at_unix_s >= ? ORDER BY rowid LIMIT ?"
)
_FIRST: Final = (
    "SELECT coalesce((SELECT min(rowid) FROM outcomes WHERE at_unix_s >= ?), "
    "(SELECT max(rowid) + 1 FROM outcomes), 1)"
)
_ERROR: Final = (
    "SELECT at_unix_s, route, status, error_kind FROM outcomes "
    "WHERE rowid > ? AND at_unix_s >= ? AND error_kind != '' ORDER BY rowid DESC LIMIT 1"
)
_TIME: Final = "SELECT at_unix_s FROM outcomes WHERE rowid = ?"
_AT_ONCE: Final = 10_000
"""Rows that are read in one piece: what stands between two chances for others to run."""
_KEPT_S: Final = 31 * 86_400
"""What is older is not kept."""


@dataclass(frozen=True, slots=True)
class Table:
    """Some outcomes: [outcomes, columns] float64. What is not known is not a number."""

    rows: Floats

    @classmethod
    def empty(cls) -> Table:
        """No outcome."""
        return cls(np.empty((0, len(_COLUMNS))))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> Floats:
        """A column by its name."""
        return self.rows[:, _AT[column]]

    def has(self, column: str) -> Chosen:
        """Where a column that says yes or no says yes."""
        return np.equal(self[column], 1)

    def ended(self, status: Status) -> Chosen:
        """Those that ended so."""
        return np.equal(self["status"], _STATUSES.index(status))

    def of(self, chosen: Chosen) -> Table:
        """Those alone."""
        return self if chosen.all() else Table(self.rows[chosen])


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last, also where the other tier made it good."""

    at_unix_s: float
    route: str
    status: str
    kind: str


class Outcomes:
    """The latest outcomes of a ledger. Blocking; for one thread at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._file = f"{ledger.path.resolve().as_uri()}?mode=ro"
        self._held = Table.empty()
        self._last = 0
        self._last_at: tuple[float] | None = None
        self._since_unix_s = np.inf
        self.last_error: LastError | None = None
        """Of what was read so far."""

    def since(self, unix_s: float) -> Table:
        """All that arrived from `unix_s` on, in the last 31 days. Raises `sqlite3.Error`."""
        with contextlib.closing(sqlite3.connect(self._file, uri=True)) as db:
            # In a ledger that was begun anew another outcome has the last one's number, or none.
            anew = self._time_of_last(db) != self._last_at
            if unix_s < self._since_unix_s or anew:
                (first,) = db.execute(_FIRST, (unix_s,)).fetchone()
                self._held, self._last, self._since_unix_s = Table.empty(), first - 1, unix_s
            self._read(db)
            self._last_at = self._time_of_last(db)
        old = self._held["at_unix_s"] < time.time() - _KEPT_S
        if old.any():
            self._held = self._held.of(~old)
        return self._held.of(self._held["at_unix_s"] >= unix_s)

    def _time_of_last(self, db: sqlite3.Connection) -> tuple[float] | None:
        time_of_last: tuple[float] | None = db.execute(_TIME, (self._last,)).fetchone()
        return time_of_last

    def _read(self, db: sqlite3.Connection) -> None:
        read = [self._held.rows]
        error = db.execute(_ERROR, (self._last, self._since_unix_s)).fetchone()
        if error is not None:
            self.last_error = LastError(*error)
        while True:
            values = (self._last, self._since_unix_s, _AT_ONCE)
            rows = db.execute(_ROWS, values).fetchall()
            if rows:
                table = np.array(rows, dtype=np.float64)
                self._last = rows[-1][0]
                read.append(table[:, 1:])
            if len(rows) < _AT_ONCE:
                break
        if len(read) > 1:
            self._held = Table(np.concatenate(read))
