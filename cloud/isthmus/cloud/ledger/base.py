"""What a ledger is: one entry a request, which is reservation, lease and charge at once.

A gateway opens an account before it shows the first token, says what it wrote as it goes, and
settles once. Whoever opens the same request again (another gateway, after this one died) takes it
over: the entry's epoch rises, and what the former owner says afterwards is not heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from isthmus.cloud.identity.base import Caller
from isthmus.core.decision import Status
from isthmus.core.money import Price, Usage

CHECKPOINT_TOKENS: Final = 32
"""So many tokens of an answer may be shown beyond what the ledger holds, and no more."""
MAX_ATTEMPTS: Final = 16
"""How often one request may be opened: what has to be written again is not charged again."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A request that is about to be answered."""

    caller: Caller
    request_id: str
    body_hash: bytes
    """Of the request without what changes from one attempt to the next."""
    model: str
    prompt_tokens: int
    """An estimate will do; it is reserved, and the first `wrote` tells the truth."""
    max_tokens: int
    """The most that the answer may still take."""
    received_tokens: int = 0
    """What the device has of this answer from earlier attempts: its acknowledgement."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a device says that it received from the cloud for one request, all attempts together."""

    request_id: str
    received: Usage
    """No tokens of the prompt: the gateway told none."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of a batch of acknowledgements; they add up to its length."""

    equal: int = 0
    """The entry said the same."""
    corrected: int = 0
    """A kill had left the entry open; it is settled now, with what the device received."""
    disputed: int = 0
    """Too far from what the gateway wrote; the nearest figure that can be true stands."""
    unknown: int = 0
    """No such request, or it is still being answered."""

    @property
    def settled(self) -> int:
        """What the ledger and the device say the same of now."""
        return self.equal + self.corrected


class Account(Protocol):
    """One request being answered. Every `usage` is of the whole answer, earlier attempts included:
    what the device received of them, and what was shown since.
    """

    @property
    def price(self) -> Price:
        """What it is charged at, whatever the price book says later."""
        ...

    @property
    def lost(self) -> bool:
        """Whether somebody else took the request over: stop writing at once."""
        ...

    @property
    def behind(self) -> bool:
        """Whether more was written than the ledger may lack: `await catch_up()` first."""
        ...

    def wrote(self, usage: Usage) -> None:
        """So much is shown from now on. Cheap: a checkpoint is queued when one is due."""
        ...

    async def catch_up(self) -> None:
        """Return when the ledger holds what was written. Raises `Unavailable` when it cannot."""
        ...

    async def settle(self, usage: Usage, status: Status) -> int:
        """Close with what was shown in all; micro-dollars charged. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerState:
    """How the ledger is doing."""

    open_accounts: int = 0
    """Reservations of requests that are being answered."""
    waiting_changes: int = 0
    """Changes that are not in the database yet."""
    lag_s: float = 0.0
    """How long the oldest change of the last transaction had waited for it."""
    away_s: float = 0.0
    """How long the database has been away."""
    late_requests: int = 0
    """Requests served meanwhile that are not in the database yet."""


class Observer(Protocol):
    """Hears what is worth counting, on the event loop."""

    def settled(self, tenant: str, micro_usd: int) -> None:
        """A request was charged so much, beyond what its earlier attempts were."""
        ...

    def refused(self, quota: str) -> None:
        """A quota refused a request."""
        ...

    def reconciled(self, result: Reconciled) -> None:
        """A batch of acknowledgements was compared."""
        ...


class Ledger(Protocol):
    """The book."""

    async def start(self) -> None:
        """Open it. Raises `ConfigError` or `Unavailable`."""
        ...

    def open(self, opening: Opening) -> asyncio.Future[Account]:
        """Reserve before the first token is shown; it begins at once, before anybody awaits it.

        It ends in `QuotaExceeded` (its field names the quota), `AlreadyExists` (another body under
        this id, or too many attempts) or `Unavailable`. Cancelled, it leaves nothing open.
        """
        ...

    async def reconcile(self, caller: Caller, acknowledged: Sequence[Acknowledged]) -> Reconciled:
        """Bring entries that a kill left behind to what the device received."""
        ...

    def state(self) -> LedgerState:
        """How it is doing; cheap, from any thread."""
        ...

    def price(self, model: str) -> Price:
        """The present price of `model`."""
        ...

    async def close(self) -> None:
        """Write what waits and close. Idempotent."""
        ...
