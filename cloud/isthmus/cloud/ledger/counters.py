"""What quotas have used, in the database: locked, looked at and counted in one transaction.

A counter is made from the requests themselves the first time that a gateway meets it, so that it
is right whatever the quotas were before; from then on it is kept. Its row is the lock: whoever
holds it knows that nobody else counts in that window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from isthmus.cloud.ledger.dialect import insert
from isthmus.cloud.ledger.quotas import Period, QuotaConfig, Use, Watched, Window, watched
from isthmus.cloud.ledger.tables import OPEN, counters, requests
from isthmus.core.errors import QuotaExceeded

_MOST_MET: Final = 100_000
_VALUES: Final = (counters.c.requests, counters.c.tokens, counters.c.micro_usd)


class Counters:
    """Opens a `Count` for each transaction."""

    def __init__(self, config: QuotaConfig) -> None:
        self._config = config
        self._met: set[Window] = set()

    def count(
        self, connection: sa.Connection, devices: Iterable[tuple[str, str]], now_ms: int
    ) -> Count:
        """Lock the windows of these (tenant, device) pairs, in an order that all gateways take."""
        watch = {device: tuple(watched(self._config, *device, now_ms)) for device in set(devices)}
        held = {one.window: one.end_ms for windows in watch.values() for one in windows}
        count = Count(connection, watch, now_ms)
        for window, end_ms in sorted(held.items(), key=lambda item: item[0]):
            count.lock(window, end_ms, is_new=window not in self._met)
        return count

    def committed(self, count: Count) -> None:
        """Its transaction is in the database: what it met is known now."""
        if len(self._met) > _MOST_MET:
            # Met anew they are summed up anew, which is slower and as right.
            self._met.clear()
        self._met.update(count.used)


class Count:
    """The windows that a transaction holds."""

    def __init__(
        self,
        connection: sa.Connection,
        watch: dict[tuple[str, str], tuple[Watched, ...]],
        now_ms: int,
    ) -> None:
        self._connection = connection
        self._watch = watch
        self.now_ms = now_ms
        self.used: dict[Window, Use] = {}
        self._changed: set[Window] = set()

    def lock(self, window: Window, end_ms: int | None, *, is_new: bool) -> None:
        """Hold `window`, and read what is used of it."""
        where = _is(window)
        look = sa.select(*_VALUES).where(*where).with_for_update()
        row = self._connection.execute(look).one_or_none()
        if row is None:
            empty = {"requests": 0, "tokens": 0, "micro_usd": 0}
            make = insert(self._connection.dialect, counters).values(_key(window) | empty)
            self._connection.execute(make.on_conflict_do_nothing())
            row = self._connection.execute(look).one()
            is_new = True
        if is_new:
            self.used[window] = _sum(self._connection, window, end_ms)
            self._changed.add(window)
        else:
            self.used[window] = Use(*row)

    def check(self, tenant: str, device: str, more: Use, streams: int) -> None:
        """Raise `QuotaExceeded` where `more`, or so many `streams` more, would not fit."""
        for one in self._watch.get((tenant, device), ()):
            used = self.used[one.window]
            for quota in one.quotas:
                at_once = one.window.period is Period.AT_ONCE
                wanted = streams if at_once else getattr(more, quota.measure)
                if wanted > 0 and getattr(used, quota.measure) + wanted > quota.most:
                    raise QuotaExceeded(
                        f"the quota {quota.name} is used up, or what is left of it is too little "
                        "for this request",
                        retry_after_s=one.retry_after_s(self.now_ms),
                        field=quota.name,
                    )

    def add(self, tenant: str, device: str, opened_ms: int, more: Use, streams: int) -> None:
        """Count `more` for a request opened at `opened_ms`; `streams` more of them run now."""
        for one in self._watch.get((tenant, device), ()):
            window = one.window
            if window.period is Period.AT_ONCE:
                change = Use(requests=streams)
            elif opened_ms >= window.start_ms:
                change = more
            else:
                continue
            if change != Use():
                self.used[window] = self.used[window].plus(change)
                self._changed.add(window)

    def write(self) -> None:
        """Put down what changed."""
        for window in sorted(self._changed):
            use = self.used[window]
            values = {"requests": use.requests, "tokens": use.tokens, "micro_usd": use.micro_usd}
            self._connection.execute(sa.update(counters).where(*_is(window)).values(values))


def forget_old(connection: sa.Connection, now_ms: int) -> None:
    """Remove the counters of periods that are long over."""
    ended = {Period.MINUTE: 120_000, Period.DAY: 2 * 86_400_000, Period.MONTH: 62 * 86_400_000}
    for period, age_ms in ended.items():
        over = sa.and_(counters.c.period == period.value, counters.c.start_ms < now_ms - age_ms)
        connection.execute(sa.delete(counters).where(over))


def _key(window: Window) -> dict[str, Any]:
    return {
        "tenant": window.tenant,
        "device": window.device,
        "period": window.period.value,
        "start_ms": window.start_ms,
    }


def _is(window: Window) -> list[sa.ColumnElement[bool]]:
    return [counters.c[name] == value for name, value in _key(window).items()]


def _sum(connection: sa.Connection, window: Window, end_ms: int | None) -> Use:
    """What the requests themselves say. One that is open counts as the most that it may become."""
    mine = [requests.c.tenant == window.tenant]
    if window.device:
        mine.append(requests.c.device == window.device)
    is_open = requests.c.status == OPEN
    if window.period is Period.AT_ONCE:
        streams = sa.select(sa.func.count()).select_from(requests).where(*mine, is_open)
        return Use(requests=connection.execute(streams).scalar_one())
    within = [requests.c.opened_ms >= window.start_ms, requests.c.opened_ms < end_ms]
    tokens = sa.case(
        (is_open, requests.c.reserved_tokens),
        else_=requests.c.prompt_tokens + requests.c.completion_tokens,
    )
    money = sa.case((is_open, requests.c.reserved_micro_usd), else_=requests.c.charge_micro_usd)
    row = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(tokens), 0),
            sa.func.coalesce(sa.func.sum(money), 0),
        ).where(*mine, *within)
    ).one()
    return Use(*map(int, row))
