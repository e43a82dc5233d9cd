"""A thread that writes: many changes, one transaction; the event loop never waits for a disk.

While one transaction is on its way to the disk the next changes gather, so that a slow disk makes
larger transactions and not longer queues. What only notes progress waits a little for company.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from isthmus.cloud.ledger.database import as_ours, is_transient
from isthmus.core.errors import IsthmusError

_log = logging.getLogger(__name__)

_GATHER_S: Final = 0.01
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_SLOW_S: Final = 1.0
"""A database that has not answered for so long is away, for all that anybody can tell."""


@dataclass(slots=True, eq=False, kw_only=True)
class Change:
    """Something to write. A later one with the same `slot` takes the place of one that waits."""

    slot: Hashable
    done: Callable[[Any, IsthmusError | None], None]
    """Called on the event loop with what became of it."""
    result: Any = None
    error: IsthmusError | None = None
    given_up: bool = False
    """Set by whoever no longer waits; it is not written if that has not happened yet."""
    unsure: bool = False
    """It was sent, and what became of it was not heard: it may be in the database."""
    queued_s: float = field(default_factory=time.monotonic)


class Writer:
    """Hands batches of changes to `write` inside a transaction, until each is written."""

    def __init__(
        self,
        engine: sa.Engine,
        write: Callable[[sa.Connection, Sequence[Change]], Callable[[], None]],
    ) -> None:
        """`write` may run again for the same changes when a transaction fails; what it returns is
        called once the transaction is in the database.
        """
        self._engine = engine
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._connection: sa.Connection | None = None
        self._urgent: dict[Hashable, Change] = {}
        self._soon: dict[Hashable, Change] = {}
        self._closing = False
        self._close_by_s: float | None = None
        self._changed = threading.Condition()
        self._missed_since_s: float | None = None
        self._trying_since_s: float | None = None
        self.lag_s = 0.0
        """How long the oldest change of the last transaction had waited."""
        self.lost = 0
        """Changes that could not be written before the end."""
        self._batch_size = 0
        self._thread = threading.Thread(target=self._run, name="isthmus-ledger", daemon=True)
        self._thread.start()

    @property
    def away_since_s(self) -> float | None:
        """Since when (monotonic) the database has been away; None: it is there."""
        if self._missed_since_s is not None:
            return self._missed_since_s
        began_s = self._trying_since_s
        return began_s if began_s and time.monotonic() - began_s > _SLOW_S else None

    @property
    def length(self) -> int:
        """Changes that wait or are being written."""
        return len(self._urgent) + len(self._soon) + self._batch_size

    def put(self, change: Change, *, urgent: bool) -> None:
        """Write `change`: at once, or when there is company."""
        with self._changed:
            if urgent:
                self._soon.pop(change.slot, None)
                self._urgent[change.slot] = change
            elif change.slot in self._urgent:
                self._urgent[change.slot] = change
            else:
                self._soon[change.slot] = change
            if urgent or len(self._soon) == 1:
                self._changed.notify()

    def close(self, patience_s: float) -> None:
        """Write what waits, for so long at most, and end. Blocks: not for the event loop."""
        with self._changed:
            self._closing = True
            self._close_by_s = time.monotonic() + patience_s
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._urgent or self._soon or self._closing)
                self._changed.wait_for(lambda: self._urgent or self._closing, _GATHER_S)
                batch = self._take()
            if not batch:
                break
            self._commit(batch)
        self._let_go()

    def _take(self, *, everything: bool = False) -> dict[Hashable, Change]:
        """What is urgent alone, so that it is written sooner; the rest too when it has waited."""
        oldest = next(iter(self._soon.values()), None)
        waited = oldest is not None and time.monotonic() - oldest.queued_s > _GATHER_S
        batch, self._urgent = self._urgent, {}
        if everything or not batch or waited:
            batch |= self._soon
            self._soon = {}
        self._batch_size = len(batch)
        return batch

    def _commit(self, batch: dict[Hashable, Change]) -> None:
        """Write `batch` however often it takes; while the database is away it grows."""
        pause_s = _FIRST_PAUSE_S
        while True:
            batch = {slot: one for slot, one in batch.items() if not one.given_up or one.unsure}
            changes = list(batch.values())
            self._batch_size = len(batch)
            error = self._try(changes)
            if error is None:
                self._found()
                self._batch_size = 0
                self._loop.call_soon_threadsafe(_tell, changes)
                return
            if not is_transient(error):
                self._apart(changes, error)
                return
            with self._changed:
                late = self._close_by_s is not None and time.monotonic() > self._close_by_s
                if not late:
                    self._changed.wait_for(lambda: self._closing, pause_s)
                    batch |= self._take(everything=True)
                    self._batch_size = len(batch)
            if late:
                self._give_up(changes, error)
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _try(self, changes: Sequence[Change]) -> Exception | None:
        if not changes and self._missed_since_s is None:
            return None
        self._trying_since_s = time.monotonic()
        try:
            # Where nothing is left to write, to connect tells whether the database is back.
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                committed = self._write(self._connection, changes)
                for change in changes:
                    change.unsure = True
        except Exception as error:  # whatever it is, the thread lives on and the change is told
            if self._missed_since_s is None and is_transient(error):
                self._missed_since_s = self._trying_since_s
                _log.warning("%s", as_ours(error).message)
            self._let_go()
            return error
        finally:
            self._trying_since_s = None
        committed()
        now_s = time.monotonic()
        self.lag_s = max((now_s - change.queued_s for change in changes), default=0.0)
        return None

    def _let_go(self) -> None:
        """Close the connection; the next transaction opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _apart(self, changes: Sequence[Change], error: Exception) -> None:
        """One change spoils its transaction: write each in its own, and fail that one."""
        if len(changes) > 1:
            for change in changes:
                self._commit({change.slot: change})
            return
        (change,) = changes
        change.error = as_ours(error)
        self.lost += 1
        self._batch_size = 0
        _log.error("the ledger could not write a change: %s", change.error.message)
        self._loop.call_soon_threadsafe(_tell, changes)

    def _give_up(self, changes: Sequence[Change], error: Exception) -> None:
        ours = as_ours(error)
        for change in changes:
            change.error = ours
        self.lost += len(changes)
        self._batch_size = 0
        _log.error(
            "the ledger closes with %d changes unwritten (%s); what devices acknowledge will make "
            "them good",
            len(changes),
            ours.message,
        )
        self._loop.call_soon_threadsafe(_tell, changes)

    def _found(self) -> None:
        if self._missed_since_s is not None:
            away_s = time.monotonic() - self._missed_since_s
            self._missed_since_s = None
            _log.info("the ledger's database is back after %.1f s", away_s)


def _tell(changes: Sequence[Change]) -> None:
    for change in changes:
        change.done(change.result, change.error)
