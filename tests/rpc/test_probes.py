"""gRPC health on an address of its own, as Kubernetes' probes ask for it."""

from __future__ import annotations

import contextlib

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from isthmus.cloud.config import CloudConfig
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core.errors import Unavailable
from isthmus.v1 import gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextlib.asynccontextmanager
async def probed():
    config = gateway_config().model_copy(update={"health_listen": "127.0.0.1:0"})
    gateway = Gateway(config, ScriptedBackend())
    await gateway.start()
    try:
        async with grpc.aio.insecure_channel(gateway.health_address) as channel:
            yield gateway, channel
    finally:
        await gateway.stop(grace_s=0)


async def asked(channel, service=""):
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return answer.status


async def test_a_gateway_that_takes_requests_is_alive_and_ready():
    async with probed() as (_, channel):
        assert await asked(channel) == await asked(channel, "live") == SERVING


async def test_a_gateway_that_takes_none_is_alive_and_not_ready():
    async with probed() as (gateway, channel):
        await gateway._set_health(serving=False)
        assert await asked(channel) == NOT_SERVING
        assert await asked(channel, "live") == SERVING


async def test_nothing_but_health_is_answered_there():
    async with probed() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await GatewayServiceStub(channel).GetModelInfo(gateway_pb2.GetModelInfoRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_address_in_use_ends_the_start():
    async with probed() as (gateway, _):
        config = gateway_config().model_copy(update={"health_listen": gateway.health_address})
        with pytest.raises(Unavailable) as caught:
            await Gateway(config, ScriptedBackend()).start()
    assert caught.value.field == "health_listen"


def test_without_an_address_nobody_is_told():
    assert CloudConfig.load().health_listen is None
