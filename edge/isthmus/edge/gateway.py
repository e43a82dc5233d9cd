"""How the agent's settings say to reach a gateway: token, certificate, roots, from files that may
change while the agent runs.
"""

from __future__ import annotations

from collections.abc import Callable

from isthmus.core.pem import certificates_of, check_pair
from isthmus.core.watched import Watched, read_bytes, read_secret
from isthmus.edge.config import EdgeConfig
from isthmus.edge.remote import RemoteConfig, Tls


def gateway_of(address: str, config: EdgeConfig) -> RemoteConfig:
    """How to reach the gateway at `address`. Raises `ConfigError` for files that are no use."""
    files = (config.gateway_ca_file, config.gateway_cert_file, config.gateway_key_file)
    named = [path for path in files if path is not None]
    tls = Watched(named, lambda: _read_tls(config)) if named else None
    return RemoteConfig(
        address,
        token=_token_of(config),
        plaintext=config.gateway_plaintext,
        tls=tls,
        broken_s=config.cloud_resume_s,
    )


def _token_of(config: EdgeConfig) -> str | Callable[[], str] | None:
    if (path := config.gateway_token_file) is not None:
        return Watched((path,), lambda: read_secret(path, "gateway_token_file"))
    return None if config.gateway_token is None else config.gateway_token.get_secret_value()


def _read_tls(config: EdgeConfig) -> Tls:
    ca = certificate = key = None
    if config.gateway_ca_file is not None:
        ca = read_bytes(config.gateway_ca_file, "gateway_ca_file")
        certificates_of(ca, "gateway_ca_file")
    if config.gateway_cert_file is not None and config.gateway_key_file is not None:
        certificate = read_bytes(config.gateway_cert_file, "gateway_cert_file")
        key = read_bytes(config.gateway_key_file, "gateway_key_file")
        check_pair(
            certificates_of(certificate, "gateway_cert_file")[0],
            key,
            certificate_field="gateway_cert_file",
            key_field="gateway_key_file",
        )
    return Tls(ca, certificate, key)
