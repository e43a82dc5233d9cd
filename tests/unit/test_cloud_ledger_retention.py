"""Requests of long ago are kept as sums: usage stays the same, and what is younger stays whole."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from cloud_ledgers import Clock, open_ledger, opening, rows
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger import retention, sql
from isthmus.cloud.ledger.config import LedgerConfig
from isthmus.cloud.ledger.database import make_engine
from isthmus.cloud.ledger.sql import SqlLedger
from isthmus.cloud.ledger.usage import Dimension, UsageRow, Wanted, usage
from isthmus.core.decision import Status
from isthmus.core.money import Usage

DAY_MS = 86_400_000
KEEP_DAYS = 100


def used(url: sa.URL, *by: Dimension) -> list[UsageRow]:
    engine = make_engine(url, timeout_s=20, writes=False)
    try:
        return usage(engine, by, Wanted())
    finally:
        engine.dispose()


async def answer(ledger: SqlLedger, device: str, name: str, tokens: int) -> None:
    account = await ledger.open(opening(name, caller=Caller("acme", device)))
    await account.settle(Usage(10, tokens, 4), Status.OK)


@pytest.fixture
def _handful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two requests, and at once."""
    monkeypatch.setattr(retention, "AT_A_TIME", 2)
    monkeypatch.setattr(sql, "AT_A_TIME", 2)
    monkeypatch.setattr(sql, "_FOLD_PAUSE_S", 0.0)


@pytest.mark.usefixtures("_handful")
async def test_what_is_old_becomes_sums_and_usage_stays_the_same(ledger_url: sa.URL) -> None:
    clock = Clock()
    async with open_ledger(ledger_url, now_ms=clock, keep_days=KEEP_DAYS) as ledger:
        for day in range(3):
            for device in ("a", "b"):
                for number in range(3):
                    await answer(ledger, device, f"{day}-{number}", 10 * number + 1)
            clock.ms += DAY_MS
        before = used(ledger_url, *Dimension)
        assert await ledger.fold() == 0
        clock.ms += (KEEP_DAYS - 2) * DAY_MS
        # Of the three days the last is one of the days that are kept.
        assert await ledger.fold() == 12
        assert used(ledger_url, *Dimension) == before
        assert len(rows(ledger_url)) == 6
        clock.ms += DAY_MS
        assert await ledger.fold() == 6
        assert used(ledger_url, *Dimension) == before
        assert rows(ledger_url) == []
    (whole,) = used(ledger_url)
    assert (whole.requests, whole.charge_micro_usd) == (18, 18 * 10 + 2 * 6 * (1 + 11 + 21))


@pytest.mark.usefixtures("_handful")
async def test_gateways_that_sum_up_together_count_nothing_twice(ledger_url: sa.URL) -> None:
    clock = Clock()
    async with (
        open_ledger(ledger_url, now_ms=clock, keep_days=KEEP_DAYS) as one,
        open_ledger(ledger_url, now_ms=clock, keep_days=KEEP_DAYS) as other,
    ):
        await asyncio.gather(*(answer(one, "a", f"r{number}", number) for number in range(30)))
        before = used(ledger_url, *Dimension)
        clock.ms += KEEP_DAYS * DAY_MS
        await asyncio.gather(one.fold(), other.fold())
        assert await one.fold() == 0
    assert used(ledger_url, *Dimension) == before
    assert rows(ledger_url) == []


async def test_a_request_that_is_open_stays_and_one_that_was_cut_off_is_told(
    ledger_url: sa.URL,
) -> None:
    clock = Clock()
    async with open_ledger(ledger_url, now_ms=clock, keep_days=KEEP_DAYS) as ledger:
        await ledger.open(opening("open"))
        await ledger.open(opening("cut off"))
        engine = make_engine(ledger_url, timeout_s=20)
        with engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE requests SET status = 'abandoned' WHERE request_id = 'cut off'")
            )
        engine.dispose()
        clock.ms += KEEP_DAYS * DAY_MS
        assert await ledger.fold() == 1
    assert [row["request_id"] for row in rows(ledger_url)] == ["open"]
    (told,) = used(ledger_url)
    assert (told.requests, told.open_requests, told.cut_off_requests) == (2, 1, 1)


async def test_a_gateway_does_it_by_itself_from_its_start(ledger_url: sa.URL) -> None:
    clock = Clock()
    async with open_ledger(ledger_url, now_ms=clock) as ledger:
        await answer(ledger, "a", "r", 1)
    clock.ms += 400 * DAY_MS
    async with open_ledger(ledger_url, now_ms=clock) as ledger:
        while rows(ledger_url):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    assert used(ledger_url)[0].requests == 1


def test_requests_are_kept_longer_than_quotas_look_back() -> None:
    assert LedgerConfig().keep_days == 400
    with pytest.raises(ValueError, match="keep_days"):
        LedgerConfig(keep_days=31)
