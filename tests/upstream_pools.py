"""Pools over scripted upstreams, for tests of which is asked and what comes back."""

from __future__ import annotations

import contextlib
import random

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.cloud.upstreams.testing import WORDS, ScriptedUpstream
from isthmus.core import chat, events

REQUEST = chat.ChatRequest("r1", (chat.Message(chat.Role.USER, (chat.TextPart("tell me"),)),))
WHOLE = "".join(WORDS)
QUICK = {"probe_s": 0.05, "silence_s": 0.2, "first_token_s": 0.2, "slow_start_s": 0}
STATES = "isthmus_cloud_upstream_addresses"


@contextlib.asynccontextmanager
async def pool_over(*upstreams, **limits):
    config = BackendConfig(
        kind="openai",
        urls=tuple(one.url for one in upstreams),
        model="m",
        upstreams=QUICK | limits,
    )
    pool = UpstreamPool(config, rng=random.Random(1))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def serving(*upstreams):
    async with contextlib.AsyncExitStack() as stack:
        for one in upstreams:
            await stack.enter_async_context(one)
        yield upstreams


async def collected(pool, request=REQUEST):
    return [event async for event in pool.generate(request)]


def text_of(answer):
    return "".join(event.text for event in answer if isinstance(event, events.Delta))


def tokens_of(answer):
    return sum(event.tokens for event in answer if isinstance(event, events.Delta))


def sample(pool, name, **labels):
    return sum(
        one.value
        for collector in pool.collectors()
        for family in collector.collect()
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


@contextlib.asynccontextmanager
async def faulty_pair(*faults, **limits):
    """A pool over two upstreams, the one that is asked first and has `faults`, the other."""
    async with (
        serving(ScriptedUpstream(), ScriptedUpstream()) as pair,
        pool_over(*pair, **limits) as pool,
    ):
        await collected(pool)
        favourite, other = sorted(pair, key=lambda one: not one.bodies)
        favourite.faults[:] = faults
        favourite.bodies.clear()
        yield pool, favourite, other
