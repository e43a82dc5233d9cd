"""Requests with resets, kills, drains and bad lines on their way: every one is answered whole.

The devices are the agent's own clients of the cloud; their answers are the scripted backend's, in
which each token can be told from every other.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from chaos_counts import count
from chaos_fleet import service
from isthmus.cloud.load.base import poisson
from isthmus.cloud.load.chaos import Faults
from isthmus.cloud.load.journal import entries
from isthmus.cloud.load.runner import Report, run

pytestmark = pytest.mark.chaos

ARRIVALS_PER_S = 30.0
TOKENS = 40


def assert_whole(report: Report, requests: int) -> None:
    assert not report.failed, (report.failed, report.errors)
    assert report.finished == requests
    found = report.lost_tokens, report.doubled_tokens, report.strange_tokens
    assert found == (0, 0, 0), report.flawed


@asynccontextmanager
async def meanwhile(
    trouble: Callable[[int], Awaitable[object]], every_s: float
) -> AsyncIterator[None]:
    """Do `trouble` again and again, each time with the next number."""

    async def go_on() -> None:
        for number in itertools.count():
            await asyncio.sleep(every_s)
            await trouble(number)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        stopped = task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert stopped, "the trouble ended before the load did"


async def test_no_request_and_no_token_is_lost_with_resets_kills_and_drains(
    tmp_path: Path,
) -> None:
    requests = count(450, 10_000)
    chance = random.Random(7)
    async with service(tmp_path, drain_s=0.3) as (replicas, proxy, target, tiers):

        async def trouble(number: int) -> None:
            match number % 6:
                case 2:
                    await replicas.kill(chance.randrange(2))
                case 5:
                    await replicas.restart(chance.randrange(2))
                case _:
                    proxy.reset(0.6)

        async with meanwhile(trouble, every_s=0.5):
            report = await run(target, poisson(ARRIVALS_PER_S, requests=requests, tokens=TOKENS))
    assert_whole(report, requests)
    assert replicas.deaths >= 2
    assert sum(tier.resumed for tier in tiers) > requests / 20
    # Both had a part in it, and some answers are of both.
    begun = [
        {one["mark"] for one in entries(replicas.journal(number)) if one["what"] == "began"}
        for number in range(2)
    ]
    assert begun[0] & begun[1]


async def test_a_rolling_restart_under_load_fails_no_request(tmp_path: Path) -> None:
    requests = count(300, 3_000)
    settings = {"drain_notice_s": 0.6, "drain_s": 5.0}
    async with service(tmp_path, **settings) as (replicas, proxy, target, _):

        async def trouble(number: int) -> None:
            await replicas.restart(number % 2, proxy)

        async with meanwhile(trouble, every_s=0.5):
            report = await run(target, poisson(ARRIVALS_PER_S, requests=requests, tokens=TOKENS))
    assert_whole(report, requests)
    assert replicas.deaths >= 2


async def test_a_line_that_falls_silent_is_left_and_the_answers_go_on(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, proxy, target, tiers):

        async def trouble(number: int) -> None:
            if number == 0:
                proxy.freeze()

        async with meanwhile(trouble, every_s=1.0):
            report = await run(target, poisson(ARRIVALS_PER_S, requests=60, tokens=TOKENS))
    assert_whole(report, 60)
    assert sum(tier.resumed for tier in tiers) > 0


async def test_a_slow_and_narrow_line_gets_every_token(tmp_path: Path) -> None:
    requests = count(120, 1_000)
    async with service(tmp_path) as (_, proxy, target, _):
        proxy.faults = Faults(latency_s=0.15, jitter_s=0.1, bytes_per_s=8_000)
        report = await run(target, poisson(ARRIVALS_PER_S, requests=requests, tokens=TOKENS))
    assert_whole(report, requests)


async def test_a_caller_that_leaves_is_left_alone_whatever_breaks(tmp_path: Path) -> None:
    requests = count(200, 2_000)
    async with service(tmp_path) as (_, proxy, target, _):

        async def trouble(number: int) -> None:
            proxy.reset(0.5)

        orders = list(poisson(ARRIVALS_PER_S, requests=requests, tokens=TOKENS, cancel_share=0.5))
        async with meanwhile(trouble, every_s=0.7):
            report = await run(target, orders)
    leaving = sum(order.cancel_after is not None for order in orders)
    assert not report.failed
    assert (report.cancelled, report.finished) == (leaving, requests - leaving)
    assert (report.lost_tokens, report.doubled_tokens, report.strange_tokens) == (0, 0, 0)
