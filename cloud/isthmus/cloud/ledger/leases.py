"""Which gateways live, and what the dead ones left: a request belongs to the gateway that opened
it for as long as that says that it lives.
"""

from __future__ import annotations

import time
from typing import Final

import sqlalchemy as sa

from isthmus.cloud.ledger.counters import Count, forget_old
from isthmus.cloud.ledger.dialect import insert
from isthmus.cloud.ledger.entries import Key, counted, is_row
from isthmus.cloud.ledger.quotas import Use
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, gateways, requests

LEASE_S: Final = 30.0
BEAT_S: Final = 10.0
_AT_A_TIME: Final = 500


def beat(connection: sa.Connection, gateway: str) -> list[tuple[str, str]]:
    """Say that `gateway` lives; the (tenant, device) pairs whose requests have a dead owner."""
    now_ms = clock_ms(connection)
    until_ms = now_ms + int(LEASE_S * 1000)
    renewed = connection.execute(
        sa.update(gateways).where(gateways.c.gateway == gateway).values(alive_until_ms=until_ms)
    )
    if renewed.rowcount == 0:
        connection.execute(
            insert(connection.dialect, gateways)
            .values(gateway=gateway, alive_until_ms=until_ms)
            .on_conflict_do_nothing()
        )
    forget_old(connection, now_ms)
    look = (
        sa.select(requests.c.tenant, requests.c.device)
        .where(requests.c.status == OPEN, _is_orphan(now_ms))
        .distinct()
        .limit(_AT_A_TIME)
    )
    found = [(row.tenant, row.device) for row in connection.execute(look)]
    if not found:
        connection.execute(sa.delete(gateways).where(gateways.c.alive_until_ms < now_ms))
    return found


def reap(connection: sa.Connection, count: Count, devices: list[tuple[str, str]]) -> int:
    """Close what dead gateways left open of these devices, as far as it was written down.

    What an owner says that was dead for a while only, is not heard any more.
    """
    now_ms = clock_ms(connection)
    closed = 0
    for tenant, device in sorted(devices):
        orphans = (
            sa.select(requests)
            .where(
                requests.c.tenant == tenant,
                requests.c.device == device,
                requests.c.status == OPEN,
                _is_orphan(now_ms),
            )
            .order_by(requests.c.request_id)
            .with_for_update()
        )
        for row in connection.execute(orphans).all():
            connection.execute(
                sa.update(requests)
                .where(*is_row(Key(row.tenant, row.device, row.request_id)))
                .values(
                    status=ABANDONED,
                    epoch=row.epoch + 1,
                    settled_ms=count.now_ms,
                )
            )
            was = counted(row)
            change = Use(
                0,
                row.prompt_tokens + row.completion_tokens - was.tokens,
                row.charge_micro_usd - was.micro_usd,
            )
            count.add(tenant, device, row.opened_ms, change, streams=-1)
            closed += 1
    return closed


def leave(connection: sa.Connection, gateway: str) -> None:
    """`gateway` is about to end: what it still has open may be closed by the others."""
    connection.execute(sa.delete(gateways).where(gateways.c.gateway == gateway))


def clock_ms(connection: sa.Connection) -> int:
    """The time that all gateways agree on: PostgreSQL's, or with SQLite that of the one machine."""
    if connection.dialect.name != "postgresql":
        return int(time.time() * 1000)
    seconds = sa.select(sa.extract("epoch", sa.func.clock_timestamp()))
    return int(connection.execute(seconds).scalar_one() * 1000)


def _is_orphan(now_ms: int) -> sa.ColumnElement[bool]:
    living = sa.select(gateways.c.gateway).where(gateways.c.alive_until_ms >= now_ms)
    return requests.c.owner.not_in(living)
