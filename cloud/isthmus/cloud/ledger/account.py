"""One request being answered, as the gateway that answers it sees its row."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS
from isthmus.cloud.ledger.entries import Lease
from isthmus.cloud.ledger.memory import shown
from isthmus.core.decision import Status
from isthmus.core.errors import InternalError, IsthmusError, Unavailable
from isthmus.core.money import Price, Usage

_COME_BACK_S: Final = 1.0
"""When to ask for the rest of an answer: a database that is away may be back by then."""


class Book(Protocol):
    """What an account needs of its ledger."""

    wait_s: float

    def note_late(self, account: SqlAccount, usage: Usage, status: str = "") -> bool:
        """Note in a file what the database cannot take now; False where that is not wanted, or
        the database is there. Raises `Unavailable` where the file cannot take it.
        """
        ...

    def checkpoint(self, account: SqlAccount, usage: Usage, *, urgent: bool) -> None:
        """Write `usage` down soon; `account.written` hears of it."""
        ...

    def close_account(
        self, account: SqlAccount, usage: Usage, status: Status, done: Callable[[int], None]
    ) -> None:
        """Settle, however long it takes; `done` hears the charge."""
        ...


class SqlAccount:
    """An account whose row is in the database."""

    def __init__(self, book: Book, lease: Lease) -> None:
        self._book: Final = book
        self.lease: Final = lease
        self.lost = False
        self.closed: Final = asyncio.Event()
        """The row has its end."""
        self._began = lease.base.completion_tokens > 0
        self._usage = lease.base
        """What is shown, the message on its way included."""
        self._queued = lease.base.completion_tokens
        self._durable = lease.base.completion_tokens
        self._late = -CHECKPOINT_TOKENS
        """Tokens that were noted in a file when the database was away."""
        self._failed: IsthmusError | None = None
        self._written = asyncio.Event()
        self._charge: asyncio.Future[int] | None = None

    @property
    def price(self) -> Price:
        """What it is charged at."""
        return self.lease.price

    @property
    def behind(self) -> bool:
        """Whether a kill right now would leave more than the bound unwritten."""
        return self._usage.completion_tokens - self._durable > CHECKPOINT_TOKENS

    def wrote(self, usage: Usage) -> None:
        """Note what is shown from now on; see `base.Account`."""
        if self.lost or self._charge is not None:
            return
        before = self._usage.completion_tokens
        self._usage = self._whole(usage)
        due = usage.completion_tokens - self._queued >= CHECKPOINT_TOKENS
        if due or (usage.completion_tokens and not self._began):
            # Not all of a long message: were it never shown, that would be too much.
            self._queue(min(usage.completion_tokens, before + CHECKPOINT_TOKENS))

    async def catch_up(self) -> None:
        """Wait until the database has what was written; see `base.Account`."""
        if not self.behind or self.lost or self._is_noted():
            return
        if self._usage.completion_tokens - self._queued > CHECKPOINT_TOKENS:
            self._queue(self._usage.completion_tokens - CHECKPOINT_TOKENS)
        self._book.checkpoint(self, self._at(self._queued), urgent=True)
        try:
            async with asyncio.timeout(self._book.wait_s):
                while self.behind and not self.lost and self._failed is None:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            if self._is_noted():
                return
            raise Unavailable(
                "the gateway's ledger is away, and nothing is given out that it cannot note; "
                "try again",
                field="ledger",
                retry_after_s=_COME_BACK_S,
            ) from None
        if self._failed is not None:
            raise InternalError("the gateway's ledger could not note this answer", field="ledger")

    async def settle(self, usage: Usage, status: Status) -> int:
        """Close the row; see `base.Account`. Waits for the database a moment, and never raises.

        When it is away longer, the row is closed as soon as it is back.
        """
        if self._charge is None:
            self._charge = charge = asyncio.get_running_loop().create_future()
            self._usage = shown(self._whole(usage), status)

            def done(micro_usd: int) -> None:
                if not charge.done():
                    charge.set_result(micro_usd)

            self._book.close_account(self, self._usage, status, done)
        try:
            async with asyncio.timeout(self._book.wait_s):
                return await asyncio.shield(self._charge)
        except TimeoutError:
            with contextlib.suppress(Unavailable):
                self._book.note_late(self, self._usage, status.value)
            return self.price.cost_micro_usd(self._usage)

    def written(self, usage: Usage, error: IsthmusError | None, *, ours: bool) -> None:
        """The database has `usage`, or found the row in other hands, or refused it."""
        if error is not None:
            self._failed = error
        elif ours:
            self._durable = max(self._durable, usage.completion_tokens)
        else:
            self.lost = True
        self._written.set()

    def _whole(self, usage: Usage) -> Usage:
        """With the prompt as the first attempt counted it: a later one's holds what was received,
        too, and cannot tell exactly where that begins.
        """
        base = self.lease.base
        if not base.prompt_tokens:
            return usage
        return Usage(base.prompt_tokens, usage.completion_tokens, base.cached_tokens)

    def _is_noted(self) -> bool:
        """Whether the file holds it as near as the database should."""
        tokens = self._usage.completion_tokens
        if 0 <= tokens - self._late < CHECKPOINT_TOKENS:
            return True
        if not self._book.note_late(self, self._usage):
            return False
        self._late = tokens
        return True

    def _queue(self, completion_tokens: int) -> None:
        # The first tells that anything was shown at all: as soon as can be.
        urgent = not self._began
        self._began = True
        self._queued = completion_tokens
        self._book.checkpoint(self, self._at(completion_tokens), urgent=urgent)

    def _at(self, completion_tokens: int) -> Usage:
        return replace(self._usage, completion_tokens=completion_tokens)
