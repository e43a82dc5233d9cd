"""What an operator sees of a gateway: health, overload, who may ask, prices and metrics."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY, Gauge

from asked import REQUEST, anew
from isthmus.cloud import server
from isthmus.cloud.ledger.base import LedgerState
from isthmus.cloud.metrics import ProcessMetrics
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config, running_gateway
from isthmus.core import chat, errors, wire
from isthmus.core.decision import Outcome, Status, Target
from isthmus.core.tier import ModelInfo
from scripted_gateway import collected, connected, gateway_and_tier, text_of
from waiting import eventually


async def test_health_follows_the_backend_the_ledger_and_the_drain(monkeypatch):
    monkeypatch.setattr(server, "_HEALTH_PERIOD_S", 0.01)
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    gateway = Gateway(gateway_config(drain_s=1), backend)
    await gateway.start()
    async with (
        grpc.aio.insecure_channel(gateway.address) as channel,
        connected(gateway.address) as tier,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="isthmus.v1.GatewayService")
        serving = health_pb2.HealthCheckResponse.SERVING
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await stub.Check(request)).status == serving
        changes = stub.Watch(request)
        assert (await changes.read()).status == serving
        backend.healthy = False
        assert (await changes.read()).status == not_serving
        backend.healthy = True
        assert (await changes.read()).status == serving
        there = gateway.ledger.state
        monkeypatch.setattr(gateway.ledger, "state", lambda: LedgerState(away_s=5))
        assert (await changes.read()).status == not_serving
        monkeypatch.setattr(gateway.ledger, "state", there)
        assert (await changes.read()).status == serving
        answer = tier.generate(anew())
        await anext(answer)
        stopping = asyncio.create_task(gateway.stop())
        assert (await changes.read()).status == not_serving
        changes.cancel()
        await answer.aclose()
        await stopping


async def test_a_health_check_that_breaks_means_not_healthy_and_does_not_stop_the_stop(monkeypatch):
    monkeypatch.setattr(server, "_HEALTH_PERIOD_S", 0.01)
    backend = ScriptedBackend()
    gateway = Gateway(gateway_config(), backend)
    await gateway.start()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        changes = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.SERVING
        monkeypatch.setattr(backend, "health", broken_health)
        assert (await changes.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        changes.cancel()
    await gateway.stop()
    assert backend.closed


async def broken_health():
    raise ZeroDivisionError("a secret")


async def test_a_burst_of_calls_is_answered_and_none_is_cancelled_by_chance():
    backend = ScriptedBackend(["x"])
    async with gateway_and_tier(backend, max_waiting_requests=3_000) as tier:
        answers = await asyncio.gather(*(collected(tier) for _ in range(1_500)))
    assert len(answers) == 1_500
    assert tier.resumed == 0


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back():
    backend = ScriptedBackend(["x"] * 1000, delay_s=0.02)
    async with gateway_and_tier(backend, max_running_requests=1, max_waiting_requests=1) as tier:
        first = asyncio.create_task(collected(tier))
        assert await eventually(lambda: backend.running == 1)
        second = asyncio.create_task(collected(tier))
        load = await tier.load()
        while not load.waiting_requests:
            load = await tier.load()
        assert (load.running_requests, load.max_waiting_requests) == (1, 1)
        with pytest.raises(errors.Overloaded) as caught:
            await collected(tier)
        assert caught.value.retry_after_s > 0
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
    assert backend.most_running == 1


async def test_a_waiting_request_gets_its_turn():
    backend = ScriptedBackend(delay_s=0.01)
    async with gateway_and_tier(backend, max_running_requests=1, max_waiting_requests=8) as tier:
        answers = await asyncio.gather(*(collected(tier) for _ in range(4)))
    assert {text_of(answer) for answer in answers} == {"Paris is the capital."}
    assert backend.most_running == 1


async def scraped(address):
    def read():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(read)


async def test_every_call_needs_the_token_and_so_does_health():
    outcome = Outcome("r", 0.0, Target.EDGE, (), Status.OK, chat.PrivacyClass.PUBLIC)
    raw = wire.outcome_to_wire(outcome).SerializeToString()
    async with running_gateway(token="right") as address:
        for wrong in (None, "wrong", "rightt"):
            async with connected(address, token=wrong) as tier:
                for call in (collected(tier), tier.info(), tier.load(), tier.report([raw], [])):
                    with pytest.raises(errors.Unauthenticated):
                        await call
        async with connected(address, token="right") as tier:
            assert text_of(await collected(tier)) == "Paris is the capital."
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Check(health_pb2.HealthCheckRequest())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            metadata = (("authorization", "Bearer right"),)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), metadata=metadata)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_model_tells_its_abilities_and_price():
    price = {"input_usd_per_mtok": "0.15", "output_usd_per_mtok": "0.6"}
    info = ModelInfo("big", "scripted", 8192, supports_tools=True)
    async with gateway_and_tier(ScriptedBackend(info=info), prices=[price]) as tier:
        told = await tier.info()
    assert (told.model, told.context_tokens, told.supports_tools) == ("big", 8192, True)
    assert str(told.price.output_usd_per_mtok) == "0.6"


OF = (
    'gen_ai_operation_name="chat",gen_ai_provider_name="isthmus.cloud",'
    'gen_ai_request_model="scripted"'
)


async def test_metrics_count_requests_tokens_times_and_cancellations():
    backend = ScriptedBackend(delay_s=0.1)
    gateway = Gateway(gateway_config(metrics_listen="127.0.0.1:0"), backend)
    await gateway.start()
    async with connected(gateway.address) as tier:
        await collected(tier)
        with pytest.raises(errors.InvalidRequest):
            await collected(tier, replace(REQUEST, max_tokens=0))
        answer = tier.generate(anew())
        await anext(answer)
        await answer.aclose()
        assert await eventually(lambda: backend.stopped_at_s)
        # The call ends a moment after its backend.
        while "isthmus_cloud_cancellations_total 1.0" not in (
            text := await scraped(gateway.metrics_address)
        ):
            pass
    await gateway.stop()
    for line in (
        'isthmus_cloud_requests_total{code="OK"} 1.0',
        'isthmus_cloud_requests_total{code="INVALID_ARGUMENT"} 1.0',
        'isthmus_cloud_requests_total{code="CANCELLED"} 1.0',
        "isthmus_cloud_cancellations_total 1.0",
        'isthmus_cloud_tokens_total{kind="completion"} 5.0',
        f"gen_ai_server_time_to_first_token_seconds_count{{{OF}}} 1.0",
        f'gen_ai_server_time_to_first_token_seconds_bucket{{{OF},le="0.5"}} 1.0',
        f"gen_ai_server_time_per_output_token_seconds_count{{{OF}}} 1.0",
        f'gen_ai_server_request_duration_seconds_count{{error_type="",{OF}}} 1.0',
        f'gen_ai_server_request_duration_seconds_count{{error_type="CANCELLED",{OF}}} 1.0',
        "isthmus_cloud_requests_in_flight 0.0",
        "isthmus_cloud_queue_length 0.0",
    ):
        assert line in text


async def test_a_port_in_use_is_an_error_that_names_the_setting():
    async with running_gateway() as address:
        for setting in ("listen", "metrics_listen", "health_listen"):
            gateway = Gateway(gateway_config(**{setting: address}), ScriptedBackend())
            with pytest.raises(errors.Unavailable) as caught:
                await gateway.start()
            assert caught.value.field == setting


def test_one_of_a_librarys_metrics_is_read_by_its_name():
    gauge = Gauge("librarys:num_requests_waiting", "Of a test.", ["engine"])
    try:
        gauge.labels("0").set(3)
        gauge.labels("1").set(4)
        metrics = ProcessMetrics("librarys:")
        assert metrics.value("num_requests_waiting") == 7
        assert metrics.value("num_requests_running") == 0
    finally:
        REGISTRY.unregister(gauge)
