"""A gateway that wants device tokens: who gets in, with which rights, and what is told."""

from __future__ import annotations

import hashlib

import grpc.aio
import pytest

from asked import REQUEST, anew
from device_tokens import Signer, unsigned
from gateway_with_tokens import device, gateway_with, refusals
from isthmus.cloud import identity
from isthmus.cloud.identity import Refusal
from isthmus.cloud.identity.bearer import Anyone
from isthmus.core.errors import ConfigError, PermissionDenied, Unauthenticated

SIGNER = Signer()
STRANGER = Signer()  # the same kid, another key


async def test_a_device_gets_in_and_nobody_else_does(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        async with device(gateway, SIGNER.token()) as tier:
            assert [event async for event in tier.generate(anew(REQUEST))]
        for token in (None, "hush", unsigned(SIGNER), STRANGER.token(), SIGNER.token(aud="x")):
            async with device(gateway, token) as tier:
                for call in (
                    tier.info,
                    tier.load,
                    lambda tier=tier: anext(tier.generate(anew(REQUEST))),
                ):
                    with pytest.raises(Unauthenticated) as caught:
                        await call()
                    assert "valid credentials are needed" in caught.value.message
        assert len(gateway.backend.requests) == 1
        assert refusals(gateway, Refusal.MISSING) == 3
        assert refusals(gateway, Refusal.AUDIENCE) == 3


@pytest.mark.parametrize(
    "metadata",
    [
        lambda: (),
        lambda: (("authorization", f"Bearer {STRANGER.token()}"),),
        lambda: (("authorization", f"Bearer {SIGNER.token()}"),) * 2,
        lambda: (("authorization-bin", f"Bearer {SIGNER.token()}".encode()),),
        lambda: (("proxy-authorization", f"Bearer {SIGNER.token()}"),),
    ],
    ids=["nothing", "a stranger's token", "two tokens", "bytes", "another header"],
)
@pytest.mark.parametrize(
    "method",
    ["/isthmus.v1.GatewayService/Generate", "/grpc.health.v1.Health/Watch", "/no.such/Method"],
)
async def test_a_stranger_is_refused_before_his_message_is_read(tmp_path, metadata, method):
    """A call that never sends one gets its answer."""
    async with (
        gateway_with(tmp_path, SIGNER) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        call = channel.stream_stream(method)(metadata=metadata(), timeout=30)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


class Broken:
    """An authenticator with a fault that quotes the token."""

    def screen(self, metadata):
        raise KeyError("".join(["hu", "sh"]))

    def authenticate(self, context):
        raise KeyError("".join(["hu", "sh"]))


@pytest.mark.parametrize("look", ["screen", "authenticate"])
async def test_a_fault_opens_no_door_and_tells_nothing(tmp_path, monkeypatch, caplog, look):
    authenticator = Anyone()
    monkeypatch.setattr(authenticator, look, getattr(Broken(), look), raising=False)
    monkeypatch.setattr(identity, "create", lambda *args, **more: authenticator)
    async with gateway_with(tmp_path, SIGNER) as gateway, device(gateway, "hush") as tier:
        for call in (tier.info, lambda: anext(tier.generate(anew(REQUEST)))):
            with pytest.raises(Unauthenticated) as caught:
                await call()
            assert "hush" not in caught.value.message
        assert refusals(gateway, Refusal.FAULT) == 2
    assert "KeyError" in caplog.text
    assert "hush" not in caplog.text


async def test_a_call_is_refused_once(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        async with device(gateway) as tier:
            with pytest.raises(Unauthenticated):
                await tier.info()
        assert refusals(gateway, Refusal.MISSING) == 1


async def test_a_scope_that_is_lacking_is_a_matter_of_permission(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        async with device(gateway, SIGNER.token(scope="report")) as tier:
            assert await tier.report([], []) == 0
            with pytest.raises(PermissionDenied):
                await tier.info()
            with pytest.raises(PermissionDenied):
                await anext(tier.generate(anew(REQUEST)))
        async with device(gateway, SIGNER.token(scope="generate")) as tier:
            await tier.info()
            with pytest.raises(PermissionDenied, match="report"):
                await tier.report([], [])
        assert refusals(gateway, Refusal.SCOPE) == 3


async def test_keys_that_cannot_be_read_stop_the_gateway_from_starting(tmp_path):
    with pytest.raises(ConfigError) as caught:
        async with gateway_with(tmp_path, {"kty": "oct", "k": "c2VjcmV0", "kid": "a"}):
            pass
    assert caught.value.field == "auth.jwks_file"


async def test_each_tenants_prefixes_have_a_salt_of_their_own(tmp_path):
    async with gateway_with(tmp_path, SIGNER) as gateway:
        for tenant in ("acme", "acme", "rival"):
            async with device(gateway, SIGNER.token(tenant=tenant)) as tier:
                assert [event async for event in tier.generate(anew(REQUEST))]
        first, second, other = (request.cache_salt for request in gateway.backend.requests)
    assert first == second != other
    assert "acme" not in first


def test_the_salt_depends_on_the_key_alone_and_gateways_can_share_it(tmp_path):
    path = tmp_path / "key"
    path.write_text(hashlib.sha256(b"any").hexdigest())
    shared = identity.CacheSalts.of(path)
    assert shared("acme") == identity.CacheSalts.of(path)("acme")
    assert shared("acme") != identity.CacheSalts.of(None)("acme")
    assert len(shared("acme")) == 32
