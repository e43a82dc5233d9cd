"""What an attempt at an answer is charged: what was seen of it, or all once it is complete."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from isthmus.cloud.answers.answer import Answer
from isthmus.cloud.answers.log import Log
from isthmus.cloud.answers.tab import Tab
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import Opening
from isthmus.cloud.ledger.memory import MemoryLedger
from isthmus.core.decision import Status
from isthmus.core.errors import AlreadyExists, QuotaExceeded, Unavailable
from isthmus.core.money import Usage

OPENING = Opening(Caller(), "r1", b"body", "m", prompt_tokens=9, max_tokens=100)


async def opened(ledger=None, **changes):
    tab = Tab(ledger or MemoryLedger(), replace(OPENING, **changes))
    return tab, await tab.opened()


async def test_what_is_shown_is_written_down_before_it_is_shown():
    tab, account = await opened()
    tab.started(Usage(5, 0, 2))
    assert account.usage == Usage(5, 0, 2)
    await tab.showing(7)
    assert account.usage == Usage(5, 7, 2)


async def test_a_second_reader_that_is_behind_changes_nothing():
    tab, account = await opened()
    await tab.showing(7)
    await tab.showing(3)
    assert account.usage.completion_tokens == 7


async def test_an_answer_that_breaks_off_costs_what_was_seen_of_it():
    tab, account = await opened()
    tab.started(Usage(5))
    await tab.showing(7)
    await tab.settle(Status.CANCELLED)
    assert (account.usage, account.status) == (Usage(5, 7), Status.CANCELLED)


async def test_a_reader_of_a_complete_answer_is_still_followed_and_then_it_costs_the_whole():
    tab, account = await opened()
    tab.started(Usage(5))
    tab.complete(Usage(5, 90))
    await tab.showing(20)
    assert account.usage == Usage(5, 20)
    await tab.settle(Status.OK)
    assert account.usage == Usage(5, 90)
    await tab.showing(40)
    assert account.usage == Usage(5, 90)


async def test_what_the_device_brings_is_part_of_the_answer():
    tab, account = await opened(received_tokens=12)
    await tab.settle(Status.CANCELLED)
    assert account.usage.completion_tokens == 12


async def test_nothing_is_shown_once_another_gateway_has_taken_over():
    ledger = MemoryLedger()
    tab, _ = await opened(ledger)
    await opened(ledger)
    with pytest.raises(Unavailable, match="another gateway"):
        await tab.showing(1)


async def test_a_refusal_is_heard_as_soon_as_it_is_known_and_settling_it_is_no_error():
    class Refuses(MemoryLedger):
        def open(self, opening):
            return verdict

    verdict = asyncio.get_running_loop().create_future()
    tab = Tab(Refuses(), OPENING)
    tab.check()  # not known yet
    verdict.set_exception(QuotaExceeded("spent", field="tokens"))
    with pytest.raises(QuotaExceeded):
        tab.check()
    await tab.settle(Status.FAILED)


async def test_another_body_under_an_id_is_refused_by_the_ledger_too():
    ledger = MemoryLedger()
    await opened(ledger)
    with pytest.raises(AlreadyExists):
        await opened(ledger, body_hash=b"other")


async def test_an_account_is_opened_before_the_work_has_its_turn_and_closed_if_it_never_has():
    ledger, answer = MemoryLedger(), Answer("r1", b"body", Log())
    over = asyncio.Event()

    def work():
        answer.tab = Tab(ledger, OPENING)
        return asyncio.sleep(60)

    answer.run(work, over.set)
    (account,) = ledger.accounts.values()
    answer.stop(Unavailable("its caller went away"))
    await over.wait()
    await asyncio.sleep(0)
    assert account.status is Status.CANCELLED
