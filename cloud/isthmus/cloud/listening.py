"""Addresses to listen on, looked at before anything is loaded or handed to gRPC.

gRPC writes a line of its own for an address that it cannot have, and has one error for all reasons.
"""

from __future__ import annotations

from isthmus.core.addresses import why_taken
from isthmus.core.errors import Unavailable


def check_free(field: str, address: str | None) -> None:
    """Raise `Unavailable` when nothing can listen at `address`, which the setting `field` names."""
    why = None if address is None else why_taken(address)
    if address is not None and why is not None:
        raise taken(field, address, why)


def taken(field: str, address: str, why: str) -> Unavailable:
    """The error for an address that cannot be listened on."""
    return Unavailable(
        f"cannot listen on {address} ({why}): stop what uses it (another gateway?), or choose "
        f"another {field}",
        field=field,
    )
