"""Devices that show the gateway a certificate of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from device_tokens import Call, Signer, auth_settings, write_jwks
from isthmus.cloud.identity import Refusal, Refused
from isthmus.cloud.identity.certificates import CertificateAuthenticator
from isthmus.core.errors import Unauthenticated, Unavailable
from tls_gateways import (
    CA,
    DEVICES_CA,
    REQUEST,
    a_device,
    device,
    pem_of,
    running,
)

pytestmark = pytest.mark.usefixtures("files_always_looked_at")


async def test_a_device_with_a_certificate_gets_in_and_nobody_else_does(mutual):
    async with running(mutual) as gateway:
        async with device(gateway, a_device()) as tier:
            assert [event async for event in tier.generate(REQUEST)]
        now = datetime.now(UTC)
        for wrong in (
            None,
            a_device(ca=CA),
            a_device(ca=trustme.CA()),
            a_device(not_before=now - timedelta(2), not_after=now - timedelta(1)),
        ):
            async with device(gateway, wrong) as tier:
                with pytest.raises(Unavailable):
                    await tier.load()
        assert len(gateway.backend.requests) == 1


@pytest.mark.parametrize(
    "names",
    [
        {"common_name": "phone-7"},
        {"organization_name": "acme"},
        {"common_name": "a/b", "organization_name": "acme"},
    ],
    ids=["no tenant", "no device", "no name"],
)
async def test_a_certificate_that_names_no_device_is_refused(mutual, names):
    issued = DEVICES_CA.issue_cert("phone.invalid", **names)
    async with running(mutual) as gateway, device(gateway, issued) as tier:
        with pytest.raises(Unauthenticated, match="valid credentials"):
            await tier.load()


async def test_tenants_of_certificates_are_kept_apart(mutual):
    async with running(mutual) as gateway:
        for tenant in ("acme", "rival"):
            async with device(gateway, a_device(tenant)) as tier:
                assert [event async for event in tier.generate(REQUEST)]
        salts = {request.cache_salt for request in gateway.backend.requests}
    assert len(salts) == 2


async def test_the_roots_of_devices_are_replaced_while_the_gateway_runs(mutual):
    other_ca = trustme.CA()
    async with running(mutual) as gateway, device(gateway, a_device()) as open_before:
        await open_before.load()
        mutual.client_ca.write_bytes(other_ca.cert_pem.bytes())
        async with device(gateway, a_device(ca=other_ca)) as tier:
            await tier.load()
        async with device(gateway, a_device()) as tier:
            with pytest.raises(Unavailable):
                await tier.load()
        await open_before.load()


async def test_a_revoked_device_is_refused_on_the_connection_that_it_has(mutual, tmp_path):
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    settings = {"auth": {"revoked_file": revoked}}
    async with running(mutual, **settings) as gateway, device(gateway, a_device()) as tier:
        await tier.load()
        revoked.write_text("acme/phone-7\n")
        with pytest.raises(Unauthenticated):
            await tier.load()


def test_a_connection_does_not_outlive_its_certificate():
    now = datetime.now(UTC)
    good = a_device(not_after=now + timedelta(days=1))
    past = a_device(not_before=now - timedelta(days=2), not_after=now - timedelta(seconds=1))
    door = CertificateAuthenticator()
    assert door.authenticate(Call(pem=pem_of(good))).device == "phone-7"
    with pytest.raises(Refused) as caught:
        door.authenticate(Call(pem=pem_of(past)))
    assert caught.value.reason is Refusal.EXPIRED


async def test_a_token_is_good_on_its_own_devices_connection_alone(mutual, tmp_path):
    signer = Signer()
    auth = auth_settings(write_jwks(tmp_path / "jwks", signer))
    async with running(mutual, auth=auth) as gateway:
        async with device(gateway, a_device(), signer.token()) as tier:
            await tier.load()
        for issued, token in (
            (a_device(), None),
            (a_device(name="phone-8"), signer.token()),
            (a_device("rival"), signer.token()),
        ):
            async with device(gateway, issued, token) as tier:
                with pytest.raises(Unauthenticated):
                    await tier.load()


async def test_a_shared_certificate_says_nothing_of_who_calls(mutual, tmp_path):
    signer = Signer()
    auth = auth_settings(write_jwks(tmp_path / "jwks", signer)) | {"shared_certificates": True}
    mesh = DEVICES_CA.issue_cert("mesh.invalid")
    async with running(mutual, auth=auth) as gateway:
        async with device(gateway, mesh, signer.token()) as tier:
            await tier.load()
        async with device(gateway, mesh) as tier:
            with pytest.raises(Unauthenticated):
                await tier.load()


async def test_a_static_token_and_a_certificate_are_both_needed(mutual):
    async with running(mutual, token="hush") as gateway:
        async with device(gateway, a_device(), "hush") as tier:
            await tier.load()
        async with device(gateway, a_device()) as tier:
            with pytest.raises(Unauthenticated):
                await tier.load()
