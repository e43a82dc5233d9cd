"""How long requests are kept one by one: what is older becomes a sum of its day.

Usage stays as it was to the micro-dollar; what goes is who asked what when, and that an id was
used. A few rows at a time, in one transaction with their sums: a kill loses and doubles nothing,
and whoever waits for the same database hardly notices.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from isthmus.cloud.ledger.dialect import insert
from isthmus.cloud.ledger.tables import ABANDONED, OPEN, requests, usage_days

AT_A_TIME: Final = 200
_KEY: Final = ("tenant", "device", "model", "day")
_SUMS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens", "charge_micro_usd")


def first_kept_day(now_ms: int, keep_days: int) -> str:
    """The first of the last `keep_days` days, today among them."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    return (today - timedelta(days=keep_days - 1)).isoformat()


def fold_old(connection: sa.Connection, first_kept: str) -> int:
    """Fold `AT_A_TIME` requests of before `first_kept` at most into sums; how many there were.

    One that is open stays. Gateways that do it together take different ones.
    """
    look = (
        sa.select(requests)
        .where(requests.c.day < first_kept, requests.c.status != OPEN)
        .order_by(requests.c.day, requests.c.tenant)
        .limit(AT_A_TIME)
        .with_for_update(skip_locked=True)
    )
    old = connection.execute(look).all()
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for row in old:
        used = sums.setdefault(tuple(getattr(row, name) for name in _KEY), Counter())
        used["requests"] += 1
        used["cut_off_requests"] += row.status == ABANDONED and not row.reconciled
        for name in _SUMS:
            used[name] += getattr(row, name)
    for key, used in sorted(sums.items()):
        _add(connection, dict(zip(_KEY, key, strict=True)), used)
    gone = sa.tuple_(requests.c.tenant, requests.c.device, requests.c.request_id)
    if old:
        named = [(row.tenant, row.device, row.request_id) for row in old]
        connection.execute(sa.delete(requests).where(gone.in_(named)))
    return len(old)


def _add(connection: sa.Connection, key: dict[str, str], used: Counter[str]) -> None:
    row = insert(connection.dialect, usage_days).values(key | used)
    more = {name: usage_days.c[name] + row.excluded[name] for name in used}
    connection.execute(row.on_conflict_do_update(index_elements=list(_KEY), set_=more))
