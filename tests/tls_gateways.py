"""Gateways with TLS, and the certificates of devices, for tests."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trustme

from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import chat
from isthmus.edge.remote import RemoteConfig, RemoteTier, Tls

REQUEST = chat.ChatRequest("r1", (chat.Message(chat.Role.USER, (chat.TextPart("Hello"),)),))
CA = trustme.CA()
DEVICES_CA = trustme.CA()
ROOTS = CA.cert_pem.bytes()


def pem_of(issued):
    return b"".join(part.bytes() for part in issued.cert_chain_pems)


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


def ended(ca=CA):
    now = datetime.now(UTC)
    return ca.issue_cert(
        "127.0.0.1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
    )
