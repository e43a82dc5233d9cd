"""Which upstream is asked: one that is up and answers, and that has the least to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.upstreams import discovery
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.cloud.upstreams.testing import Fault, ScriptedUpstream
from isthmus.core import chat, errors
from upstream_pools import (
    QUICK,
    REQUEST,
    STATES,
    WHOLE,
    collected,
    faulty_pair,
    pool_over,
    sample,
    serving,
    text_of,
)
from waiting import eventually


async def test_a_host_that_takes_no_connection_holds_nobody_up_for_longer_than_two_probes():
    # A listener whose queue is full drops what comes, as a host does that is not there.
    with contextlib.ExitStack() as stack:
        gone = stack.enter_context(socket.socket())
        gone.bind(("127.0.0.1", 0))
        gone.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(gone.getsockname())
        async with serving(ScriptedUpstream()) as (there,):
            config = BackendConfig(
                kind="openai",
                urls=(f"http://127.0.0.1:{gone.getsockname()[1]}/v1", there.url),
                model="m",
                connect_timeout_s=60,
                upstreams=QUICK | {"probe_timeout_s": 0.1},
            )
            pool = UpstreamPool(config)
            async with asyncio.timeout(5):
                await pool.start()
                for i in range(4):
                    asked = chat.Message(chat.Role.USER, (chat.TextPart(f"question {i}"),))
                    answer = await collected(pool, replace(REQUEST, messages=(asked,)))
                    assert text_of(answer) == WHOLE
            await pool.close()


async def test_an_upstream_that_is_down_gets_no_requests_until_it_is_back():
    async with faulty_pair() as (pool, one, other):
        port = one.port
        await one.die()
        assert text_of(await collected(pool)) == WHOLE
        assert await eventually(lambda: sample(pool, STATES, state="down") == 1)
        assert text_of(await collected(pool)) == WHOLE
        await pool.health()
        assert sample(pool, "isthmus_cloud_upstream_failovers_total") <= 1
        await one.listen(port)
        assert await eventually(lambda: sample(pool, STATES, state="available") == 2)
        asked_before = len(other.bodies)
        await collected(pool)
        assert len(one.bodies) == 1
        assert len(other.bodies) == asked_before
        await one.die()
        await other.die()
        assert await eventually(lambda: sample(pool, STATES, state="down") == 2)
        with pytest.raises(errors.Unavailable):
            await pool.health()
        with pytest.raises(errors.Unavailable):
            await collected(pool)


async def test_an_upstream_that_fails_its_requests_is_ejected_though_its_probes_succeed():
    bad = [Fault("status", status=500)] * 50
    async with faulty_pair(*bad, eject_after=2, eject_s=60) as (pool, one, _):
        for _ in range(6):
            assert text_of(await collected(pool)) == WHOLE
        assert len(one.bodies) == 2
        assert sample(pool, STATES, state="ejected") == 1
        assert sample(pool, "isthmus_cloud_upstream_ejections_total") == 1


async def test_the_last_upstream_is_never_ejected():
    async with serving(ScriptedUpstream()) as (one,), pool_over(one, eject_after=1) as pool:
        one.faults[:] = [Fault("status", status=500)] * 6
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await collected(pool)
        assert text_of(await collected(pool)) == WHOLE
        assert sample(pool, STATES, state="ejected") == 0


async def _tells_a_queue(upstream, waiting):
    upstream.queued = waiting
    # When it is asked the second time, what it said the first time is known.
    asked_before = upstream.metrics_told
    assert await eventually(lambda: upstream.metrics_told >= asked_before + 2)


async def test_an_upstream_with_a_queue_of_its_own_is_left_for_a_freer_one():
    async with faulty_pair() as (pool, one, other):
        await _tells_a_queue(one, 40)
        asked_before = len(other.bodies)
        await collected(pool)
        assert not one.bodies
        assert len(other.bodies) == asked_before + 1


async def test_the_pool_tells_of_a_queue_once_every_upstream_has_one():
    async with faulty_pair() as (pool, one, other):
        await _tells_a_queue(one, 40)
        assert pool.load().waiting_requests == 0
        other.queued = 20
        assert await eventually(lambda: pool.load().waiting_requests == 20)


async def test_a_host_name_stands_for_all_its_addresses():
    one = ScriptedUpstream()
    async with serving(one):
        url = one.url.replace("127.0.0.1", "localhost")
        config = BackendConfig(
            kind="openai", url=url, model="m", upstreams=QUICK | {"discovery": "dns"}
        )
        pool = UpstreamPool(config)
        await pool.start()
        answer = await collected(pool)
        await pool.close()
    host = url.split("/")[2]
    assert text_of(answer) == WHOLE
    assert f"host: {host}\r\n" in one.heads[0].lower()
    assert sample(pool, "isthmus_cloud_upstream_requests_total", upstream=host, result="ok") == 1


async def test_addresses_that_dns_adds_and_drops_come_and_go_without_breaking_an_answer():
    old, new = ScriptedUpstream(delay_s=0.02), ScriptedUpstream()
    async with serving(old):
        await new.listen(old.port, "127.0.0.2")
        config = BackendConfig(kind="openai", url=old.url, model="m", upstreams=QUICK)
        pool = UpstreamPool(config)
        await pool.start()
        stream = pool.generate(REQUEST)
        told = [await anext(stream)]
        (before,) = discovery.configured([old.url])
        pool.update([replace(before, ip="127.0.0.2")])
        assert text_of(await collected(pool)) == WHOLE
        assert len(new.bodies) == 1
        assert sample(pool, STATES, state="leaving") == 1
        told += [event async for event in stream]
        assert text_of(told) == WHOLE
        assert len(old.bodies) == 1
        assert await eventually(lambda: sample(pool, STATES) == 1)
        pool.update([])  # the resolver failed: what is known stays
        assert text_of(await collected(pool)) == WHOLE
        await pool.close()
        await new.die()
