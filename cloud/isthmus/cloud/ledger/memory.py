"""A ledger that forgets: for tests, and for a gateway whose ledger is off."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import (
    MAX_ATTEMPTS,
    Account,
    Acknowledged,
    LedgerState,
    Opening,
    Reconciled,
)
from isthmus.core.decision import Status
from isthmus.core.errors import AlreadyExists
from isthmus.core.money import Price, Usage

_KEPT: Final = 10_000


class MemoryAccount:
    """One request of a `MemoryLedger`."""

    behind = False

    def __init__(self, opening: Opening, price: Price) -> None:
        self.opening = opening
        self.price = price
        self.lost = False
        self.attempts = 1
        self.usage = Usage(completion_tokens=opening.received_tokens)
        self.status: Status | None = None

    def wrote(self, usage: Usage) -> None:
        """Note it."""
        if self.status is None and not self.lost:
            self.usage = usage

    async def catch_up(self) -> None:
        """Memory is never behind."""

    async def settle(self, usage: Usage, status: Status) -> int:
        """Note it, the first time."""
        if self.status is None and not self.lost:
            self.usage = shown(usage, status)
            self.status = status
        return self.price.cost_micro_usd(self.usage)


class MemoryLedger:
    """Knows the last requests for as long as the process lives; no quotas."""

    def __init__(self, price: Callable[[str], Price] = lambda model: Price()) -> None:
        self._price = price
        self.accounts: OrderedDict[tuple[str, str, str], MemoryAccount] = OrderedDict()

    async def start(self) -> None:
        """Nothing to open."""

    def open(self, opening: Opening) -> asyncio.Future[Account]:
        """An account; the former one of the same request is lost."""
        opened: asyncio.Future[Account] = asyncio.get_running_loop().create_future()
        try:
            opened.set_result(self._open(opening))
        except AlreadyExists as error:
            opened.set_exception(error)
        return opened

    def _open(self, opening: Opening) -> MemoryAccount:
        key = (opening.caller.tenant, opening.caller.device, opening.request_id)
        account = MemoryAccount(opening, self.price(opening.model))
        former = self.accounts.pop(key, None)
        if former is not None:
            self.accounts[key] = former
            refuse_another(former.opening.body_hash, opening, former.attempts)
            former.lost = True
            account.attempts = former.attempts + 1
            account.price = former.price
            account.usage = replace(former.usage, completion_tokens=opening.received_tokens)
        self.accounts[key] = account
        if len(self.accounts) > _KEPT:
            self.accounts.popitem(last=False)
        return account

    async def reconcile(self, caller: Caller, acknowledged: Sequence[Acknowledged]) -> Reconciled:
        """Nothing survives a kill here, so nothing can be brought right."""
        return Reconciled(unknown=len(acknowledged))

    def state(self) -> LedgerState:
        """Never behind."""
        running = [one for one in list(self.accounts.values()) if one.status is None]
        return LedgerState(open_accounts=len(running))

    def price(self, model: str) -> Price:
        """What the function given says."""
        return self._price(model)

    async def close(self) -> None:
        """Nothing to close."""


def shown(usage: Usage, status: Status) -> Usage:
    """What is charged of an answer that ended so: without a first token a failure is free."""
    return usage if usage.completion_tokens or status is Status.OK else Usage()


def refuse_another(body_hash: bytes, opening: Opening, attempts: int) -> None:
    """Raise `AlreadyExists` unless `opening` may take over the entry that has this hash."""
    if body_hash != opening.body_hash:
        raise AlreadyExists(
            "another request of this device has this request_id; ids are used once",
            field="request_id",
        )
    if attempts >= MAX_ATTEMPTS:
        raise AlreadyExists(
            f"this request was attempted {attempts} times; ask it anew under another id",
            field="request_id",
        )
