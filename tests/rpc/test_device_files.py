"""The device's own files: its certificate, its token, and the roots that it trusts."""

from __future__ import annotations

import asyncio

import pytest

from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core.errors import ConfigError, Unauthenticated, Unavailable
from isthmus.edge.config import EdgeConfig
from isthmus.edge.gateway import gateway_of
from isthmus.edge.remote import RemoteTier
from tls_gateways import (
    REQUEST,
    ROOTS,
    a_device,
    ended,
    pem_of,
    running,
)

pytestmark = pytest.mark.usefixtures("files_always_looked_at")


@pytest.fixture
def edge(tmp_path):
    """Settings of an agent whose files lie in a folder of their own."""
    folder = tmp_path / "edge"
    folder.mkdir()
    (folder / "revoked").write_text("")
    (folder / "ca.pem").write_bytes(ROOTS)
    names = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    return folder, {f"gateway_{name}_file": folder / file for name, file in names.items()}


def put_device(folder, issued):
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "cert.pem").write_bytes(pem_of(issued))


async def test_a_device_renews_its_certificate_without_a_restart(mutual, edge):
    folder, settings = edge
    put_device(folder, a_device(name="old"))
    backend = ScriptedBackend(["a", "b", "c"], delay_s=0.05)
    async with running(mutual, backend, auth={"revoked_file": folder / "revoked"}) as gateway:
        tier = RemoteTier(gateway_of(gateway.address, EdgeConfig(**settings)))
        answer = tier.generate(REQUEST)
        await anext(answer)
        put_device(folder, a_device(name="new"))
        (folder / "revoked").write_text("acme/old\n")
        await tier.load()  # by the new one: the old one is revoked
        assert len([event async for event in answer]) == 4
        await tier.close()


async def _drained(answer):
    async for _ in answer:
        pass


async def test_closing_ends_answers_on_a_connection_that_was_replaced(mutual, edge):
    folder, settings = edge
    put_device(folder, a_device(name="old"))
    backend = ScriptedBackend(["a"] * 1000, delay_s=0.02)
    async with running(mutual, backend) as gateway:
        tier = RemoteTier(gateway_of(gateway.address, EdgeConfig(**settings)))
        answer = tier.generate(REQUEST)
        await anext(answer)
        put_device(folder, a_device(name="new"))
        await tier.load()
        await tier.close()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(_drained(answer), 5)


async def test_a_device_renews_its_token_without_a_restart(tmp_path):
    path = tmp_path / "device-token"
    path.write_text("old")
    gateway = Gateway(gateway_config(token="new"), ScriptedBackend())
    await gateway.start()
    tier = RemoteTier(gateway_of(gateway.address, EdgeConfig(gateway_token_file=path)))
    with pytest.raises(Unauthenticated):
        await tier.load()
    path.write_text("new\n")
    await tier.load()
    await tier.close()
    await gateway.stop()


def test_an_agents_files_that_are_no_use_name_the_setting(edge, tmp_path):
    folder, settings = edge
    put_device(folder, a_device())
    good = {path: path.read_bytes() for path in folder.glob("*.pem")}
    for name, content, field in (
        ("ca.pem", b"no", "gateway_ca_file"),
        ("cert.pem", pem_of(ended()), "gateway_cert_file"),
        ("key.pem", a_device().private_key_pem.bytes(), "gateway_key_file"),
        ("key.pem", None, "gateway_key_file"),
    ):
        path = folder / name
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            gateway_of("h:1", EdgeConfig(**settings))
        assert caught.value.field == field
        path.write_bytes(good[path])
    with pytest.raises(ConfigError) as caught:
        gateway_of("h:1", EdgeConfig(gateway_token_file=tmp_path / "none"))
    assert caught.value.field == "gateway_token_file"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"gateway_cert_file": "c"}, "gateway_cert_file"),
        ({"gateway_token": "t", "gateway_token_file": "f"}, "gateway_token"),
        (
            {"gateway_plaintext": True, "gateway_cert_file": "c", "gateway_key_file": "k"},
            "gateway_plaintext",
        ),
    ],
)
def test_settings_of_an_agent_that_contradict_each_other_are_named(settings, name):
    with pytest.raises(ConfigError) as caught:
        EdgeConfig.load(flags=settings)
    assert caught.value.field == name
