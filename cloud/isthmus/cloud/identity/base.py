"""Who is calling: a device of a tenant, with what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


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
    device_class: str = "unknown"
    """A kind of device, e.g. `phone`: few of them, so that they may be labels."""
    scopes: frozenset[Scope] = frozenset(Scope)


class Authenticator(Protocol):
    """Tells who is calling from a call's metadata and its connection."""

    def authenticate(self, context: Any) -> Caller:
        """The caller of a `grpc.aio.ServicerContext`. Raises `Unauthenticated`."""
        ...
