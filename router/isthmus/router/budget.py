"""Budgets that pace themselves: what may still be paid, and how dear that makes the cloud.

Before a call the most that it can cost is set aside (`Budget.reserve`), after it what it did cost
is booked (`Budget.settle`): what is spent and set aside together never passes a limit, however
many requests run at once. Between the two ends `shadow_price` rises when spending runs ahead of
the clock. Whole micro-dollars throughout.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from isthmus.router.config import BudgetLimits
from isthmus.router.value import shadow_price

_EARLY = 0.05
"""The part of a period in which one request would otherwise foretell a fortune."""


@dataclass(frozen=True, slots=True)
class PeriodState:
    """One limit and how far it is used up."""

    limit_micro_usd: int
    spent_micro_usd: int = 0
    """What is set aside for calls that still run included."""
    elapsed: float = 0.0
    """How much of the period is over, 0 to 1."""

    @property
    def left_micro_usd(self) -> int:
        """What may still be spent; never negative."""
        return max(0, self.limit_micro_usd - self.spent_micro_usd)

    @property
    def forecast_micro_usd(self) -> int:
        """What will have been spent at the end, if it goes on as it did: little is known early."""
        return round(self.spent_micro_usd / max(_EARLY, self.elapsed))

    @property
    def shadow_price(self) -> float:
        """What it adds to each unit of price (`isthmus.router.value.shadow_price`)."""
        if self.limit_micro_usd <= 0:
            return 0.0  # nothing can be bought: no price says it better than the gate
        return float(shadow_price(self.spent_micro_usd, self.limit_micro_usd, self.elapsed))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What the policy is told of the budgets. `None`: there is no such limit."""

    request_micro_usd: int | None = None
    day: PeriodState | None = None
    month: PeriodState | None = None

    @property
    def left_micro_usd(self) -> int | None:
        """What the day and the month leave; None: no limit."""
        periods = [one for one in (self.day, self.month) if one is not None]
        return min((one.left_micro_usd for one in periods), default=None)

    @property
    def shadow_price(self) -> float:
        """The larger of the two: it is enough that one of them runs out."""
        periods = [one for one in (self.day, self.month) if one is not None]
        return max((one.shadow_price for one in periods), default=0.0)


@dataclass(frozen=True, slots=True)
class _Hold:
    at_unix_s: float
    micro_usd: int


class Budget:
    """The limits and what was spent against them. For one event loop.

    `spent_since(unix_s)` tells, in micro-dollars, what was paid from a moment on: asked once, when
    the budget begins, so that a restart forgets nothing.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        *,
        spent_since: Callable[[float], int] = lambda unix_s: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._zone = limits.zone
        self._holds: dict[str, _Hold] = {}
        now = clock()
        self._day = _Period(*self._day_of(now))
        self._month = _Period(*self._month_of(now))
        self._day.spent = spent_since(self._day.begins)
        self._month.spent = spent_since(self._month.begins)

    def state(self) -> BudgetState:
        """Where the budgets stand now."""
        now = self._clock()
        self._day = self._day.at(now, self._day_of)
        self._month = self._month.at(now, self._month_of)
        return BudgetState(
            self.limits.micro_usd("request"),
            self._period_state(self._day, self.limits.micro_usd("day"), now),
            self._period_state(self._month, self.limits.micro_usd("month"), now),
        )

    def reserve(self, request_id: str, most_micro_usd: int) -> bool:
        """Set aside what a call may cost at most; False, and nothing set aside: it is not left.

        A request may reserve several times (a call that failed, a second one): all of it counts
        until `settle`.
        """
        left = self.state().left_micro_usd
        if left is not None and most_micro_usd > left:
            return False
        known = self._holds.get(request_id, _Hold(self._clock(), 0))
        self._holds[request_id] = _Hold(known.at_unix_s, known.micro_usd + most_micro_usd)
        return True

    def held(self, request_id: str) -> int:
        """What is set aside for a request, in micro-dollars."""
        hold = self._holds.get(request_id)
        return 0 if hold is None else hold.micro_usd

    def settle(self, request_id: str, micro_usd: int, at_unix_s: float) -> None:
        """Book what a request that arrived `at_unix_s` did cost, and free what was set aside.

        It counts for the period in which it was set aside, however long the call took.
        """
        hold = self._holds.pop(request_id, None)
        booked_s = at_unix_s if hold is None else hold.at_unix_s
        self.state()
        for period in (self._day, self._month):
            if booked_s >= period.begins:
                period.spent += micro_usd

    def spent(self) -> tuple[int, int]:
        """What the day and the month have cost, what is set aside included: micro-dollars."""
        self.state()
        return self._taken(self._day), self._taken(self._month)

    def _taken(self, period: _Period) -> int:
        held = sum(h.micro_usd for h in self._holds.values() if h.at_unix_s >= period.begins)
        return period.spent + held

    def _period_state(self, period: _Period, limit: int | None, now: float) -> PeriodState | None:
        if limit is None:
            return None
        return PeriodState(limit, self._taken(period), period.elapsed(now))

    def _day_of(self, unix_s: float) -> tuple[float, float]:
        midnight = datetime.fromtimestamp(unix_s, self._zone).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        # By the calendar, not by 24 hours: a day has 23 or 25 when the clocks change.
        return midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()

    def _month_of(self, unix_s: float) -> tuple[float, float]:
        first = datetime.fromtimestamp(unix_s, self._zone).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        return first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()


@dataclass(slots=True)
class _Period:
    begins: float
    ends: float
    spent: int = 0

    def at(self, now: float, period_of: Callable[[float], tuple[float, float]]) -> _Period:
        """This period, or the one that has begun since. A clock set back begins none again."""
        return self if now < self.ends else _Period(*period_of(now))

    def elapsed(self, now: float) -> float:
        return min(1.0, max(0.0, (now - self.begins) / (self.ends - self.begins)))
