"""What ends a gateway's answer early: its caller, a deadline, the gateway's own stop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from asked import REQUEST, anew
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config, running_gateway
from isthmus.core import errors, events, wire
from isthmus.core.deadline import Deadline
from scripted_gateway import collected, connected, gateway_and_tier, raw_stub
from waiting import eventually


async def test_a_caller_that_leaves_stops_the_backend_within_100_ms():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    async with gateway_and_tier(backend) as tier:
        answer = tier.generate(anew())
        async for event in answer:
            if isinstance(event, events.Delta):
                break
        left_s = time.monotonic()
        await answer.aclose()
        assert await eventually(lambda: backend.stopped_at_s)
    assert backend.stopped_at_s[0] - left_s < 0.1


async def test_a_caller_that_leaves_before_the_first_token_stops_the_backend_too():
    backend = ScriptedBackend(first_delay_s=60)
    async with gateway_and_tier(backend) as tier:
        task = asyncio.create_task(collected(tier))
        assert await eventually(lambda: backend.requests)
        left_s = time.monotonic()
        task.cancel()
        assert await eventually(lambda: backend.stopped_at_s)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert backend.stopped_at_s[0] - left_s < 0.1


async def test_a_deadline_ends_the_answer_on_both_sides():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    async with gateway_and_tier(backend) as tier:
        began_s = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            await collected(tier, replace(REQUEST, deadline=Deadline.after(0.2)))
        assert time.monotonic() - began_s < 0.5
        assert await eventually(lambda: backend.stopped_at_s)
    assert backend.requests[0].deadline.at_s - began_s == pytest.approx(0.2, abs=0.1)


async def test_the_messages_own_deadline_counts_without_one_of_grpcs():
    backend = ScriptedBackend(first_delay_s=60)
    message = wire.request_to_wire(replace(REQUEST, deadline=Deadline.after(0.1)))
    async with running_gateway(backend) as address, raw_stub(address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.Generate(message):
                pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_deadline_that_has_passed_is_never_sent():
    backend = ScriptedBackend()
    async with gateway_and_tier(backend) as tier:
        with pytest.raises(errors.DeadlineExceeded):
            await collected(tier, replace(REQUEST, deadline=Deadline.after(0)))
        assert not tier.connected


async def test_stopping_twice_does_no_harm():
    gateway = Gateway(gateway_config(), ScriptedBackend())
    await gateway.start()
    await gateway.stop()
    await gateway.stop()
    async with connected(gateway.address) as tier:
        with pytest.raises(errors.Unavailable):
            await collected(tier)
