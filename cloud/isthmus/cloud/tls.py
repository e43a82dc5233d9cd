"""TLS of the gateway: a certificate that is replaced on disk serves the next connection.

Connections that are open keep what they were opened with. gRPC speaks TLS 1.2 and 1.3 alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
from cryptography import x509

from isthmus.core.pem import certificates_of, check_pair
from isthmus.core.watched import Watched, read_bytes


@dataclass(frozen=True, slots=True)
class _Loaded:
    configuration: grpc.ServerCertificateConfiguration
    expires_unix_s: dict[str, float]
    """When the first certificate of each kind ends."""


class ServerTls:
    """The gateway's certificate and key, and for mutual TLS the roots of its clients'."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None = None,
        on_read: Callable[[str, bool], None] = lambda setting, good: None,
    ) -> None:
        """Raises `ConfigError` for files that cannot be used, or not together."""
        self._mutual = client_ca is not None
        self._files = Watched(
            [path for path in (certificate, key, client_ca) if path is not None],
            lambda: _load(certificate, key, client_ca),
            on_read=lambda good: on_read("tls_cert_file", good),
        )
        self._given: _Loaded | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that look at the files whenever a connection opens."""
        self._given = self._files()
        # None means no change, which the stubs do not say.
        fetch = cast(Callable[[], grpc.ServerCertificateConfiguration], self._fetch)
        return grpc.dynamic_ssl_server_credentials(
            self._given.configuration, fetch, require_client_authentication=self._mutual
        )

    def expires_in_s(self) -> dict[str, float]:
        """The seconds until the certificates end: `server`, and `client_ca` with mutual TLS."""
        now_s = time.time()
        return {name: at_s - now_s for name, at_s in self._files().expires_unix_s.items()}

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since the last connection; called by gRPC from threads of its own."""
        loaded = self._files()
        if loaded is self._given:
            return None
        self._given = loaded
        return loaded.configuration


def _load(certificate: Path, key: Path, client_ca: Path | None) -> _Loaded:
    chain_pem = read_bytes(certificate, "tls_cert_file")
    key_pem = read_bytes(key, "tls_key_file")
    chain = certificates_of(chain_pem, "tls_cert_file")
    check_pair(chain[0], key_pem, certificate_field="tls_cert_file", key_field="tls_key_file")
    expires_unix_s = {"server": _first_end_s(chain)}
    roots_pem = None
    if client_ca is not None:
        roots_pem = read_bytes(client_ca, "tls_client_ca_file")
        roots = certificates_of(roots_pem, "tls_client_ca_file")
        expires_unix_s["client_ca"] = _first_end_s(roots)
    configuration = grpc.ssl_server_certificate_configuration([(key_pem, chain_pem)], roots_pem)
    return _Loaded(configuration, expires_unix_s)


def _first_end_s(certificates: Sequence[x509.Certificate]) -> float:
    return min(one.not_valid_after_utc for one in certificates).timestamp()
