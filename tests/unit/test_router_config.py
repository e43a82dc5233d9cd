"""A wrong setting of the router is named before anything runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from isthmus.core.errors import ConfigError
from isthmus.router.config import BudgetLimits, RouterConfig


@pytest.mark.parametrize(
    "setting",
    [
        {"good_answer_usd": -0.1},
        {"second_usd": float("nan")},
        {"battery_percent_usd": float("inf")},
        {"leave_usd": -1},
        {"threshold": 2.5},
        {"max_cloud_share": 20},
        {"min_quality_share": -0.5},
        {"max_cloud_share": 0.2, "min_quality_share": 0.9},
        {"uncalibrated_trust": 1.1},
        {"ttft_slo_ms": 0},
        {"reading_tokens_per_s": 0},
        {"answer_tokens": 0},
        {"answer_reserve_tokens": 0},
        {"battery_floor": 1},
        {"max_temperature_c": -1},
        {"battery_wh": 0},
    ],
)
def test_a_wrong_setting_is_named(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        RouterConfig(**setting)
    assert error.value.field == f"router.{next(iter(setting))}"


@pytest.mark.parametrize(
    "setting",
    [
        {"day_usd": Decimal(-1)},
        {"month_usd": Decimal("nan")},
        {"request_usd": Decimal("inf")},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../etc/passwd"},
        {"longest_answer_tokens": 0},
    ],
)
def test_a_wrong_budget_is_named(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        BudgetLimits(**setting)
    assert error.value.field == f"router.budget.{next(iter(setting))}"
