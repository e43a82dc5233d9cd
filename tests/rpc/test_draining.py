"""A gateway that stops: who may end an answer, who is sent away, and that no device notices."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from asked import anew
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import errors, events, wire
from isthmus.core.chat import RouteMode, RoutePreference
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.v1 import gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub
from waiting import eventually

WORDS = [f" {n}" for n in range(40)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def connected(address, **settings):
    tier = RemoteTier(RemoteConfig(address, **settings))
    try:
        yield tier
    finally:
        await tier.close()


async def started(backend, **settings):
    gateway = Gateway(gateway_config(**settings), backend)
    await gateway.start()
    return gateway


async def text_from(tier, request=None):
    answer = [event async for event in tier.generate(request or anew())]
    return "".join(event.text for event in answer if isinstance(event, events.Delta))


def advice(error):
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)
    return any(detail.Unpack(retry) for detail in status.details)


async def test_a_drain_lets_an_answer_end_within_the_grace(caplog):
    caplog.set_level(logging.INFO, logger="isthmus.cloud.server")
    backend = ScriptedBackend(WORDS, delay_s=0.01)
    gateway = await started(backend, drain_s=30)
    async with connected(gateway.address) as tier:
        task = asyncio.create_task(text_from(tier))
        assert await eventually(lambda: backend.running)
        await gateway.stop()
        assert await task == "".join(WORDS)
        assert tier.resumed == 0
    assert len(backend.requests) == 1
    assert "stopping; answers running or waiting: 1, time left: 30 s" in caplog.text
    assert "; answers cut: 0" in caplog.text


async def test_what_is_left_after_the_grace_is_told_to_ask_again(caplog):
    caplog.set_level(logging.INFO, logger="isthmus.cloud.server")
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    gateway = await started(backend, drain_s=0.1, max_running_requests=1)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = GatewayServiceStub(channel)

        async def asking():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stub.Generate(wire.request_to_wire(anew())):
                    pass
            return caught.value

        running = asyncio.create_task(asking())
        assert await eventually(lambda: backend.running)
        waiting = asyncio.create_task(asking())
        while not (await stub.GetLoad(gateway_pb2.GetLoadRequest())).waiting_requests:
            pass
        await gateway.stop()
        for ended in (await waiting, await running):
            assert ended.code() is grpc.StatusCode.UNAVAILABLE
            assert advice(ended)
    assert len(backend.requests) == 1
    assert backend.stopped_at_s
    assert backend.closed
    assert "; answers cut: 1" in caplog.text


async def test_a_drain_that_was_announced_is_told_by_health_while_everything_is_served():
    gateway = await started(ScriptedBackend(), drain_notice_s=0.5, drain_s=5)
    async with (
        connected(gateway.address) as tier,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        changes = health.Watch(health_pb2.HealthCheckRequest())
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(gateway.stop())
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await tier.load()).draining
        assert await text_from(tier) == "Paris is the capital."
        await stopping


async def test_a_gateway_that_is_gone_lets_nobody_in_and_the_device_is_told_so_at_once():
    gateway = await started(ScriptedBackend())
    async with connected(gateway.address) as tier:
        assert await text_from(tier)
        await gateway.stop()
        with pytest.raises(errors.Unavailable):
            await text_from(tier)


async def test_a_stream_goes_on_where_it_was_at_the_gateway_started_again():
    first, second = (ScriptedBackend(WORDS, delay_s=0.01) for _ in range(2))
    listen = f"127.0.0.1:{free_port()}"
    gateway = await started(first, listen=listen, drain_s=0)
    async with connected(listen) as tier:
        task = asyncio.create_task(text_from(tier, anew(max_tokens=40)))
        assert await eventually(lambda: first.running)
        await asyncio.sleep(0.1)
        await gateway.stop()
        gateway = await started(second, listen=listen)
        assert await task == "".join(WORDS)
    await gateway.stop()
    rest = second.requests[0]
    assert "".join(WORDS).startswith(rest.answer_so_far)
    assert rest.answer_so_far
    assert rest.max_tokens == 40 - len(rest.answer_so_far.split())


async def test_what_only_the_cloud_may_answer_waits_longer_for_a_gateway():
    listen = f"127.0.0.1:{free_port()}"
    texts = {}
    for mode in (RouteMode.AUTO, RouteMode.ONLY_IN_CLOUD):
        gateway = await started(ScriptedBackend(WORDS, delay_s=0.01), listen=listen, drain_s=0)
        async with connected(listen, silent_s=0.05, broken_s=0.05, alone_s=30) as tier:
            request = anew(preference=RoutePreference(mode=mode))
            task = asyncio.create_task(text_from(tier, request))
            assert await eventually(lambda: gateway.backend.running)  # noqa: B023
            await asyncio.sleep(0.1)
            await gateway.stop()
            await asyncio.sleep(0.5)
            gateway = await started(ScriptedBackend(WORDS, delay_s=0.01), listen=listen)
            texts[mode] = (await asyncio.gather(task, return_exceptions=True))[0]
        await gateway.stop()
    assert isinstance(texts[RouteMode.AUTO], errors.Unavailable)
    assert texts[RouteMode.ONLY_IN_CLOUD] == "".join(WORDS)


async def test_a_rolling_restart_under_load_fails_nothing():
    listens = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    made = []

    async def replica(listen):
        made.append(ScriptedBackend(WORDS, delay_s=0.005))
        return await started(made[-1], listen=listen, drain_s=0.05)

    gateways = [await replica(listen) for listen in listens]
    async with connected(",".join(listens)) as tier:

        async def roll():
            for at in (0, 1):
                await asyncio.sleep(0.15)
                await gateways[at].stop()
                await asyncio.sleep(0.15)
                gateways[at] = await replica(listens[at])

        rolling = asyncio.create_task(roll())
        answers = []
        for _ in range(60):
            answers.append(asyncio.create_task(text_from(tier)))
            await asyncio.sleep(0.015)
        texts = await asyncio.gather(*answers)
        await rolling
        assert texts == ["".join(WORDS)] * 60
        assert tier.resumed > 0
    for gateway in gateways:
        await gateway.stop()
    assert all(backend.requests for backend in made[:3])
