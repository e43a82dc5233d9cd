"""Keys, revocations and static tokens that change while a gateway runs."""

from __future__ import annotations

import time

import pytest

from asked import anew
from device_tokens import Signer, write_jwks
from gateway_with_tokens import device, gateway_with, refusals
from isthmus.cloud.identity import Refusal
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core.errors import Unauthenticated
from isthmus.core.events import Delta
from waiting import eventually

pytestmark = pytest.mark.usefixtures("files_always_looked_at")

SIGNER = Signer()


async def test_keys_are_rotated_while_the_gateway_runs(tmp_path):
    new = Signer("k2", "EdDSA")
    async with gateway_with(tmp_path, SIGNER) as gateway:

        async def lets_in(signer):
            async with device(gateway, signer.token()) as tier:
                try:
                    await tier.info()
                except Unauthenticated:
                    return False
                return True

        assert (await lets_in(SIGNER), await lets_in(new)) == (True, False)
        write_jwks(tmp_path / "jwks.json", SIGNER, new)
        assert (await lets_in(SIGNER), await lets_in(new)) == (True, True)
        (tmp_path / "jwks.json").write_text("half of a")
        assert (await lets_in(SIGNER), await lets_in(new)) == (True, True)
        write_jwks(tmp_path / "jwks.json", new)
        assert (await lets_in(SIGNER), await lets_in(new)) == (False, True)
        told = gateway.metrics.registry.get_sample_value
        name = "isthmus_cloud_files_read_again_total"
        assert told(name, {"setting": "auth.jwks_file", "result": "good"}) == 2
        assert told(name, {"setting": "auth.jwks_file", "result": "failed"}) == 1


async def test_a_device_is_revoked_while_the_gateway_runs(tmp_path):
    revoked = tmp_path / "revoked"
    revoked.write_text("# nobody yet\n")
    async with (
        gateway_with(tmp_path, SIGNER, revoked_file=revoked) as gateway,
        device(gateway, SIGNER.token()) as tier,
        device(gateway, SIGNER.token(sub="phone-8", jti="t-2")) as other,
    ):
        await tier.info()
        revoked.write_text("acme/phone-7  # lost on a train\n")
        with pytest.raises(Unauthenticated):
            await tier.load()
        await other.load()


async def test_a_running_answer_ends_when_its_device_is_revoked(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.cloud.identity.patrol._LOOK_S", 0.02)
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    backend = ScriptedBackend(["x"] * 3000, delay_s=0.01)
    async with (
        gateway_with(tmp_path, SIGNER, backend=backend, revoked_file=revoked) as gateway,
        device(gateway, SIGNER.token()) as tier,
        device(gateway, SIGNER.token(sub="phone-8", jti="t-2")) as other,
    ):
        answer, others = tier.generate(anew()), other.generate(anew())
        for stream in (answer, others):
            while not isinstance(await anext(stream), Delta):
                pass
        revoked.write_text("acme/phone-7\n")
        with pytest.raises(Unauthenticated):
            async for _ in answer:
                pass
        assert await eventually(lambda: backend.stopped_at_s)
        assert isinstance(await anext(others), Delta)
        await others.aclose()
        # The call that was cut, and the one try with whatever token there is now.
        assert refusals(gateway, Refusal.REVOKED) == 2


async def test_an_answer_whose_token_ends_goes_on_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.cloud.identity.patrol._LOOK_S", 0.02)
    words = [f" {n}" for n in range(250)]
    tokens = [SIGNER.token(exp=int(time.time()) + 2)]
    async with (
        gateway_with(
            tmp_path, SIGNER, backend=ScriptedBackend(words, delay_s=0.01), leeway_s=0
        ) as gateway,
        device(gateway, lambda: tokens[-1]) as tier,
    ):
        answer = tier.generate(anew())
        events = [await anext(answer)]
        tokens.append(SIGNER.token())
        events += [event async for event in answer]
        assert "".join(e.text for e in events if isinstance(e, Delta)) == "".join(words)
        assert tier.resumed == 1
        assert refusals(gateway, Refusal.EXPIRED) == 1


async def test_a_static_token_is_replaced_while_the_gateway_runs(tmp_path):
    path = tmp_path / "token"
    path.write_text("old")
    gateway = Gateway(gateway_config(token_file=path), ScriptedBackend())
    await gateway.start()
    try:
        async with device(gateway, "old") as old, device(gateway, "new") as new:
            await old.load()
            with pytest.raises(Unauthenticated):
                await new.load()
            path.write_text("new")
            await new.load()
            with pytest.raises(Unauthenticated):
                await old.load()
        assert refusals(gateway, Refusal.TOKEN) == 2
    finally:
        await gateway.stop()
