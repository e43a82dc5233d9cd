"""The ledger in a database; several gateways may share one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger import leases
from isthmus.cloud.ledger.account import SqlAccount
from isthmus.cloud.ledger.base import (
    Account,
    Acknowledged,
    LedgerState,
    Observer,
    Opening,
    Reconciled,
)
from isthmus.cloud.ledger.changes import Call, Checkpoint, Devices, Open, Settle, write
from isthmus.cloud.ledger.counters import Count, Counters
from isthmus.cloud.ledger.database import COME_BACK_S, migrate
from isthmus.cloud.ledger.entries import Key, Lease
from isthmus.cloud.ledger.late import LateAccount, LateBook, LateEntry, bring_in
from isthmus.cloud.ledger.memory import shown
from isthmus.cloud.ledger.prices import PriceBook
from isthmus.cloud.ledger.quotas import QuotaConfig
from isthmus.cloud.ledger.reconcile import reconcile_rows
from isthmus.cloud.ledger.retention import AT_A_TIME, first_kept_day, fold_old
from isthmus.cloud.ledger.writer import Change, Writer
from isthmus.core.decision import Status
from isthmus.core.errors import InvalidRequest, IsthmusError, QuotaExceeded, Unavailable
from isthmus.core.money import Price, Usage

_log = logging.getLogger(__name__)

_START_S: Final = 30.0
_GLANCE_S: Final = 0.05
"""How long a request waits for a database that has kept others waiting in vain."""

_FOLD_EVERY_S: Final = 3600.0
_FOLD_PAUSE_S: Final = 0.05
"""Between two handfuls, for those who wait for the database."""


class SqlLedger:
    """Every change goes through one thread; `wait_s` bounds how long anybody waits for it."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        prices: PriceBook | None = None,
        quotas: QuotaConfig | None = None,
        observer: Observer | None = None,
        wait_s: float = 2.0,
        late_dir: Path | None = None,
        keep_days: int = 400,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.wait_s = wait_s
        self.gateway: Final = f"{socket.gethostname()}-{secrets.token_hex(6)}"
        """Names this gateway in the database, this run of it."""
        self._engine = engine
        self._late = None if late_dir is None else LateBook(late_dir, self.gateway)
        self._prices = prices or PriceBook()
        self._counters = Counters(quotas or QuotaConfig())
        self._observer = observer
        self._keep_days = keep_days
        self._now_ms = now_ms
        self._accounts: dict[Key, SqlAccount] = {}
        self._writer: Writer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring the schema up to date, begin to write. Raises `ConfigError` and `Unavailable`."""
        await asyncio.to_thread(migrate, self._engine)
        self._writer = Writer(self._engine, self._write)
        await self._beat(_START_S)
        if self._late is not None:
            for path, entries in self._late.left_behind():
                changed = await self._bring_in(entries)
                _log.info("brought in %d of %d requests of %s", changed, len(entries), path.name)
        self._tasks = [
            asyncio.create_task(self._keep_beating()),
            asyncio.create_task(self._keep_folding()),
        ]

    async def close(self) -> None:
        """Write what waits, for `wait_s` at most, and close. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._writer is not None:
            with contextlib.suppress(IsthmusError):
                await self._call(lambda connection, count: leases.leave(connection, self.gateway))
            writer, self._writer = self._writer, None
            await asyncio.to_thread(writer.close, self.wait_s)
        if self._late is not None:
            self._late.close()
            self._late = None
        self._engine.dispose()

    def state(self) -> LedgerState:
        """How it is doing."""
        writer = self._writer
        if writer is None:
            return LedgerState()
        since_s = writer.away_since_s
        return LedgerState(
            open_accounts=len(self._accounts),
            waiting_changes=writer.length,
            lag_s=writer.lag_s,
            away_s=0.0 if since_s is None else time.monotonic() - since_s,
            late_requests=0 if self._late is None else len(self._late.entries),
        )

    def price(self, model: str) -> Price:
        """The present price of `model`."""
        return self._prices.price(model)

    def open(self, opening: Opening) -> asyncio.Future[Account]:
        """Reserve and lease; see `base.Ledger`."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Account] = loop.create_future()
        change = Open(
            slot=object(),
            opening=opening,
            price=self.price(opening.model),
            done=lambda lease, error: self._opened(opened, lease, error),
        )
        try:
            _check_names(opening)
            self._put(change, urgent=True)
        except IsthmusError as error:
            opened.set_exception(error)
            return opened
        # Who has waited for it in vain need not be followed by everybody else.
        away = self.state().away_s > self.wait_s
        timer = loop.call_later(
            _GLANCE_S if away else self.wait_s, self._waited_in_vain, opened, change
        )

        def over(opened: asyncio.Future[Account]) -> None:
            timer.cancel()
            change.given_up = change.given_up or opened.cancelled()

        opened.add_done_callback(over)
        return opened

    async def reconcile(self, caller: Caller, acknowledged: Sequence[Acknowledged]) -> Reconciled:
        """Compare with what devices received; see `base.Ledger`."""
        await self._ends(Key(caller.tenant, caller.device, one.request_id) for one in acknowledged)
        answering = frozenset(self._accounts)
        result: Reconciled = await self._call(
            lambda connection, count: reconcile_rows(
                connection, count, caller, acknowledged, answering
            ),
            devices=[(caller.tenant, caller.device)],
        )
        if self._observer is not None:
            self._observer.reconciled(result)
        return result

    async def _ends(self, keys: Iterable[Key]) -> None:
        """Wait a moment for the rows of what is still answered here.

        A device that has heard the end of an answer may say so before its row has it.
        """
        accounts = [self._accounts[key] for key in keys if key in self._accounts]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.wait_s):
                for account in accounts:
                    await account.closed.wait()

    # --- what an account asks -----------------------------------------------------------------

    def checkpoint(self, account: SqlAccount, usage: Usage, *, urgent: bool) -> None:
        """Write down what was shown."""
        self._put(
            Checkpoint(
                slot=("checkpoint", account),
                account=account,
                usage=usage,
                done=lambda ours, error: account.written(usage, error, ours=bool(ours)),
            ),
            urgent=urgent,
        )

    def note_late(self, account: SqlAccount, usage: Usage, status: str = "") -> bool:
        """Note in the file what the database cannot take now."""
        if self._late is None or self.state().away_s == 0.0:
            return False
        lease = account.lease
        self._late.note(
            LateEntry(
                lease.key,
                lease.owner,
                lease.epoch,
                b"",
                "",
                lease.price,
                lease.opened_ms,
                lease.owed(usage),
                status,
            )
        )
        return True

    def close_account(
        self, account: SqlAccount, usage: Usage, status: Status, done: Callable[[int], None]
    ) -> None:
        """Write down the end."""

        def closed(result: tuple[int, bool] | None, error: IsthmusError | None) -> None:
            if self._accounts.get(account.lease.key) is account:
                del self._accounts[account.lease.key]
            if self._late is not None and error is None:
                self._late.drop([account.lease.key])
            account.closed.set()
            charge, ours = result or (account.price.cost_micro_usd(usage), False)
            account.written(usage, error, ours=ours)
            if ours and self._observer is not None:
                lease = account.lease
                more = max(0, charge - lease.charged_micro_usd)
                self._observer.settled(lease.key.tenant, more)
            done(charge)

        self._put(
            Settle(
                slot=("settle", account), account=account, usage=usage, status=status, done=closed
            ),
            urgent=False,
        )

    # --- inside -------------------------------------------------------------------------------

    def _opened_late(self, book: LateBook, change: Open) -> LateAccount:
        opening = change.opening
        caller = opening.caller
        key = Key(caller.tenant, caller.device, opening.request_id)
        usage = Usage(0, opening.received_tokens)
        entry = LateEntry(
            key,
            self.gateway,
            0,
            opening.body_hash,
            opening.model,
            change.price,
            self._now_ms(),
            usage,
        )
        return LateAccount(book, entry, lambda: self._charged(key.tenant, book.entries[key]))

    def _charged(self, tenant: str, entry: LateEntry) -> None:
        if self._observer is not None:
            self._observer.settled(tenant, entry.price.cost_micro_usd(entry.usage))

    async def _bring_in(self, entries: list[LateEntry]) -> int:
        """Write down what was served while the database was away."""
        devices = sorted({entry.key[:2] for entry in entries})
        changed: int = await self._call(
            lambda connection, count: bring_in(connection, count, entries), devices=devices
        )
        return changed

    def _waited_in_vain(self, opened: asyncio.Future[Account], change: Open) -> None:
        if opened.done():
            return
        change.given_up = True
        if self._late is not None:
            opened.set_result(self._opened_late(self._late, change))
            return
        opened.set_exception(
            Unavailable(
                "the gateway's ledger is away, and nothing is given out that it cannot note; "
                "try again",
                field="ledger",
                retry_after_s=COME_BACK_S,
            )
        )

    def _opened(
        self, opened: asyncio.Future[Account], lease: Lease | None, error: IsthmusError | None
    ) -> None:
        if lease is not None:
            account = SqlAccount(self, lease)
            former = self._accounts.get(lease.key)
            if former is not None:
                former.lost = True
            self._accounts[lease.key] = account
            if opened.done():  # whoever asked has gone
                shown_before = shown(lease.base, Status.FAILED)
                self.close_account(account, shown_before, Status.FAILED, lambda charge: None)
            else:
                opened.set_result(account)
        elif error is not None and not opened.done():
            if isinstance(error, QuotaExceeded) and self._observer is not None:
                self._observer.refused(error.field or "")
            opened.set_exception(error)

    def _put(self, change: Change, *, urgent: bool) -> None:
        if self._writer is None:
            raise Unavailable("the gateway's ledger is closed", field="ledger")
        self._writer.put(change, urgent=urgent)

    async def _call(
        self,
        run: Callable[[sa.Connection, Count], Any],
        devices: Devices = (),
        wait_s: float | None = None,
    ) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Any, error: IsthmusError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        change = Call(slot=object(), run=run, devices=devices, done=done)
        self._put(change, urgent=True)
        try:
            async with asyncio.timeout(wait_s or self.wait_s):
                return await future
        except TimeoutError:
            change.given_up = True
            raise Unavailable(
                "the gateway's ledger is away; try again",
                field="ledger",
                retry_after_s=COME_BACK_S,
            ) from None

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(leases.BEAT_S)
            try:
                await self._beat()
            except IsthmusError as error:
                _log.warning("the gateway's lease was not renewed: %s", error.message)

    async def _keep_folding(self) -> None:
        while True:
            try:
                await self.fold()
            except IsthmusError as error:
                _log.warning("requests of long ago were not summed up: %s", error.message)
            await asyncio.sleep(_FOLD_EVERY_S)

    async def fold(self) -> int:
        """Keep what is older than `keep_days` as sums alone; how many requests.

        Raises `Unavailable`.
        """
        folded = 0
        while True:
            first_kept = first_kept_day(self._now_ms(), self._keep_days)
            count: int = await self._call(partial(_fold, first_kept))
            folded += count
            if count < AT_A_TIME:
                return folded
            await asyncio.sleep(_FOLD_PAUSE_S)

    async def _beat(self, wait_s: float | None = None) -> None:
        """Say that this gateway lives; settle what dead ones left, and what came late."""
        orphans = await self._call(
            lambda connection, count: leases.beat(connection, self.gateway), wait_s=wait_s
        )
        if orphans:
            closed = await self._call(
                lambda connection, count: leases.reap(connection, count, orphans),
                devices=orphans,
                wait_s=wait_s,
            )
            _log.info("settled %d requests whose gateway is gone", closed)
        if self._late is not None:
            ended = [
                entry
                for key, entry in self._late.entries.items()
                if entry.status and key not in self._accounts
            ]
            if ended:
                await self._bring_in(ended)
                self._late.drop([entry.key for entry in ended])

    def _write(self, connection: sa.Connection, changes: Sequence[Change]) -> Callable[[], None]:
        return write(
            connection,
            changes,
            counters=self._counters,
            gateway=self.gateway,
            now_ms=self._now_ms(),
        )


def _check_names(opening: Opening) -> None:
    caller = opening.caller
    if "\0" in f"{caller.tenant}{caller.device}{opening.request_id}{opening.model}":
        raise InvalidRequest("a name must not hold the character 0", field="request_id")


def _fold(first_kept: str, connection: sa.Connection, count: Count) -> int:
    return fold_old(connection, first_kept)
