"""Who used what: the ledger, summed up by tenant, device, model and day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from isthmus.cloud.ledger.database import mapped
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, requests, usage_days


class Dimension(StrEnum):
    """What usage is summed up by."""

    TENANT = "tenant"
    DEVICE = "device"
    MODEL = "model"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests are summed up. Days are those of UTC on which they were asked."""

    since: date | None = None
    until: date | None = None
    """The last day."""
    tenant: str | None = None
    device: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one group used."""

    group: dict[str, str]
    """The names of the dimensions asked for."""
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    charge_micro_usd: int
    open_requests: int
    """Still being answered: charged as far as they have come."""
    cut_off_requests: int
    """Whose gateway died, and whose device has not said yet what it received."""


def usage(engine: sa.Engine, by: Sequence[Dimension], wanted: Wanted) -> list[UsageRow]:
    """One row a group, in the order of its names. Raises `Unavailable`, and `InternalError` when
    the database is no ledger.
    """
    waits = sa.and_(requests.c.status == ABANDONED, sa.not_(requests.c.reconciled))
    one_by_one = _used(
        requests,
        wanted,
        requests=sa.literal(1),
        open_requests=sa.case((requests.c.status == OPEN, 1), else_=0),
        cut_off_requests=sa.case((waits, 1), else_=0),
    )
    used = sa.union_all(
        one_by_one,
        _used(
            usage_days,
            wanted,
            requests=usage_days.c.requests,
            open_requests=sa.literal(0),
            cut_off_requests=usage_days.c.cut_off_requests,
        ),
    ).subquery()
    columns = [used.c[one.value] for one in by]
    query = sa.select(*columns, *(sa.func.coalesce(sa.func.sum(used.c[name]), 0) for name in _SUMS))
    if columns:
        query = query.group_by(*columns).order_by(*columns)
    with mapped(), engine.connect() as connection:
        found = connection.execute(query).all()
    names = [one.value for one in by]
    return [
        UsageRow(dict(zip(names, row, strict=False)), *map(int, row[len(names) :])) for row in found
    ]


_SUMS: Final = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "charge_micro_usd",
    "open_requests",
    "cut_off_requests",
)
"""In the order of `UsageRow`."""


def _used(
    table: sa.Table, wanted: Wanted, **counted: sa.ColumnElement[int]
) -> sa.Select[tuple[Any, ...]]:
    """What is wanted of a table, in columns that both have."""
    return sa.select(
        *(table.c[one.value] for one in Dimension),
        *((counted[name] if name in counted else table.c[name]).label(name) for name in _SUMS),
    ).where(*_filters(table, wanted))


def _filters(table: sa.Table, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    filters: list[sa.ColumnElement[bool]] = [
        table.c[name] == value
        for name in ("tenant", "device", "model")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        filters.append(table.c.day >= wanted.since.isoformat())
    if wanted.until is not None:
        filters.append(table.c.day <= wanted.until.isoformat())
    return filters
