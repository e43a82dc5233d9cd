"""Client certificates: who a connection with mutual TLS belongs to.

gRPC has verified the chain and the key before a call comes through; what is read here is the name.
The subject's CN names the device, its O the tenant and its OU the class of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from isthmus.cloud.identity.base import (
    CLASS,
    NAME,
    UNKNOWN_CLASS,
    Caller,
    Metadata,
    Refusal,
    Refused,
)

_AUTH_CONTEXT_KEY: Final = "x509_pem_cert"
_MAX_KNOWN: Final = 16_384


class CertificateAuthenticator:
    """Lets in who came with a client certificate that names a device; it has every scope."""

    def __init__(self, revoked: Callable[[], Set[str]] = frozenset) -> None:
        self._revoked = revoked

    def screen(self, metadata: Metadata) -> None:
        """Metadata tells nothing of the connection, and without a certificate there is none."""

    def authenticate(self, context: Any) -> Caller:
        """The device that the connection's certificate names."""
        shown: Sequence[bytes] = (context.auth_context() or {}).get(_AUTH_CONTEXT_KEY, ())
        if not shown:
            raise Refused(Refusal.MISSING)
        holder = _holder_of(shown[0])
        if holder is None:
            raise Refused(Refusal.CERTIFICATE)
        # The handshake checked this; a connection may outlive its certificate.
        if holder.expires <= datetime.now(UTC):
            raise Refused(Refusal.EXPIRED)
        if f"{holder.caller.tenant}/{holder.caller.device}" in self._revoked():
            raise Refused(Refusal.REVOKED)
        return holder.caller


@dataclass(frozen=True, slots=True)
class _Holder:
    caller: Caller
    expires: datetime


@lru_cache(_MAX_KNOWN)
def _holder_of(pem: bytes) -> _Holder | None:
    """Whom a certificate names; None when it names no device and tenant, or several."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        subject = certificate.subject
        tenant = _only(subject, NameOID.ORGANIZATION_NAME)
        device = _only(subject, NameOID.COMMON_NAME)
        device_class = _only(subject, NameOID.ORGANIZATIONAL_UNIT_NAME)
    except ValueError:
        return None
    if not NAME.fullmatch(tenant) or not NAME.fullmatch(device):
        return None
    named = device_class if CLASS.fullmatch(device_class) else UNKNOWN_CLASS
    return _Holder(Caller(tenant, device, named), certificate.not_valid_after_utc)


def _only(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """The one attribute of this kind; empty when there is none, or more than one."""
    found = subject.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""
