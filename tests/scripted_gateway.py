"""A gateway over a scripted backend on loopback, and the tier of a device that asks it."""

from __future__ import annotations

import contextlib

import grpc
import grpc.aio

from asked import REQUEST, anew
from isthmus.cloud.testing import running_gateway
from isthmus.core import events
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub


@contextlib.asynccontextmanager
async def connected(address, **settings):
    tier = RemoteTier(RemoteConfig(address, **settings))
    try:
        yield tier
    finally:
        await tier.close()


@contextlib.asynccontextmanager
async def gateway_and_tier(backend=None, *, token=None, **overrides):
    async with (
        running_gateway(backend, token=token, **overrides) as address,
        connected(address, token=token) as tier,
    ):
        yield tier


@contextlib.asynccontextmanager
async def raw_stub(address):
    async with grpc.aio.insecure_channel(address) as channel:
        yield GatewayServiceStub(channel)


async def collected(tier, request=REQUEST):
    return [event async for event in tier.generate(anew(request))]


def text_of(collected_events):
    return "".join(event.text for event in collected_events if isinstance(event, events.Delta))
