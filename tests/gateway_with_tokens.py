"""A gateway that wants device tokens, over a scripted backend, and devices that bring them."""

from __future__ import annotations

from contextlib import asynccontextmanager

from device_tokens import auth_settings, write_jwks
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.edge.remote import RemoteConfig, RemoteTier


@asynccontextmanager
async def gateway_with(tmp_path, *signers, backend=None, **settings):
    jwks = write_jwks(tmp_path / "jwks.json", *signers)
    auth = auth_settings(jwks) | settings
    gateway = Gateway(gateway_config(auth=auth), backend or ScriptedBackend())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def device(gateway, token=None):
    tier = RemoteTier(RemoteConfig(gateway.address, token=token))
    try:
        yield tier
    finally:
        await tier.close()


def refusals(gateway, reason):
    return gateway.metrics.registry.get_sample_value(
        "isthmus_cloud_refused_calls_total", {"reason": reason.value}
    )
