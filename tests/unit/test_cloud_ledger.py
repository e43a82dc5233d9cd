"""What a device is charged: once, for what it was shown, whatever happens to gateways."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from cloud_ledgers import PHONE, open_ledger, opening, rows, written
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import CHECKPOINT_TOKENS, MAX_ATTEMPTS, Acknowledged
from isthmus.cloud.ledger.metrics import LedgerMetrics
from isthmus.core.decision import Status
from isthmus.core.errors import AlreadyExists, InvalidRequest
from isthmus.core.money import Usage


async def test_an_answer_is_charged_once_for_what_was_shown(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        account.wrote(Usage(12, 5))
        assert await account.settle(Usage(12, 7, 3), Status.OK) == 12 + 14
        assert await account.settle(Usage(12, 99), Status.OK) == 12 + 14
    (row,) = rows(ledger_url)
    assert (row["status"], row["prompt_tokens"], row["cached_tokens"]) == ("ok", 12, 3)
    assert (row["completion_tokens"], row["charge_micro_usd"]) == (7, 26)


async def test_it_is_reserved_before_anything_is_shown(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        await ledger.open(opening(prompt=10, most=100))
        (row,) = rows(ledger_url)
    assert (row["status"], row["began"], row["charge_micro_usd"]) == ("open", False, 0)
    assert (row["reserved_tokens"], row["reserved_micro_usd"]) == (110, 210)


async def test_what_is_shown_is_never_more_than_32_tokens_ahead(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        for shown in range(1, 300):
            account.wrote(Usage(10, shown))
            if account.behind:
                await account.catch_up()
            (row,) = rows(ledger_url)
            assert 0 <= shown - row["completion_tokens"] <= 32


@pytest.mark.parametrize("tokens", [33, 50, 64])
async def test_a_long_message_is_noted_so_that_either_end_of_it_is_near(
    ledger_url: sa.URL, tokens: int
) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        account.wrote(Usage(10, tokens))
        await account.catch_up()
        await written(ledger)
        (row,) = rows(ledger_url)
    assert tokens - 32 <= row["completion_tokens"] <= 32


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED, Status.REFUSED])
async def test_what_ends_before_the_first_token_is_free(ledger_url: sa.URL, status: Status) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        assert await account.settle(Usage(10, 0), status) == 0
    assert rows(ledger_url)[0]["prompt_tokens"] == 0


async def test_a_cancelled_answer_costs_what_was_shown_of_it(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        assert await account.settle(Usage(10, 4), Status.CANCELLED) == 18


async def test_another_body_under_the_same_id_is_refused(
    ledger_url: sa.URL,
) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        with pytest.raises(AlreadyExists):
            await ledger.open(opening(body=b"b"))
        assert await account.settle(Usage(10, 1), Status.OK) == 12
        with pytest.raises(AlreadyExists):
            await ledger.open(opening(body=b"b"))
    assert len(rows(ledger_url)) == 1


async def test_ids_belong_to_a_device_of_a_tenant(ledger_url: sa.URL) -> None:
    others = (PHONE, Caller("acme", "phone-2"), Caller("evil", "phone-1"))
    async with open_ledger(ledger_url) as ledger:
        for number, caller in enumerate(others):
            await ledger.open(opening(caller=caller, body=bytes([number])))
    assert len(rows(ledger_url)) == len(others)


async def test_another_gateway_takes_over_and_the_former_is_not_heard(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as first, open_ledger(ledger_url) as second:
        former = await first.open(opening())
        former.wrote(Usage(10, 40))
        await former.catch_up()
        account = await second.open(opening(received=38))
        former.wrote(Usage(10, 80))
        await former.catch_up()
        assert former.lost
        await former.settle(Usage(10, 90), Status.OK)
        assert await account.settle(Usage(10, 50), Status.OK) == 110
    (row,) = rows(ledger_url)
    assert (row["epoch"], row["completion_tokens"], row["status"]) == (2, 50, "ok")


async def test_an_answer_that_goes_on_later_is_charged_as_one(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        assert await account.settle(Usage(10, 20), Status.CANCELLED) == 50
        again = await ledger.open(opening(received=18))
        assert rows(ledger_url)[0]["charge_micro_usd"] == 50
        # What the first attempt counted of the prompt stands.
        assert await again.settle(Usage(13, 30), Status.OK) == 70
    assert [row["charge_micro_usd"] for row in rows(ledger_url)] == [70]


@pytest.mark.parametrize(("shown", "status"), [(0, Status.CANCELLED), (5, Status.OK)])
async def test_asking_again_and_leaving_takes_nothing_from_what_was_charged(
    ledger_url: sa.URL, shown: int, status: Status
) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        assert await account.settle(Usage(10, 200), Status.OK) == 410
        again = await ledger.open(opening(received=0))
        assert rows(ledger_url)[0]["charge_micro_usd"] == 410
        assert await again.settle(Usage(10, shown), status) == 410
        longer = await ledger.open(opening(received=200))
        assert await longer.settle(Usage(10, 201), Status.OK) == 412


async def test_leaving_an_answer_that_runs_for_another_attempt_takes_nothing_from_it(
    ledger_url: sa.URL,
) -> None:
    async with open_ledger(ledger_url) as ledger:
        former = await ledger.open(opening())
        former.wrote(Usage(10, 40))
        await written(ledger)
        again = await ledger.open(opening(received=0))
        assert await again.settle(Usage(10, 0), Status.CANCELLED) == 10 + 2 * CHECKPOINT_TOKENS


async def test_what_was_spent_counts_a_request_once_however_often_it_goes_on(
    ledger_url: sa.URL,
) -> None:
    registry = CollectorRegistry()
    async with open_ledger(ledger_url, observer=LedgerMetrics(registry)) as ledger:
        for tokens in (100, 150, 150):
            account = await ledger.open(opening(received=tokens - 50))
            await account.settle(Usage(10, tokens), Status.CANCELLED)
    spent = registry.get_sample_value("isthmus_cloud_spent_micro_usd_total", {"tenant": "acme"})
    assert spent == rows(ledger_url)[0]["charge_micro_usd"] == 310


async def test_one_request_is_not_attempted_for_ever(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        for _ in range(MAX_ATTEMPTS):
            await ledger.open(opening())
        with pytest.raises(AlreadyExists):
            await ledger.open(opening())


async def test_a_name_that_a_database_cannot_hold_is_refused(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        with pytest.raises(InvalidRequest):
            await ledger.open(opening("a\0b"))


async def test_absurd_counts_are_held_all_the_same(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening(prompt=2**64, most=2**64))
        await account.settle(Usage(2**64, 2**64, 2**64), Status.OK)
    assert rows(ledger_url)[0]["completion_tokens"] == 2**53


async def test_a_price_holds_for_the_whole_of_an_answer(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        await ledger.open(opening())
    from isthmus.cloud.ledger.prices import PriceBook

    async with open_ledger(ledger_url, prices=PriceBook()) as dearer:
        account = await dearer.open(opening(received=5))
        assert account.price.cost_micro_usd(Usage(1, 1)) == 3


# --- what devices acknowledge ---


async def cut_off(ledger_url: sa.URL, shown: int) -> None:
    """Leave an answer as a kill does: `shown` tokens in the database, nobody to close it."""
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        if shown:
            account.wrote(Usage(10, shown, 2))
            await written(ledger)


@pytest.mark.parametrize(("shown", "received"), [(32, 40), (32, 1), (64, 64), (64, 96), (0, 3)])
async def test_a_cut_off_answer_becomes_what_the_device_received(
    ledger_url: sa.URL, shown: int, received: int
) -> None:
    # Not all of a first message is noted before it is known to be shown.
    shown = min(shown, 32)
    received = min(received, shown + 32)
    await cut_off(ledger_url, shown)
    async with open_ledger(ledger_url) as ledger:
        told = [Acknowledged("r1", Usage(10, received, 2))]
        first = await ledger.reconcile(PHONE, told)
        again = await ledger.reconcile(PHONE, told)
    assert (first.corrected, first.disputed, again.equal) == (1, 0, 1)
    (row,) = rows(ledger_url)
    assert (row["completion_tokens"], row["prompt_tokens"], row["cached_tokens"]) == (
        received,
        10,
        2,
    )
    assert row["charge_micro_usd"] == 10 + 2 * received


async def test_of_what_nothing_arrived_nothing_is_charged(ledger_url: sa.URL) -> None:
    await cut_off(ledger_url, 5)
    async with open_ledger(ledger_url) as ledger:
        assert (await ledger.reconcile(PHONE, [Acknowledged("r1", Usage())])).corrected == 1
    assert rows(ledger_url)[0]["charge_micro_usd"] == 0


@pytest.mark.parametrize(("claim", "charged"), [(1000, 32 + 32), (-5, 0)])
async def test_a_claim_that_cannot_be_true_is_cut_and_counted(
    ledger_url: sa.URL, claim: int, charged: int
) -> None:
    await cut_off(ledger_url, 32)
    async with open_ledger(ledger_url) as ledger:
        told = await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, claim))])
    assert told.disputed == 1
    assert rows(ledger_url)[0]["completion_tokens"] == charged


async def test_a_device_that_read_slowly_pays_for_what_it_read(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        for shown in (32, 64, 96, 128, 160):
            account.wrote(Usage(10, shown, 2))
            await written(ledger)
    async with open_ledger(ledger_url) as ledger:
        told = await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, 122))])
    assert (told.corrected, told.disputed) == (1, 0)
    assert rows(ledger_url)[0]["completion_tokens"] == 122


@pytest.mark.parametrize("status", [Status.OK, Status.CANCELLED, Status.FAILED])
async def test_a_device_cannot_talk_an_ended_answer_down(
    ledger_url: sa.URL, status: Status
) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        await account.settle(Usage(10, 40), status)
        less = await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, 39))])
        same = await ledger.reconcile(PHONE, [Acknowledged("r1", Usage(0, 40))])
    assert (less.disputed, same.equal) == (1, 1)
    assert rows(ledger_url)[0]["charge_micro_usd"] == 90


async def test_a_device_may_tell_the_end_before_the_row_has_it(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:
        account = await ledger.open(opening())
        told = asyncio.create_task(ledger.reconcile(PHONE, [Acknowledged("r1", Usage(10, 40))]))
        await asyncio.sleep(0.05)
        await account.settle(Usage(10, 40), Status.OK)
        assert (await told).equal == 1


async def test_what_is_not_known_or_still_running_is_left_alone(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url, wait_s=0.3) as ledger:
        await ledger.open(opening())
        told = [Acknowledged("r1", Usage(10, 3)), Acknowledged("r2", Usage(10, 3))]
        assert (await ledger.reconcile(PHONE, told)).unknown == 2
        other = await ledger.reconcile(Caller("evil", "phone-1"), told)
    assert other.unknown == 2
    assert rows(ledger_url)[0]["status"] == "open"


async def test_after_a_correction_the_former_owner_is_not_heard(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as first, open_ledger(ledger_url) as second:
        account = await first.open(opening())
        account.wrote(Usage(10, 3))
        await written(first)
        assert (await second.reconcile(PHONE, [Acknowledged("r1", Usage(10, 4))])).settled == 1
        await account.settle(Usage(10, 300), Status.OK)
        assert account.lost
    assert rows(ledger_url)[0]["charge_micro_usd"] == 18


async def test_many_answers_at_once_all_come_right(ledger_url: sa.URL) -> None:
    async with open_ledger(ledger_url) as ledger:

        async def answer(number: int) -> int:
            account = await ledger.open(opening(f"r{number}"))
            for shown in range(1, number + 1):
                account.wrote(Usage(10, shown))
                if account.behind:
                    await account.catch_up()
            return await account.settle(Usage(10, number), Status.OK)

        charges = await asyncio.gather(*(answer(number) for number in range(1, 101)))
    assert sum(charges) == 100 * 10 + 2 * sum(range(1, 101))
    assert sum(row["charge_micro_usd"] for row in rows(ledger_url)) == sum(charges)
