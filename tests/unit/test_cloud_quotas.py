"""Quotas are kept exactly, however many requests and gateways there are at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from cloud_ledgers import PHONE, Clock, open_ledger, opening, rows, written
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger import leases
from isthmus.cloud.ledger.base import Acknowledged
from isthmus.cloud.ledger.quotas import QuotaConfig
from isthmus.cloud.ledger.sql import SqlLedger
from isthmus.core.decision import Status
from isthmus.core.errors import QuotaExceeded
from isthmus.core.money import Usage


async def accepted(ledger: SqlLedger, ids: range, **asked: Any) -> int:
    """How many of these requests, all at once, are let in."""
    results = await asyncio.gather(
        *(ledger.open(opening(f"r{i}", **asked)) for i in ids), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, BaseException)]
    assert all(isinstance(one, QuotaExceeded) for one in refused)
    return len(results) - len(refused)


@pytest.mark.parametrize(
    ("limits", "fit"),
    [
        ({"requests_per_minute": 5}, 5),
        ({"requests_per_month": 0}, 0),
        ({"tokens_per_day": 330}, 3),  # 110 tokens each at most
        ({"usd_per_day": "0.000650"}, 3),  # 210 micro-dollars each at most
        ({"streams": 4}, 4),
        ({"streams": 4, "requests_per_day": 2}, 2),
    ],
)
@pytest.mark.parametrize("subject", ["tenant", "device"])
async def test_just_as_many_are_let_in_as_fit(
    ledger_url: sa.URL, subject: str, limits: dict[str, Any], fit: int
) -> None:
    async with (
        open_ledger(ledger_url, quotas={subject: limits}) as first,
        open_ledger(ledger_url, quotas={subject: limits}) as second,
    ):
        let_in = await asyncio.gather(
            accepted(first, range(10), prompt=10, most=100),
            accepted(second, range(10, 20), prompt=10, most=100),
        )
        with pytest.raises(QuotaExceeded) as refused:
            await first.open(opening("late", prompt=10, most=100))
    assert sum(let_in) == fit
    assert refused.value.field is not None
    assert refused.value.field.startswith(f"{subject}.")
    assert refused.value.retry_after_s > 0
    assert len(rows(ledger_url)) == fit


async def test_a_tenants_devices_share_its_quota_and_each_has_its_own(ledger_url: sa.URL) -> None:
    quotas = {"tenant": {"requests_per_day": 3}, "device": {"requests_per_day": 2}}
    a, b, other = Caller("acme", "a"), Caller("acme", "b"), Caller("else", "a")
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        assert await accepted(ledger, range(5), caller=a) == 2
        assert await accepted(ledger, range(5), caller=b) == 1
        assert await accepted(ledger, range(5), caller=other) == 2


async def test_a_tenants_own_limits_come_before_those_of_all(ledger_url: sa.URL) -> None:
    quotas = {
        "device": {"requests_per_day": 1, "streams": 3},
        "tenants": {"acme": {"device": {"requests_per_day": 4}}},
    }
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        assert await accepted(ledger, range(6)) == 3  # streams are still those of all
        assert await accepted(ledger, range(6), caller=Caller("else", "a")) == 1


async def test_what_was_reserved_and_not_used_is_given_back(ledger_url: sa.URL) -> None:
    quotas = {"device": {"tokens_per_day": 122, "streams": 1}}
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        account = await ledger.open(opening("r1", prompt=10, most=100))
        assert await accepted(ledger, range(2, 4), prompt=5, most=5) == 0
        await account.settle(Usage(10, 90), Status.OK)
        assert await accepted(ledger, range(4, 6), prompt=10, most=10) == 1
        with pytest.raises(QuotaExceeded) as refused:
            await ledger.open(opening("r9", prompt=1, most=1))
        assert refused.value.field == "device.streams"


async def test_a_period_ends_and_tells_when(ledger_url: sa.URL) -> None:
    clock = Clock()
    clock.ms = int(datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC).timestamp() * 1000)
    for period, wait_s in (("minute", 30), ("day", 30), ("month", 30)):
        quotas = {"tenant": {f"requests_per_{period}": 1}}
        tenant = Caller(period, "a")
        async with open_ledger(ledger_url, quotas=quotas, now_ms=clock) as ledger:
            assert await accepted(ledger, range(1), caller=tenant) == 1
            with pytest.raises(QuotaExceeded) as refused:
                await ledger.open(opening("late", caller=tenant))
            assert refused.value.retry_after_s == wait_s
            clock.ms += wait_s * 1000
            assert await accepted(ledger, range(10, 12), caller=tenant) == 1
            clock.ms -= wait_s * 1000


async def test_going_on_with_a_request_is_no_new_one(ledger_url: sa.URL) -> None:
    quotas = {"device": {"requests_per_day": 1, "streams": 1, "tokens_per_day": 200}}
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        await ledger.open(opening(prompt=10, most=100))
        account = await ledger.open(opening(prompt=10, most=90, received=10))
        await account.settle(Usage(10, 50), Status.CANCELLED)
        again = await ledger.open(opening(prompt=10, most=50, received=50))
        assert await again.settle(Usage(10, 80), Status.OK) == 170


async def test_going_on_with_many_requests_at_once_takes_streams_as_new_ones_do(
    ledger_url: sa.URL,
) -> None:
    async with open_ledger(ledger_url, quotas={"device": {"streams": 1}}) as ledger:
        for number in range(3):
            account = await ledger.open(opening(f"r{number}"))
            await account.settle(Usage(10, 5), Status.CANCELLED)
        assert await accepted(ledger, range(3), received=5) == 1


async def test_a_device_cannot_get_its_quota_back_by_asking_again(ledger_url: sa.URL) -> None:
    quotas = {"device": {"tokens_per_day": 300}}
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        account = await ledger.open(opening(prompt=10, most=200))
        await account.settle(Usage(10, 200), Status.OK)
        again = await ledger.open(opening(prompt=10, most=200))
        await again.settle(Usage(10, 0), Status.CANCELLED)
        assert await accepted(ledger, range(2, 4), prompt=10, most=100) == 0


async def test_counts_are_right_when_quotas_come_later(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        for number in range(3):
            account = await ledger.open(opening(f"r{number}"))
            await account.settle(Usage(10, 10), Status.OK)
    quotas = {"device": {"requests_per_day": 5}, "tenant": {"tokens_per_day": 10_000}}
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        assert await accepted(ledger, range(10, 20)) == 2


async def test_a_dead_gateways_streams_do_not_count_for_ever(
    ledger_url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", -1.0)
    quotas = {"device": {"streams": 1, "usd_per_day": "0.003"}}
    async with open_ledger(ledger_url, quotas=quotas) as dead:
        account = await dead.open(opening("r1"))
        account.wrote(Usage(10, 5))
        await written(dead)
        monkeypatch.undo()
        async with open_ledger(ledger_url, quotas=quotas) as ledger:
            # Reaped as it started: not a stream any more, and charged as far as it came.
            assert await accepted(ledger, range(2, 4)) == 1
            (row, *_) = rows(ledger_url)
            assert (row["status"], row["charge_micro_usd"]) == ("abandoned", 20)
            # It was dead for a while only, and is not heard any more.
            await account.settle(Usage(10, 500), Status.OK)
            assert account.lost
            told = await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, 6))])
            assert told.corrected == 1
    assert rows(ledger_url)[0]["charge_micro_usd"] == 22


async def test_a_correction_counts_too(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening("r1"))
        account.wrote(Usage(10, 5))
        await written(ledger)
    quotas = {"device": {"tokens_per_day": 60, "streams": 1}}
    async with open_ledger(ledger_url, quotas=quotas) as ledger:
        await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, 30))])
        with pytest.raises(QuotaExceeded) as refused:
            await ledger.open(opening("r2", prompt=10, most=11))
        assert refused.value.field == "device.tokens_per_day"
        await ledger.open(opening("r2", prompt=10, most=10))


def test_limits_that_are_not_set_are_those_of_all() -> None:
    config = QuotaConfig.model_validate(
        {"tenant": {"streams": 5}, "tenants": {"a": {"tenant": {"requests_per_day": 1}}}}
    )
    of_tenant, of_device = config.of("a")
    assert (of_tenant.streams, of_tenant.requests_per_day) == (5, 1)
    assert of_device == config.device
