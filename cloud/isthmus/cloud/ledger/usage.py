"""Who used what: the ledger, summed up by tenant, device, model and day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import sqlalchemy as sa

from isthmus.cloud.ledger.database import mapped
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, requests


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
    columns = [requests.c[one.value] for one in by]
    waits = sa.and_(requests.c.status == ABANDONED, sa.not_(requests.c.reconciled))
    query = sa.select(
        *columns,
        sa.func.count().label("n"),
        *(
            sa.func.coalesce(sa.func.sum(column), 0)
            for column in (
                requests.c.prompt_tokens,
                requests.c.cached_tokens,
                requests.c.completion_tokens,
                requests.c.charge_micro_usd,
                sa.case((requests.c.status == OPEN, 1), else_=0),
                sa.case((waits, 1), else_=0),
            )
        ),
    ).where(*_filters(wanted))
    if columns:
        query = query.group_by(*columns).order_by(*columns)
    with mapped(), engine.connect() as connection:
        found = connection.execute(query).all()
    names = [one.value for one in by]
    return [
        UsageRow(dict(zip(names, row, strict=False)), *map(int, row[len(names) :])) for row in found
    ]


def _filters(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    filters: list[sa.ColumnElement[bool]] = [
        requests.c[name] == value
        for name in ("tenant", "device", "model")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        filters.append(requests.c.day >= wanted.since.isoformat())
    if wanted.until is not None:
        filters.append(requests.c.day <= wanted.until.isoformat())
    return filters
