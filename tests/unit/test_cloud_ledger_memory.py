"""A ledger that forgets keeps the rules of one that does not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import MAX_ATTEMPTS, Account, Ledger, Opening
from isthmus.cloud.ledger.memory import MemoryLedger
from isthmus.core.decision import Status
from isthmus.core.errors import AlreadyExists
from isthmus.core.money import Price, Usage

PRICE = Price(Decimal(1), Decimal(2))


def opening(body: bytes = b"a", received: int = 0) -> Opening:
    return Opening(Caller("acme", "phone-1"), "r1", body, "m", 10, 100, received)


async def test_an_answer_is_charged_once_whatever_follows() -> None:
    ledger: Ledger = MemoryLedger(lambda model: PRICE)
    account: Account = await ledger.open(opening())
    account.wrote(Usage(10, 5))
    assert await account.settle(Usage(10, 20), Status.OK) == 50
    assert await account.settle(Usage(10, 90), Status.OK) == 50


async def test_another_body_under_the_same_id_is_refused() -> None:
    ledger = MemoryLedger()
    await ledger.open(opening())
    with pytest.raises(AlreadyExists):
        await ledger.open(opening(b"b"))


async def test_who_takes_a_request_over_goes_on_from_what_the_device_received() -> None:
    ledger = MemoryLedger(lambda model: PRICE)
    former = await ledger.open(opening())
    former.wrote(Usage(10, 33))
    account = await ledger.open(opening(received=30))
    assert former.lost
    assert await former.settle(Usage(10, 99), Status.OK) == 10 + 2 * 33
    assert await account.settle(Usage(10, 50), Status.OK) == 10 + 2 * 50


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED, Status.REFUSED])
async def test_an_answer_that_ends_before_its_first_token_is_free(status: Status) -> None:
    ledger = MemoryLedger(lambda model: PRICE)
    assert await (await ledger.open(opening())).settle(Usage(10, 0), status) == 0


async def test_one_request_is_not_attempted_for_ever() -> None:
    ledger = MemoryLedger()
    for _ in range(MAX_ATTEMPTS):
        await ledger.open(opening())
    with pytest.raises(AlreadyExists):
        await ledger.open(opening())
