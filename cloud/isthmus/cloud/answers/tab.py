"""What one attempt at an answer is charged: opened beside the work, counted as it is shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from isthmus.cloud.ledger.base import Account, Ledger, Opening
from isthmus.core.decision import Status
from isthmus.core.errors import IsthmusError, Unavailable
from isthmus.core.money import Usage


class Tab:
    """The account of one attempt. Opening it begins at once, beside the backend's work."""

    def __init__(self, ledger: Ledger, opening: Opening) -> None:
        self._opening = ledger.open(opening)
        self._usage = Usage(0, opening.received_tokens)
        """Of the whole answer, as far as its device has seen it."""
        self._whole: Usage | None = None
        """Of the whole answer, once it is written."""
        self._settled = False
        self._giving_up: asyncio.Task[None] | None = None
        self.account: Account | None = None

    def give_up(self) -> None:
        """Nothing came of the attempt, not even its beginning."""
        self._giving_up = asyncio.create_task(self.settle(Status.CANCELLED))

    def check(self) -> None:
        """Raise what opening it raised, if it failed already."""
        if self._opening.done():
            self._opening.result()

    async def opened(self) -> Account:
        """The account, once it is open. Raises `QuotaExceeded`, `AlreadyExists`, `Unavailable`."""
        if self.account is None:
            self.account = await asyncio.shield(self._opening)
        return self.account

    def started(self, prompt: Usage) -> None:
        """The prompt is computed."""
        self._usage = replace(prompt, completion_tokens=self._usage.completion_tokens)
        if self.account is not None:
            self.account.wrote(self._usage)

    async def showing(self, tokens: int) -> None:
        """The answer's first `tokens` are about to be seen. Raises `Unavailable` when they may not.

        Cheap, but where the ledger lags more than it may.
        """
        if self._settled:
            return
        account = await self.opened()
        if account.lost:
            raise Unavailable("another gateway has taken this request over")
        if tokens > self._usage.completion_tokens:
            usage = self._usage
            self._usage = Usage(usage.prompt_tokens, tokens, usage.cached_tokens)
            account.wrote(self._usage)
        if account.behind:
            await account.catch_up()

    def complete(self, whole: Usage) -> None:
        """The answer is written to its end: it is charged whole, and can be read again."""
        self._whole = whole

    async def settle(self, status: Status) -> None:
        """Close it. The first time counts."""
        if self._settled:
            return
        self._settled = True
        try:
            account = await self._opening
        except IsthmusError:
            return  # refused: the work has heard of it, or ended before it could
        whole = self._whole if status is Status.OK else None
        await account.settle(self._usage if whole is None else whole, status)
