"""Budgets: what may be paid, how they pace themselves, and what a restart remembers."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import (
    ChatRequest,
    Message,
    PrivacyClass,
    Role,
    RoutePreference,
    TextPart,
)
from isthmus.core.decision import Outcome, Status, Target
from isthmus.core.money import Price, Usage
from isthmus.edge.ledger import Ledger
from isthmus.edge.spending import Spending
from isthmus.router.budget import Budget, PeriodState
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.policy import decide
from isthmus.router.quality import Basis, Quality
from isthmus.router.signals import most_tokens
from isthmus.router.value import shadow_price
from routing_cases import EASY, PRICED

DAY_S = 86_400.0
NOON = datetime(2026, 3, 10, 12, tzinfo=ZoneInfo("UTC")).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def day(usd: str, **more: object) -> BudgetLimits:
    return BudgetLimits(day_usd=Decimal(usd), **more)  # type: ignore[arg-type]


def test_the_forecast_is_what_the_pace_so_far_comes_to() -> None:
    clock = Clock(NOON - 11 * 3600)
    budget = Budget(day("1"), clock=clock)
    budget.settle("a", 100, clock.now)
    early = budget.state().day
    clock.now = NOON
    noon = budget.state().day
    assert early is not None
    assert noon is not None
    assert (early.forecast_micro_usd, noon.forecast_micro_usd) == (2000, 200)


def test_what_is_set_aside_and_what_is_spent_never_pass_the_limit() -> None:
    budget = Budget(day("0.001"), clock=Clock())
    assert budget.reserve("a", 600)
    assert not budget.reserve("b", 401)
    assert budget.reserve("b", 400)
    budget.settle("a", 100, NOON)
    assert budget.state().left_micro_usd == 500
    assert budget.reserve("b", 500)
    assert budget.held("b") == 900


def test_without_a_limit_everything_is_left() -> None:
    budget = Budget(BudgetLimits(), clock=Clock())
    assert budget.reserve("a", 10**12)
    assert budget.state().left_micro_usd is None
    assert budget.state().shadow_price == 0


def test_a_new_day_begins_at_midnight_of_the_zone_and_the_month_goes_on() -> None:
    clock = Clock(datetime(2026, 3, 10, 23, 59, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp())
    limits = day("0.001", month_usd=Decimal("0.0015"), timezone="Asia/Shanghai")
    budget = Budget(limits, clock=clock)
    budget.settle("a", 1000, clock.now)
    assert budget.state().left_micro_usd == 0
    clock.now += 120
    assert budget.state().left_micro_usd == 500
    clock.now += 31 * DAY_S
    assert budget.state().left_micro_usd == 1000


def test_a_clock_that_is_set_back_begins_no_day_again() -> None:
    clock = Clock()
    budget = Budget(day("0.001"), clock=clock)
    clock.now += DAY_S
    budget.state()
    budget.settle("a", 1000, clock.now)
    clock.now -= DAY_S
    assert budget.state().left_micro_usd == 0


def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is() -> None:
    zone = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 3, 29, 0, 30, tzinfo=zone).timestamp()
    clock = Clock(before)
    budget = Budget(day("1", timezone="Europe/Berlin"), clock=clock)
    # Twenty-three hours: after eleven and a half of them half of the day is over.
    clock.now = before - 1800 + 11.5 * 3600
    state = budget.state().day
    assert state is not None
    assert state.elapsed == pytest.approx(0.5)


def test_a_call_over_midnight_counts_for_the_day_in_which_it_was_paid_for() -> None:
    clock = Clock(datetime(2026, 3, 10, 23, 59, 30, tzinfo=ZoneInfo("UTC")).timestamp())
    budget = Budget(day("0.001"), clock=clock)
    began_s = clock.now
    assert budget.reserve("a", 900)
    clock.now += 60
    assert budget.state().left_micro_usd == 1000
    budget.settle("a", 800, began_s)
    assert budget.state().left_micro_usd == 1000


PERIODS = st.tuples(st.integers(0, 10**9), st.integers(1, 10**9), st.floats(0, 1))


@given(PERIODS, st.integers(0, 10**9), st.floats(0, 1))
def test_the_shadow_price_rises_with_spending_and_falls_with_time(
    period: tuple[int, int, float], more: int, later: float
) -> None:
    spent, limit, elapsed = period
    price = shadow_price(spent, limit, elapsed)
    assert price >= 0
    assert shadow_price(spent + more, limit, elapsed) >= price
    assert shadow_price(spent, limit, max(later, elapsed)) <= price
    if spent <= limit * elapsed:
        assert price == pytest.approx(0, abs=1e-12)


def test_the_shadow_price_of_many_devices_is_that_of_each() -> None:
    spent, limit = np.array([0.0, 40, 60, 99, 200]), np.full(5, 100.0)
    elapsed = np.array([0.5, 0.1, 0.5, 0.2, 0.9])
    many = shadow_price(spent, limit, elapsed)
    each = [shadow_price(*map(float, one)) for one in zip(spent, limit, elapsed, strict=True)]
    assert isinstance(many, np.ndarray)
    assert many.tolist() == pytest.approx(each)


def test_a_limit_of_nothing_leaves_nothing() -> None:
    assert PeriodState(0, 0, 0.5).left_micro_usd == 0
    assert PeriodState(0, 5, 0.5).shadow_price == 0


def spend_a_month(limits: BudgetLimits, requests_a_day: int) -> list[list[int]]:
    """What each request of each day did cost, decided by the policy, under twice the demand that
    the budget bears."""
    rng = random.Random(6)
    clock = Clock(datetime(2026, 3, 1, tzinfo=ZoneInfo("UTC")).timestamp())
    budget = Budget(limits, clock=clock)
    config = RouterConfig(leave_usd=0)
    days = []
    for _ in range(31):
        spent = []
        for at in sorted(rng.random() for _ in range(requests_a_day)):
            moment = clock.now + at * DAY_S
            gain = rng.random() * 0.6
            request_clock, clock.now = clock.now, moment
            state = budget.state()
            quality = Quality(0.3, 0.3 + gain, Basis.CALIBRATED)
            signals = replace(EASY, quality=quality, cloud=PRICED, budget=state)
            cost = 0
            if decide(signals, config).target is Target.CLOUD and budget.reserve("r", 612):
                cost = rng.randint(100, 612)
                budget.settle("r", cost, moment)
            left = budget.state().left_micro_usd
            assert left is not None
            assert left >= 0
            spent.append(cost)
            clock.now = request_clock
        days.append(spent)
        clock.now += DAY_S
    return days


@pytest.mark.parametrize("period", ["day", "month"])
def test_a_month_of_requests_never_exceeds_the_budget_and_spends_it_evenly(period: str) -> None:
    a_day = 200
    # Of what is worth its plain price, this pays for half.
    micro_usd = int(0.5 * 0.9 * a_day * 356) * (1 if period == "day" else 31)
    limit = {f"{period}_usd": Decimal(micro_usd) / 1_000_000}
    spent = spend_a_month(BudgetLimits(**limit), a_day)  # type: ignore[arg-type]
    each_day = [sum(one) for one in spent]
    periods = each_day if period == "day" else [sum(each_day)]
    assert max(periods) <= micro_usd
    assert sum(periods) >= 0.85 * len(periods) * micro_usd
    # In about equal parts, not all of it at the beginning.
    if period == "day":
        first = sum(sum(one[: a_day // 2]) for one in spent)
        second = sum(each_day) - first
    else:
        first, second = sum(each_day[:15]), sum(each_day[16:])
    assert 0.4 <= second / (first + second) <= 0.55


ASKED = ChatRequest("r", (Message(Role.USER, (TextPart("x" * 400),)),))
PRICE = Price(Decimal(1), Decimal(2))


def outcome(request_id: str, price_micro_usd: int, at_unix_s: float = NOON) -> Outcome:
    return Outcome(
        request_id, at_unix_s, Target.CLOUD, (), Status.OK, PrivacyClass.PUBLIC,
        price_micro_usd=price_micro_usd,
    )  # fmt: skip


def test_an_answer_may_be_as_long_as_what_is_left_pays_for() -> None:
    spending = Spending(day("0.001"), clock=Clock())
    tokens = spending.purse(ASKED, PRICE).affordable_tokens(ASKED)
    most = most_tokens(ASKED)
    assert tokens == (1000 - most) // 2
    assert spending.state.left_micro_usd == 1000 - most - 2 * tokens
    assert spending.purse(ASKED, PRICE).affordable_tokens(ASKED) == 0


def test_a_request_sets_aside_no_more_than_its_own_limit_of_tokens_can_cost() -> None:
    spending = Spending(day("1"), clock=Clock())
    short = replace(ASKED, max_tokens=10)
    assert spending.purse(short, PRICE).affordable_tokens(short) == 10
    assert spending.state.left_micro_usd == 10**6 - most_tokens(short) - 20


def test_an_answer_without_a_limit_of_its_own_is_held_to_the_budgets() -> None:
    spending = Spending(day("1", longest_answer_tokens=100), clock=Clock())
    assert spending.purse(ASKED, PRICE).affordable_tokens(ASKED) == 100
    assert Spending().purse(ASKED, PRICE).affordable_tokens(ASKED) is None


def test_what_a_request_may_cost_itself_is_the_lower_of_two_limits_less_what_was_paid() -> None:
    own = replace(ASKED, preference=RoutePreference(max_price_usd=0.0005))
    prompt = 6 + 100
    general = Spending(BudgetLimits(request_usd=Decimal("0.0003")))
    assert Spending().purse(own, PRICE).affordable_tokens(own) == (500 - prompt) // 2
    assert general.purse(own, PRICE).affordable_tokens(own) == (300 - prompt) // 2
    assert general.purse(own, PRICE).affordable_tokens(own, 100) == (200 - prompt) // 2
    purse = general.purse(own, PRICE)
    assert purse.affordable_tokens(own, 299) == 0
    assert purse.refusal().reason == "price_above_limit"


def test_a_look_sets_nothing_aside_and_what_costs_nothing_is_not_limited() -> None:
    spending = Spending(day("0.001"), clock=Clock())
    spending.purse(ASKED, PRICE, only_look=True).affordable_tokens(ASKED)
    assert spending.state.left_micro_usd == 1000
    assert spending.purse(ASKED, Price()).affordable_tokens(ASKED) is None


def test_an_empty_budget_is_named_in_the_refusal() -> None:
    spending = Spending(day("0"), clock=Clock())
    purse = spending.purse(ASKED, PRICE)
    assert purse.affordable_tokens(ASKED) == 0
    assert purse.refusal().reason == "budget_spent"


@given(
    st.decimals(0, 100, places=4),
    st.decimals(0, 100, places=4),
    st.integers(0, 10**6),
    st.none() | st.integers(1, 10**5),
    st.floats(0, 1),
)
def test_whatever_an_answer_takes_of_its_tokens_the_limit_holds(
    price_in: Decimal, price_out: Decimal, limit: int, max_tokens: int | None, used: float
) -> None:
    price = Price(price_in, price_out)
    spending = Spending(day(str(Decimal(limit) / 1_000_000)), clock=Clock())
    asked = replace(ASKED, max_tokens=max_tokens)
    tokens = spending.purse(asked, price).affordable_tokens(asked)
    if tokens is None or tokens == 0:
        return
    cost = price.cost_micro_usd(Usage(int(used * most_tokens(asked)), int(used * tokens)))
    assert spending.state.left_micro_usd is not None
    spending.settle(outcome("r", cost))
    assert cost <= limit
    assert spending.state.left_micro_usd == limit - cost


def test_a_restart_forgets_neither_what_was_spent_nor_what_a_crash_left_set_aside(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    limits = day("0.01", month_usd=Decimal("0.05"))
    ledger = Ledger(path)
    first = Spending(limits, ledger, clock=Clock())
    for request_id, cost in (("a", 300), ("b", 200)):
        asked = replace(ASKED, request_id=request_id, max_tokens=50)
        first.purse(asked, PRICE).affordable_tokens(asked)
        if request_id == "a":
            first.settle(outcome("a", cost))
            ledger.record(outcome("a", cost))
    ledger.record(outcome("earlier", 5000, NOON - 2 * DAY_S))
    ledger.close()
    held = most_tokens(ASKED) + 100
    again = Spending(limits, Ledger(path), clock=Clock()).state
    assert again.day is not None
    assert again.month is not None
    assert (again.day.spent_micro_usd, again.month.spent_micro_usd) == (300 + held, 5300 + held)
