"""Who is calling: a device of a tenant, with what it may do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from isthmus.core.errors import Unauthenticated

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)
"""What may name a tenant or a device: safe in a log, a file's name, a path and a query."""
CLASS: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
"""What may name a class of devices."""
UNKNOWN_CLASS: Final = "unknown"


class Scope(StrEnum):
    """What a caller may ask for."""

    GENERATE = "generate"
    """`Generate`, `GetModelInfo` and `GetLoad`."""
    REPORT = "report"
    """`ReportOutcomes`."""
    SYNC = "sync"
    """`SyncDevice`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A device that was let in."""

    tenant: str = "local"
    """Who pays; quotas, the ledger and the salt of prefix caches hang on it."""
    device: str = "anonymous"
    """Unique within the tenant. Never a label of a metric."""
    device_class: str = UNKNOWN_CLASS
    """A kind of device, e.g. `phone`: few of them, so that they may be labels."""
    scopes: frozenset[Scope] = frozenset(Scope)


class Refusal(StrEnum):
    """Why a call was refused: for the operator's metric alone, never for the caller."""

    MISSING = "missing"
    """Nothing was shown."""
    MALFORMED = "malformed"
    """What was shown is too long, doubled, or no token at all."""
    TOKEN = "token"
    """It is not the static token."""
    ALGORITHM = "algorithm"
    """Signed by an algorithm that is not allowed, or not signed."""
    KEY = "key"
    """Signed by a key that is not in the set."""
    SIGNATURE = "signature"
    EXPIRED = "expired"
    EARLY = "early"
    """Not valid yet."""
    AUDIENCE = "audience"
    ISSUER = "issuer"
    CLAIMS = "claims"
    """Well signed, but without a device or a tenant, or with names that cannot be such."""
    REVOKED = "revoked"
    CERTIFICATE = "certificate"
    """The connection's certificate names no device, or another one than the token."""
    SCOPE = "scope"
    """Known, but not allowed to make this call."""
    FAULT = "fault"
    """The gateway failed to look; its log says where."""


_ALIKE: Final = "valid credentials are needed: a bearer token in the authorization metadata, or a \
client certificate, as this gateway asks for"


class Refused(Unauthenticated):
    """The caller is not let in. All look alike from outside; `reason` is for the metric."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(_ALIKE)
        self.reason = reason


Metadata = Iterable[tuple[str, str | bytes]] | None
"""What gRPC tells of a call's metadata."""


class Authenticator(Protocol):
    """Tells who is calling from a call's metadata and its connection."""

    def screen(self, metadata: Metadata) -> None:
        """Look at what a call's metadata alone tells, before its message is read.

        Raises `Refused`.
        """
        ...

    def authenticate(self, context: Any) -> Caller:
        """The caller of a `grpc.aio.ServicerContext`. Raises `Refused`."""
        ...
