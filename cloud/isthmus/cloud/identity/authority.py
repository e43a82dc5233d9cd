"""A small certificate authority for fleets that have none: one folder, no service.

ca.pem       the root, for the gateway's `tls_client_ca_file` and the devices' `gateway_ca_file`
ca-key.pem   its private key; it never leaves the folder
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.cloud.identity.files import locked, replace, writable, write_key
from isthmus.core.errors import ConfigError

_ROOT_DAYS: Final = 3650
# A device whose clock is a little late takes a certificate of this moment too.
_BEFORE: Final = timedelta(hours=1)


class Authority:
    """Signs certificates with the root in `folder`, which is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root_file = folder / "ca.pem"
        self._key_file = folder / "ca-key.pem"

    def device(
        self, into: Path, tenant: str, device: str, *, device_class: str, days: int
    ) -> list[Path]:
        """Write `device.pem`, `device-key.pem` and `ca.pem` into a folder: what a device shows."""
        subject = _name(
            (NameOID.ORGANIZATION_NAME, tenant),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, device_class),
            (NameOID.COMMON_NAME, device),
        )
        return self._issue(into, "device", subject, ExtendedKeyUsageOID.CLIENT_AUTH, (), days)

    def server(self, into: Path, hosts: Sequence[str], *, days: int) -> list[Path]:
        """Write `server.pem`, `server-key.pem` and `ca.pem`: what a gateway at `hosts` shows."""
        subject = _name((NameOID.COMMON_NAME, "isthmus gateway"))
        return self._issue(into, "server", subject, ExtendedKeyUsageOID.SERVER_AUTH, hosts, days)

    def _issue(
        self,
        into: Path,
        name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        hosts: Sequence[str],
        days: int,
    ) -> list[Path]:
        root, root_key = self._root()
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, root.subject, key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
                critical=False,
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(root_key, hashes.SHA256())
        files = [into / f"{name}.pem", into / f"{name}-key.pem", into / "ca.pem"]
        with writable(into):
            write_key(files[1], key)
            replace(files[0], _pem(certificate), mode=0o644)
            if files[2].resolve() != self.root_file.resolve():
                replace(files[2], _pem(root), mode=0o644)
        return files

    def _root(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        with locked(self.folder):
            if not self._key_file.exists():
                self._make_root()
        try:
            root = x509.load_pem_x509_certificate(self.root_file.read_bytes())
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{self.folder} holds no root that can be used", field="folder")
        return root, key

    def _make_root(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name((NameOID.COMMON_NAME, f"Isthmus fleet {datetime.now(UTC):%Y-%m-%d}"))
        root = (
            _builder(subject, subject, key, _ROOT_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        replace(self.root_file, _pem(root), mode=0o644)
        write_key(self._key_file, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
