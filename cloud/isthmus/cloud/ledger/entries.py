"""One request's row: opened, taken over, checkpointed, settled. Every write names its epoch.

The functions run inside a transaction of the writer's; a write that finds another epoch or another
owner changes nothing, and that is how a gateway learns that its lease is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import Opening
from isthmus.cloud.ledger.counters import Count
from isthmus.cloud.ledger.dialect import insert
from isthmus.cloud.ledger.memory import refuse_another, shown
from isthmus.cloud.ledger.prepared import Prepared
from isthmus.cloud.ledger.quotas import Use
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, requests
from isthmus.core.decision import Status
from isthmus.core.errors import QuotaExceeded
from isthmus.core.money import MICRO_USD_PER_USD, Price, Usage

_MOST: Final = 2**53
"""More tokens than this are an upstream's mistake; a column holds them all the same."""


class Key(NamedTuple):
    """Names a request. Sorts, so that gateways lock rows in one order."""

    tenant: str
    device: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one request's row, and what the row began with."""

    key: Key
    owner: str
    epoch: int
    price: Price
    opened_ms: int
    base: Usage
    """What earlier attempts brought, as the device says."""
    reserved: Use
    charged_micro_usd: int
    """What an earlier attempt was settled at."""
    floor: Usage
    """What a gateway has written down of them itself: the device cannot talk that down by asking
    again."""

    def owed(self, usage: Usage) -> Usage:
        """What is charged when `usage` is shown."""
        return max(usage, self.floor, key=lambda one: one.total_tokens)


def open_row(
    connection: sa.Connection, owner: str, opening: Opening, price: Price, count: Count
) -> Lease:
    """A new row, or the row that is there, taken over.

    Raises `QuotaExceeded` and `AlreadyExists`.
    """
    caller = opening.caller
    key = Key(caller.tenant, caller.device, opening.request_id)
    reserved = _reserved(price, opening.prompt_tokens, opening.max_tokens)
    refusal: QuotaExceeded | None = None
    try:
        count.check(key.tenant, key.device, reserved, streams=1)
    except QuotaExceeded as error:
        refusal = error
    else:
        lease = Lease(key, owner, 1, price, count.now_ms, Usage(), reserved, 0, Usage())
        # Asked of the database: what a driver counts of an insert says nothing.
        if _OPEN_ROW.run(connection, _new(lease, opening)).row is not None:
            count.add(key.tenant, key.device, count.now_ms, reserved, streams=1)
            return lease
    there = sa.select(requests).where(*is_row(key)).with_for_update()
    row = connection.execute(there).one_or_none()
    if row is not None:
        return _take_over(connection, owner, opening, row, count)
    if refusal is None:
        raise LookupError("the row that kept another out is gone")
    raise refusal


def _take_over(
    connection: sa.Connection, owner: str, opening: Opening, row: sa.Row[Any], count: Count
) -> Lease:
    refuse_another(row.body_hash, opening, row.epoch)
    key = Key(row.tenant, row.device, row.request_id)
    price = price_of(row)
    received = _bounded(opening.received_tokens)
    base = Usage(row.prompt_tokens, received, row.cached_tokens)
    # Only a kill, which no device brings about, can have cost it tokens that were written down.
    killed = not row.reconciled and (
        row.status == ABANDONED or (row.status == OPEN and row.owner != owner)
    )
    floor = Usage() if killed else replace(base, completion_tokens=row.completion_tokens)
    was = counted(row)
    prompt_tokens = max(row.prompt_tokens, opening.prompt_tokens)
    reserved = _reserved(price, prompt_tokens, received + opening.max_tokens, requests=0)
    more = Use(0, reserved.tokens - was.tokens, reserved.micro_usd - was.micro_usd)
    streams = 0 if row.status == OPEN else 1
    count.check(key.tenant, key.device, more, streams)
    count.add(key.tenant, key.device, row.opened_ms, more, streams=streams)
    charged = 0 if row.status in {OPEN, ABANDONED} else row.charge_micro_usd
    lease = Lease(key, owner, row.epoch + 1, price, row.opened_ms, base, reserved, charged, floor)
    connection.execute(
        sa.update(requests)
        .where(*is_row(key))
        .values(
            owner=owner,
            epoch=lease.epoch,
            status=OPEN,
            settled_ms=None,
            reconciled=False,
            reserved_tokens=reserved.tokens,
            reserved_micro_usd=reserved.micro_usd,
            **shown_values(lease.owed(base), price),
        )
    )
    return lease


_OPEN_ROW: Final = Prepared(
    lambda dialect: insert(dialect, requests).on_conflict_do_nothing().returning(requests.c.epoch),
)
_SHOWN: Final = (
    "began",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "charge_micro_usd",
)
_OURS: Final = sa.update(requests).where(
    *(
        requests.c[name] == sa.bindparam(f"b_{name}")
        for name in ("tenant", "device", "request_id", "owner", "epoch")
    ),
    requests.c.status == OPEN,
)


def _ours(*names: str) -> Prepared:
    statement = _OURS.values({name: sa.bindparam(f"b_{name}") for name in names})
    return Prepared(lambda dialect: statement)


_CHECKPOINT: Final = _ours(*_SHOWN)
_SETTLE: Final = _ours(*_SHOWN, "status", "settled_ms")


def checkpoint_rows(
    connection: sa.Connection, shown: Sequence[tuple[Lease, Usage]]
) -> frozenset[Key]:
    """Put down what was shown so far; the requests that belong to somebody else by now."""
    if not shown:
        return frozenset()
    ordered = sorted(shown, key=lambda one: one[0].key)
    values = [
        _written(lease, shown_values(lease.owed(usage), lease.price)) for lease, usage in ordered
    ]
    if _CHECKPOINT.run(connection, *values).rows == len(values):
        return frozenset()
    return frozenset(lease.key for lease, _ in ordered if not _holds(connection, lease))


def settle_row(
    connection: sa.Connection, lease: Lease, usage: Usage, status: str, count: Count
) -> tuple[int, bool]:
    """Close the row with all that was shown: what it costs, and whether it was still ours.

    Done again, it changes nothing and tells the same.
    """
    usage = lease.owed(usage)
    values = shown_values(usage, lease.price)
    ended = {"status": status, "settled_ms": count.now_ms}
    if _SETTLE.run(connection, _written(lease, values | ended)).rows == 1:
        charge = int(values["charge_micro_usd"])
        less = Use(
            0,
            min(usage.total_tokens, 2 * _MOST) - lease.reserved.tokens,
            charge - lease.reserved.micro_usd,
        )
        count.add(lease.key.tenant, lease.key.device, lease.opened_ms, less, streams=-1)
        return charge, True
    row = connection.execute(sa.select(requests).where(*is_row(lease.key))).one_or_none()
    if row is None:
        return 0, False
    return row.charge_micro_usd, (row.owner, row.epoch) == (lease.owner, lease.epoch)


def close_unused(connection: sa.Connection, lease: Lease, count: Count) -> None:
    """Close a row that was opened for nobody, if it is there: earlier attempts are charged."""
    settle_row(connection, lease, shown(lease.base, Status.FAILED), Status.FAILED.value, count)


def counted(row: sa.Row[Any]) -> Use:
    """What quotas count of a row: while it is open, the most that it may become."""
    if row.status == OPEN:
        return Use(0, row.reserved_tokens, row.reserved_micro_usd)
    return Use(0, row.prompt_tokens + row.completion_tokens, row.charge_micro_usd)


def _reserved(price: Price, prompt_tokens: int, most_tokens: int, requests: int = 1) -> Use:
    most = Usage(_bounded(prompt_tokens), _bounded(most_tokens))
    return Use(requests, most.total_tokens, price.cost_micro_usd(most))


def _bounded(tokens: int) -> int:
    return min(max(0, tokens), _MOST)


def closed_row(
    key: Key,
    *,
    owner: str,
    body_hash: bytes,
    model: str,
    price: Price,
    opened_ms: int,
    usage: Usage,
    status: str,
    now_ms: int,
) -> dict[str, Any]:
    """The columns of a request that ended before its row was made."""
    opening = Opening(Caller(key.tenant, key.device), key.request_id, body_hash, model, 0, 0)
    lease = Lease(key, owner, 1, price, opened_ms, Usage(), Use(), 0, Usage())
    ended = {"status": status, "settled_ms": now_ms}
    return _new(lease, opening) | ended | shown_values(usage, price)


def _new(lease: Lease, opening: Opening) -> dict[str, Any]:
    day = datetime.fromtimestamp(lease.opened_ms / 1000, UTC).date()
    price = lease.price
    return {
        **lease.key._asdict(),
        "body_hash": opening.body_hash,
        "model": opening.model,
        "day": day.isoformat(),
        "opened_ms": lease.opened_ms,
        "owner": lease.owner,
        "epoch": lease.epoch,
        "input_rate": _rate(price.input_usd_per_mtok),
        "cached_rate": _rate(
            price.input_usd_per_mtok
            if price.cached_usd_per_mtok is None
            else price.cached_usd_per_mtok
        ),
        "output_rate": _rate(price.output_usd_per_mtok),
        "reserved_tokens": lease.reserved.tokens,
        "reserved_micro_usd": lease.reserved.micro_usd,
        "status": OPEN,
        "settled_ms": None,
        "reconciled": False,
        **shown_values(Usage(), price),
    }


def shown_values(usage: Usage, price: Price) -> dict[str, Any]:
    """The columns for what was shown."""
    told = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    usage = Usage(*map(_bounded, told))
    return {
        "began": usage.completion_tokens > 0,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "charge_micro_usd": price.cost_micro_usd(usage),
    }


def _written(lease: Lease, values: dict[str, Any]) -> dict[str, Any]:
    """The values of `_OURS`."""
    named = {**lease.key._asdict(), "owner": lease.owner, "epoch": lease.epoch, **values}
    return {f"b_{name}": value for name, value in named.items()}


def _holds(connection: sa.Connection, lease: Lease) -> bool:
    mine = sa.select(requests.c.epoch).where(*is_row(lease.key), *_leased(lease))
    return connection.execute(mine).one_or_none() is not None


def _leased(lease: Lease) -> list[sa.ColumnElement[bool]]:
    return [
        requests.c.owner == lease.owner,
        requests.c.epoch == lease.epoch,
        requests.c.status == OPEN,
    ]


def is_row(key: Key) -> list[sa.ColumnElement[bool]]:
    """Finds the row of a request."""
    return [requests.c[name] == value for name, value in key._asdict().items()]


def _rate(usd_per_mtok: Decimal) -> int:
    return int(usd_per_mtok * MICRO_USD_PER_USD)


def price_of(row: sa.Row[Any]) -> Price:
    """What a request is charged at."""
    rates = (row.input_rate, row.output_rate, row.cached_rate)
    return Price(*(Decimal(rate) / MICRO_USD_PER_USD for rate in rates))
