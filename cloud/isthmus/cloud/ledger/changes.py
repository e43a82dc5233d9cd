"""What the ledger's thread is asked to write, and how a handful of it becomes one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from isthmus.cloud.ledger.account import SqlAccount
from isthmus.cloud.ledger.base import Opening
from isthmus.cloud.ledger.counters import Count, Counters
from isthmus.cloud.ledger.entries import (
    Lease,
    checkpoint_rows,
    close_unused,
    open_row,
    settle_row,
)
from isthmus.cloud.ledger.writer import Change
from isthmus.core.decision import Status
from isthmus.core.errors import IsthmusError
from isthmus.core.money import Price, Usage

Devices = Sequence[tuple[str, str]]
"""Tenants and their devices."""


@dataclass(slots=True, eq=False, kw_only=True)
class Open(Change):
    """Reserve, and lease the row."""

    opening: Opening
    price: Price
    lease: Lease | None = None
    """What it was given, if that is in the database."""


@dataclass(slots=True, eq=False, kw_only=True)
class Checkpoint(Change):
    """What was shown by now."""

    account: SqlAccount
    usage: Usage


@dataclass(slots=True, eq=False, kw_only=True)
class Settle(Change):
    """The end of an answer."""

    account: SqlAccount
    usage: Usage
    status: Status


@dataclass(slots=True, eq=False, kw_only=True)
class Call(Change):
    """Anything else; its result is what `run` returns."""

    run: Callable[[sa.Connection, Count], Any]
    devices: Devices = field(default=())
    """Whose quotas it changes."""


def write(
    connection: sa.Connection,
    changes: Sequence[Change],
    *,
    counters: Counters,
    gateway: str,
    now_ms: int,
) -> Callable[[], None]:
    """One transaction of `gateway`; what is returned is for after its commit.

    The locks on quotas come first, then rows, in an order of their own: gateways that share a
    database never wait for each other in a circle.
    """
    opens = [one for one in changes if isinstance(one, Open)]
    settles = [one for one in changes if isinstance(one, Settle)]
    calls = [one for one in changes if isinstance(one, Call)]
    settled = {one.account for one in settles}
    checkpoints = [
        one for one in changes if isinstance(one, Checkpoint) and one.account not in settled
    ]
    devices = [(one.opening.caller.tenant, one.opening.caller.device) for one in opens]
    devices += [one.account.lease.key[:2] for one in settles]
    devices += [device for one in calls for device in one.devices]
    count = counters.count(connection, devices, now_ms)
    for opening in sorted(opens, key=lambda one: one.opening.request_id):
        opening.result, opening.error = None, None
        if opening.given_up:  # it would take the request from whoever has it by now
            if opening.lease is not None:
                close_unused(connection, opening.lease, count)
            continue
        try:
            opening.result = opening.lease = open_row(
                connection, gateway, opening.opening, opening.price, count
            )
        except IsthmusError as error:
            opening.error = error
    lost = checkpoint_rows(connection, [(one.account.lease, one.usage) for one in checkpoints])
    for one in checkpoints:
        one.result = one.account.lease.key not in lost
    for end in sorted(settles, key=lambda one: one.account.lease.key):
        end.result = settle_row(connection, end.account.lease, end.usage, end.status.value, count)
    for call in calls:
        call.result = call.run(connection, count)
    count.write()
    return lambda: counters.committed(count)
