"""Whatever is killed between any two writes, nobody is charged twice or by more than 32 tokens.

Gateways share a ledger; a device has one request answered by them. What a gateway had queued when
it is killed is lost; what the device was shown is not.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud_ledgers import BOOK, PHONE, opening, rows
from isthmus.cloud.ledger.account import SqlAccount
from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS, Acknowledged
from isthmus.cloud.ledger.database import make_engine, migrate, sqlite_url
from isthmus.cloud.ledger.sql import SqlLedger
from isthmus.cloud.ledger.writer import Change, Writer
from isthmus.core.decision import Status
from isthmus.core.money import Usage

PRICE = BOOK.price("m")
PROMPT = 10


class StepWriter(Writer):
    """Writes when it is told to, in the caller's thread: a kill may come between any two."""

    def __init__(self, ledger: SqlLedger, engine: sa.Engine) -> None:
        self.pending: dict[object, Change] = {}
        self._ledger, self._db = ledger, engine
        self._missed_since_s = self._trying_since_s = None
        self._urgent, self._soon, self._batch_size, self.lag_s = {}, {}, 0, 0.0

    def put(self, change: Change, *, urgent: bool) -> None:
        self.pending[change.slot] = change

    def step(self, changes: int) -> None:
        """Write the oldest of what waits, as one transaction."""
        slots = list(self.pending)[:changes]
        batch = [self.pending.pop(slot) for slot in slots]
        with self._db.begin() as connection:
            committed = self._ledger._write(connection, batch)
        committed()
        for change in batch:
            change.done(change.result, change.error)


@dataclass
class Attempt:
    """A gateway that answers the request."""

    ledger: SqlLedger
    writer: StepWriter
    account: SqlAccount
    shown: int
    ended: bool = False


class Kills(RuleBasedStateMachine):
    """One request, by whichever gateway lives."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = sqlite_url(Path(self.folder.name) / "ledger.db")
        self.engine = make_engine(self.url)
        self.loop = asyncio.new_event_loop()
        self.heard = 0
        self.attempts = 0
        self.whole = False
        self.attempt: Attempt | None = None
        self.former: Attempt | None = None

    @initialize()
    def schema(self) -> None:
        migrate(self.engine)

    @precondition(lambda self: not self.whole and self.attempts < 16)
    @rule(was_killed=st.booleans())
    def ask(self, was_killed: bool) -> None:
        """The device asks (again), another gateway; the former was killed, or is slow."""
        self.former = None if was_killed else self.attempt

        async def opened() -> Attempt:
            ledger = SqlLedger(self.engine, prices=BOOK, wait_s=5)
            ledger._writer = writer = StepWriter(ledger, self.engine)
            asked = ledger.open(opening(received=self.heard, prompt=PROMPT))
            await asyncio.sleep(0)
            writer.step(1)
            return Attempt(ledger, writer, await asked, self.heard)

        self.attempt = self.loop.run_until_complete(opened())
        self.attempts += 1

    @precondition(lambda self: self.attempt is not None and not self.attempt.ended)
    @rule(tokens=st.integers(1, 64), lost=st.booleans())
    def show(self, tokens: int, lost: bool) -> None:
        """A message goes out, once the ledger allows it; it arrives, or the gateway dies first."""
        attempt = self.attempt
        assert attempt is not None
        if attempt.account.lost:
            return
        attempt.account.wrote(Usage(PROMPT, attempt.shown + tokens))

        async def allowed() -> None:
            waiting = asyncio.create_task(attempt.account.catch_up())
            await asyncio.sleep(0)
            if not waiting.done():
                attempt.writer.step(len(attempt.writer.pending))
            await waiting

        if attempt.account.behind:
            self.loop.run_until_complete(allowed())
        if attempt.account.lost:
            return
        if lost:
            self.attempt = None
            return
        attempt.shown += tokens
        self.heard = attempt.shown

    @precondition(lambda self: self.former is not None)
    @rule(tokens=st.integers(1, 500))
    def say_something_late(self, tokens: int) -> None:
        """A gateway whose request was taken over writes on: nobody hears it."""
        former = self.former
        assert former is not None
        before = rows(self.url)
        former.account.wrote(Usage(PROMPT, former.shown + tokens))
        late = former.account.settle(Usage(PROMPT, former.shown + tokens), Status.OK)

        async def settled() -> None:
            waiting = asyncio.create_task(late)
            await asyncio.sleep(0)
            if former.writer.pending:
                former.writer.step(len(former.writer.pending))
            await waiting

        self.loop.run_until_complete(settled())
        assert former.account.lost or former.ended
        assert rows(self.url) == before

    @precondition(lambda self: self.attempt is not None and self.attempt.writer.pending)
    @rule(changes=st.integers(1, 3))
    def write(self, changes: int) -> None:
        assert self.attempt is not None
        self.attempt.writer.step(changes)

    @rule()
    def kill(self) -> None:
        """What was queued is gone."""
        self.attempt = None

    @precondition(lambda self: self.attempt is not None and not self.attempt.ended)
    @rule(written=st.booleans(), status=st.sampled_from([Status.OK, Status.CANCELLED]))
    def end(self, written: bool, status: Status) -> None:
        attempt = self.attempt
        assert attempt is not None
        if attempt.account.lost:
            return
        attempt.ended = True
        self.whole = status is Status.OK

        async def settled() -> None:
            waiting = asyncio.create_task(
                attempt.account.settle(Usage(PROMPT, attempt.shown), status)
            )
            await asyncio.sleep(0)
            if written:
                attempt.writer.step(len(attempt.writer.pending))
                free = status is not Status.OK and attempt.shown == 0
                assert await waiting == (0 if free else PROMPT + 2 * attempt.shown)
            else:
                waiting.cancel()

        self.loop.run_until_complete(settled())

    @precondition(lambda self: self.attempt is None and self.attempts)
    @rule()
    def acknowledge(self) -> None:
        """The device tells what it received, and that is what it pays."""

        async def told() -> None:
            ledger = SqlLedger(self.engine, prices=BOOK, wait_s=5)
            ledger._writer = writer = StepWriter(ledger, self.engine)
            received = Usage(PROMPT if self.heard else 0, self.heard)
            asked = asyncio.create_task(ledger.reconcile(PHONE, [Acknowledged("r1", received)]))
            await asyncio.sleep(0)
            writer.step(1)
            assert (await asked).settled == 1

        self.loop.run_until_complete(told())
        self.attempts += 1  # it takes the row from whoever had it, as an attempt does
        self.former = None
        (row,) = rows(self.url)
        assert row["completion_tokens"] == self.heard
        begun = self.heard or row["status"] == Status.OK
        assert row["charge_micro_usd"] == (PROMPT + 2 * self.heard if begun else 0)

    @invariant()
    def nobody_is_charged_twice_or_by_much(self) -> None:
        if not self.attempts:
            return
        (row,) = rows(self.url)
        assert abs(row["completion_tokens"] - self.heard) <= CHECKPOINT_TOKENS
        usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
        assert row["prompt_tokens"] in {0, PROMPT}
        assert row["charge_micro_usd"] == PRICE.cost_micro_usd(usage)

    def teardown(self) -> None:
        self.loop.close()
        self.engine.dispose()
        self.folder.cleanup()


TestKills = Kills.TestCase
TestKills.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
