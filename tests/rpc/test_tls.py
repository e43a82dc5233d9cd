"""TLS of the gateway with real gRPC: certificates that are replaced, and what is not spoken."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from isthmus.cloud.testing import ScriptedBackend
from isthmus.core.addresses import split
from isthmus.core.errors import ConfigError, Unavailable
from isthmus.edge.remote import RemoteConfig, RemoteTier
from tls_gateways import (
    CA,
    REQUEST,
    ROOTS,
    device,
    ended,
    pem_of,
    running,
)

pytestmark = pytest.mark.usefixtures("files_always_looked_at")


def serial_of(issued):
    return x509.load_pem_x509_certificate(pem_of(issued)).serial_number


def tls_client():
    context = ssl.create_default_context(cadata=ROOTS.decode())
    context.set_alpn_protocols(["h2"])
    return context


async def serial_shown(address, context=None):
    """The serial number of the certificate that a new connection is shown."""
    context = context or tls_client()
    host, port = split(address)
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(shown).serial_number


# --- certificates that are replaced ---


async def test_new_connections_get_the_new_certificate_and_old_ones_live(tls_files):
    old = tls_files.put(CA.issue_cert("127.0.0.1"))
    backend = ScriptedBackend(["a", "b", "c"], delay_s=0.05)
    async with running(tls_files, backend) as gateway, device(gateway) as tier:
        assert await serial_shown(gateway.address) == serial_of(old)
        answer = tier.generate(REQUEST)
        await anext(answer)
        new = tls_files.put(CA.issue_cert("127.0.0.1"))
        assert await serial_shown(gateway.address) == serial_of(new)
        assert len([event async for event in answer]) == 4  # three words and the end
        await tier.load()
        async with device(gateway) as later:
            await later.load()
        counted = gateway.metrics.registry.get_sample_value(
            "isthmus_cloud_files_read_again_total", {"setting": "tls_cert_file", "result": "good"}
        )
        assert counted >= 1


async def test_half_of_a_pair_is_not_taken(tls_files):
    old = tls_files.put(CA.issue_cert("127.0.0.1"))
    new = CA.issue_cert("127.0.0.1")
    async with running(tls_files) as gateway:
        tls_files.cert.write_bytes(pem_of(new))
        assert await serial_shown(gateway.address) == serial_of(old)
        tls_files.key.write_bytes(new.private_key_pem.bytes())
        assert await serial_shown(gateway.address) == serial_of(new)


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nno\n"])
async def test_a_broken_certificate_is_not_taken(tls_files, broken):
    old = tls_files.put(CA.issue_cert("127.0.0.1"))
    async with running(tls_files) as gateway:
        tls_files.cert.write_bytes(broken)
        assert await serial_shown(gateway.address) == serial_of(old)
        tls_files.cert.unlink()
        assert await serial_shown(gateway.address) == serial_of(old)


async def test_an_ended_certificate_is_not_taken(tls_files):
    old = tls_files.put(CA.issue_cert("127.0.0.1"))
    async with running(tls_files) as gateway:
        tls_files.put(ended())
        assert await serial_shown(gateway.address) == serial_of(old)


async def test_a_start_with_files_that_are_no_use_names_the_setting(tls_files):
    other = CA.issue_cert("127.0.0.1")
    good_cert, good_key = tls_files.cert.read_bytes(), tls_files.key.read_bytes()
    for cert, key, field, why in (
        (good_cert, other.private_key_pem.bytes(), "tls_key_file", "not the key of"),
        (good_cert, b"no", "tls_key_file", "no private key"),
        (b"no", good_key, "tls_cert_file", "no certificates"),
        (pem_of(ended()), good_key, "tls_cert_file", "ended on"),
    ):
        tls_files.cert.write_bytes(cert)
        tls_files.key.write_bytes(key)
        with pytest.raises(ConfigError, match=why) as caught:
            async with running(tls_files):
                pass
        assert caught.value.field == field
    tls_files.cert.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        async with running(tls_files):
            pass


async def test_a_metric_tells_when_the_certificates_end(mutual):
    at = datetime.now(UTC) + timedelta(days=10)
    mutual.put(CA.issue_cert("127.0.0.1", not_after=at))
    async with running(mutual) as gateway:

        def left_s(kind):
            return gateway.metrics.registry.get_sample_value(
                "isthmus_cloud_certificate_expires_in_seconds", {"certificate": kind}
            )

        assert left_s("server") == pytest.approx(10 * 86_400, abs=60)
        assert left_s("client_ca") > left_s("server")
        mutual.put(CA.issue_cert("127.0.0.1", not_after=at + timedelta(days=10)))
        assert left_s("server") == pytest.approx(20 * 86_400, abs=60)


# --- what is not spoken ---


async def test_old_tls_is_not_spoken(tls_files):
    client = tls_client()
    client.set_ciphers("ALL:@SECLEVEL=0")
    async with running(tls_files) as gateway:
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await serial_shown(gateway.address, client)
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            client.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            client.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await serial_shown(gateway.address, client)


async def test_plain_text_is_not_spoken_where_there_is_a_certificate(tls_files):
    async with running(tls_files) as gateway:
        plain = RemoteTier(RemoteConfig(gateway.address))
        with pytest.raises(Unavailable):
            await plain.load()
        await plain.close()
