"""TLS of the gateway with real gRPC: certificates that are replaced, and clients that show one."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509

from device_tokens import Call, Signer, auth_settings, write_jwks
from isthmus.cloud.identity import Refusal, Refused
from isthmus.cloud.identity.certificates import CertificateAuthenticator
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import chat
from isthmus.core.addresses import split
from isthmus.core.errors import ConfigError, Unauthenticated, Unavailable
from isthmus.edge.config import EdgeConfig
from isthmus.edge.gateway import gateway_of
from isthmus.edge.remote import RemoteConfig, RemoteTier, Tls

REQUEST = chat.ChatRequest("r1", (chat.Message(chat.Role.USER, (chat.TextPart("Hello"),)),))
CA = trustme.CA()
DEVICES_CA = trustme.CA()
ROOTS = CA.cert_pem.bytes()


@pytest.fixture(autouse=True)
def _files_are_always_looked_at(monkeypatch):
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 0.0)


def pem_of(issued):
    return b"".join(part.bytes() for part in issued.cert_chain_pems)


def serial_of(issued):
    return x509.load_pem_x509_certificate(pem_of(issued)).serial_number


@dataclass
class Files:
    """The gateway's TLS files in a folder."""

    folder: object

    def __post_init__(self):
        self.cert, self.key = self.folder / "cert.pem", self.folder / "key.pem"
        self.client_ca = self.folder / "client_ca.pem"

    def put(self, issued):
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.cert.write_bytes(pem_of(issued))
        return issued

    def settings(self, **more):
        files = {"tls_cert_file": self.cert, "tls_key_file": self.key}
        if self.client_ca.exists():
            files["tls_client_ca_file"] = self.client_ca
        return files | more


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path)
    files.put(CA.issue_cert("127.0.0.1"))
    return files


@pytest.fixture
def mutual(files):
    files.client_ca.write_bytes(DEVICES_CA.cert_pem.bytes())
    return files


@asynccontextmanager
async def running(files, backend=None, **settings):
    gateway = Gateway(gateway_config(**files.settings(**settings)), backend or ScriptedBackend())
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


def a_device(tenant="acme", name="phone-7", ca=DEVICES_CA, **more):
    return ca.issue_cert(f"{name}.invalid", common_name=name, organization_name=tenant, **more)


@asynccontextmanager
async def device(gateway, issued=None, token=None):
    shown = {}
    if issued is not None:
        shown = {"certificate": pem_of(issued), "key": issued.private_key_pem.bytes()}
    tier = RemoteTier(RemoteConfig(gateway.address, token=token, tls=Tls(ROOTS, **shown)))
    try:
        yield tier
    finally:
        await tier.close()


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


async def test_new_connections_get_the_new_certificate_and_old_ones_live(files):
    old = files.put(CA.issue_cert("127.0.0.1"))
    backend = ScriptedBackend(["a", "b", "c"], delay_s=0.05)
    async with running(files, backend) as gateway, device(gateway) as tier:
        assert await serial_shown(gateway.address) == serial_of(old)
        answer = tier.generate(REQUEST)
        await anext(answer)
        new = files.put(CA.issue_cert("127.0.0.1"))
        assert await serial_shown(gateway.address) == serial_of(new)
        assert len([event async for event in answer]) == 4  # three words and the end
        await tier.load()
        async with device(gateway) as later:
            await later.load()
        counted = gateway.metrics.registry.get_sample_value(
            "isthmus_cloud_files_read_again_total", {"setting": "tls_cert_file", "result": "good"}
        )
        assert counted >= 1


async def test_half_of_a_pair_is_not_taken(files):
    old = files.put(CA.issue_cert("127.0.0.1"))
    new = CA.issue_cert("127.0.0.1")
    async with running(files) as gateway:
        files.cert.write_bytes(pem_of(new))
        assert await serial_shown(gateway.address) == serial_of(old)
        files.key.write_bytes(new.private_key_pem.bytes())
        assert await serial_shown(gateway.address) == serial_of(new)


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nno\n"])
async def test_a_broken_certificate_is_not_taken(files, broken):
    old = files.put(CA.issue_cert("127.0.0.1"))
    async with running(files) as gateway:
        files.cert.write_bytes(broken)
        assert await serial_shown(gateway.address) == serial_of(old)
        files.cert.unlink()
        assert await serial_shown(gateway.address) == serial_of(old)


def ended(ca=CA):
    now = datetime.now(UTC)
    return ca.issue_cert(
        "127.0.0.1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
    )


async def test_an_ended_certificate_is_not_taken(files):
    old = files.put(CA.issue_cert("127.0.0.1"))
    async with running(files) as gateway:
        files.put(ended())
        assert await serial_shown(gateway.address) == serial_of(old)


async def test_a_start_with_files_that_are_no_use_names_the_setting(files):
    other = CA.issue_cert("127.0.0.1")
    good_cert, good_key = files.cert.read_bytes(), files.key.read_bytes()
    for cert, key, field, why in (
        (good_cert, other.private_key_pem.bytes(), "tls_key_file", "not the key of"),
        (good_cert, b"no", "tls_key_file", "no private key"),
        (b"no", good_key, "tls_cert_file", "no certificates"),
        (pem_of(ended()), good_key, "tls_cert_file", "ended on"),
    ):
        files.cert.write_bytes(cert)
        files.key.write_bytes(key)
        with pytest.raises(ConfigError, match=why) as caught:
            async with running(files):
                pass
        assert caught.value.field == field
    files.cert.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        async with running(files):
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


async def test_old_tls_is_not_spoken(files):
    client = tls_client()
    client.set_ciphers("ALL:@SECLEVEL=0")
    async with running(files) as gateway:
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await serial_shown(gateway.address, client)
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            client.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            client.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await serial_shown(gateway.address, client)


async def test_plain_text_is_not_spoken_where_there_is_a_certificate(files):
    async with running(files) as gateway:
        plain = RemoteTier(RemoteConfig(gateway.address))
        with pytest.raises(Unavailable):
            await plain.load()
        await plain.close()


# --- clients that show a certificate ---


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


# --- the device's files ---


@pytest.fixture
def edge(tmp_path, files):
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
