"""Certificates and keys in PEM that settings name: what both ends of a TLS connection check."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from isthmus.core.errors import ConfigError


def certificates_of(pem: bytes, field: str) -> Sequence[x509.Certificate]:
    """The certificates in `pem`, the holder's first. Raises `ConfigError`, too when one ended."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ConfigError(f"{field} holds no certificates in PEM", field=field) from None
    first_end = min(one.not_valid_after_utc for one in found)
    if first_end.timestamp() <= time.time():
        raise ConfigError(f"{field}: a certificate ended on {first_end:%Y-%m-%d}", field=field)
    return found


def check_pair(
    certificate: x509.Certificate, key_pem: bytes, *, certificate_field: str, key_field: str
) -> None:
    """Raise `ConfigError` unless `key_pem` is the key of `certificate`.

    While the two are being replaced they are not, for a moment.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):  # the latter when it is encrypted
        raise ConfigError(
            f"{key_field} holds no private key in PEM that opens without a password",
            field=key_field,
        ) from None
    if _spki(key.public_key()) != _spki(certificate.public_key()):
        raise ConfigError(f"{key_field} is not the key of {certificate_field}", field=key_field)


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
