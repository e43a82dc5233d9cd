"""Quotas: how much a tenant and a device may use in a minute, a day, a month, and at once.

None by default. A tenant's own override those of all, one by one::

    [quotas.tenant]
    usd_per_month = "100"
    streams = 50

    [quotas.device]
    requests_per_minute = 30
    tokens_per_day = 200_000

    [quotas.tenants.acme.tenant]
    usd_per_month = "5000"

Periods are those of the calendar, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from isthmus.core.money import MICRO_USD_PER_USD

_MOST: Final = 10**15
_AT_ONCE_S: Final = 1.0
"""When to ask again for one of the streams at once: nobody knows when one ends."""

Count = Annotated[int, Field(ge=0, le=_MOST)]
Usd = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=6)]


class Period(StrEnum):
    """What a quota is counted over."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    AT_ONCE = "at_once"


class Limits(BaseModel):
    """The most of each; none where nothing is said."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    requests_per_minute: Count | None = None
    requests_per_day: Count | None = None
    requests_per_month: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    tokens_per_month: Count | None = None
    usd_per_minute: Usd | None = None
    usd_per_day: Usd | None = None
    usd_per_month: Usd | None = None
    streams: Count | None = None
    """Answers at once."""


class TenantQuotas(BaseModel):
    """Those of one tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant: Limits = Field(default_factory=Limits)
    device: Limits = Field(default_factory=Limits)


class QuotaConfig(TenantQuotas):
    """Those of all tenants and of each of their devices, and what some have in their place."""

    tenants: dict[str, TenantQuotas] = Field(default_factory=dict)

    def of(self, tenant: str) -> tuple[Limits, Limits]:
        """What holds for a tenant, and for each of its devices."""
        own = self.tenants.get(tenant)
        if own is None:
            return self.tenant, self.device
        return _over(own.tenant, self.tenant), _over(own.device, self.device)


def _over(own: Limits, common: Limits) -> Limits:
    return common.model_copy(update=own.model_dump(exclude_unset=True))


@dataclass(frozen=True, slots=True)
class Use:
    """What counts against quotas."""

    requests: int = 0
    tokens: int = 0
    micro_usd: int = 0

    def plus(self, more: Use) -> Use:
        """Both together."""
        return Use(
            self.requests + more.requests,
            self.tokens + more.tokens,
            self.micro_usd + more.micro_usd,
        )


class Window(NamedTuple):
    """A period of a tenant, or of one of its devices. Sorts, so that locks are taken in order."""

    tenant: str
    device: str
    """Empty: all of the tenant's."""
    period: Period
    start_ms: int


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit with its name, as `QuotaExceeded` tells it."""

    name: str
    measure: str
    """The field of `Use`."""
    most: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A window that has limits, and when it ends."""

    window: Window
    end_ms: int | None
    quotas: tuple[Quota, ...]

    def retry_after_s(self, now_ms: int) -> float:
        """When it begins anew."""
        return _AT_ONCE_S if self.end_ms is None else max(0.001, (self.end_ms - now_ms) / 1000)


def watched(config: QuotaConfig, tenant: str, device: str, now_ms: int) -> Iterator[Watched]:
    """The windows of now in which a request of this device counts, those with limits alone."""
    of_tenant, of_device = config.of(tenant)
    for subject, limits, of in (("tenant", of_tenant, ""), ("device", of_device, device)):
        for period, quotas in _limited(subject, limits):
            start_ms, end_ms = _bounds(period, now_ms)
            yield Watched(Window(tenant, of, period, start_ms), end_ms, quotas)


@lru_cache
def _limited(subject: str, limits: Limits) -> tuple[tuple[Period, tuple[Quota, ...]], ...]:
    """The periods that have quotas, with these."""
    each = ((period, tuple(_quotas(subject, limits, period))) for period in Period)
    return tuple((period, quotas) for period, quotas in each if quotas)


def _quotas(subject: str, limits: Limits, period: Period) -> Iterator[Quota]:
    if period is Period.AT_ONCE:
        if limits.streams is not None:
            yield Quota(f"{subject}.streams", "requests", limits.streams)
        return
    for word, measure in (("requests", "requests"), ("tokens", "tokens"), ("usd", "micro_usd")):
        most = getattr(limits, f"{word}_per_{period}")
        if most is not None:
            scale = MICRO_USD_PER_USD if word == "usd" else 1
            yield Quota(f"{subject}.{word}_per_{period}", measure, int(most * scale))


def _bounds(period: Period, now_ms: int) -> tuple[int, int | None]:
    """When the period of `now_ms` began and when it ends."""
    if period is Period.AT_ONCE:
        return 0, None
    if period is Period.MINUTE:
        start_ms = now_ms - now_ms % 60_000
        return start_ms, start_ms + 60_000
    day = datetime.fromtimestamp(now_ms / 1000, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if period is Period.DAY:
        end = day + timedelta(days=1)
    else:
        day = day.replace(day=1)
        end = (day + timedelta(days=32)).replace(day=1)
    return int(day.timestamp() * 1000), int(end.timestamp() * 1000)
