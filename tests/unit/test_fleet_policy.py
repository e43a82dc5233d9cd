"""A bundle's policy over the device's own: it tunes, and loosens nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from isthmus.core.bundle import BundleRefused, BundleState
from isthmus.edge.fleet.policy import differences, tuned
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.doubt.handover import CascadeConfig
from isthmus.router.presets import Preset


def over(own: RouterConfig, router: str) -> RouterConfig:
    return tuned(own, f"[router]\n{router}")


def test_what_a_bundle_sets_stands_over_the_devices_own() -> None:
    own = RouterConfig(answer_tokens=100, ttft_slo_ms=400.0)
    found = over(own, 'preset = "best"\nttft_slo_ms = 900\n[router.cascade]\nedge_floor = 0.5')
    assert (found.preset, found.ttft_slo_ms, found.answer_tokens) == (Preset.BEST, 900.0, 100)
    assert found.cascade == replace(own.cascade, edge_floor=0.5)
    assert differences(own, found) == ("preset", "ttft_slo_ms", "cascade")


def test_an_empty_policy_leaves_everything() -> None:
    own = RouterConfig(preset=Preset.SAVER)
    assert tuned(own, "") is own


def test_a_bundle_that_says_what_quality_is_worth_says_all_of_it() -> None:
    """A threshold of the device's would otherwise go on deciding in the preset's place."""
    own = RouterConfig(threshold=0.9, second_usd=5.0)
    assert over(own, 'preset = "best"').threshold is None
    assert over(own, "threshold = 0.1").second_usd is None
    assert over(own, "battery_floor = 0.3").threshold == 0.9


@pytest.mark.parametrize("own", [Preset.PRIVATE, Preset.OFFLINE])
@pytest.mark.parametrize("wished", ["saver", "balanced", "best", "private", "offline"])
def test_a_device_that_keeps_to_itself_still_does(own: Preset, wished: str) -> None:
    found = over(RouterConfig(preset=own), f'preset = "{wished}"\nbattery_floor = 0.4')
    strictness = ["when_worth_more", "when_needed", "never"].index
    assert strictness(found.cloud_use) >= strictness(own.cloud_use)
    assert found.battery_floor == 0.4


def test_a_bundle_may_be_stricter_than_the_device() -> None:
    assert over(RouterConfig(), 'preset = "offline"').preset is Preset.OFFLINE
    assert over(RouterConfig(leave_usd=0.1), "leave_usd = 0.5").leave_usd == 0.5


@pytest.mark.parametrize(
    ("own", "wished", "name"),
    [
        (RouterConfig(leave_usd=0.1), "leave_usd = 0.0", "leave_usd"),
        (RouterConfig(leave_usd=0.1), 'preset = "saver"', "leave_usd"),
        (RouterConfig(race=False), "race = true", "race"),
        (RouterConfig(shadow_share=0.0), "shadow_share = 1.0", "shadow_share"),
        (
            RouterConfig(cascade=CascadeConfig(enabled=False, verify_drafts=False)),
            "cascade = {enabled = true, verify_drafts = true}",
            "cascade",
        ),
        (
            RouterConfig(budget=BudgetLimits(Decimal(1), Decimal(2), Decimal(3))),
            "budget = {request_usd = 9, day_usd = 9, month_usd = 9, timezone = 'Asia/Shanghai'}",
            "budget",
        ),
    ],
)
def test_no_bundle_loosens_what_the_owner_has_set(
    own: RouterConfig, wished: str, name: str
) -> None:
    assert getattr(over(own, wished), name) == getattr(own, name)


def test_of_two_budgets_the_tighter_counts() -> None:
    own = RouterConfig(budget=BudgetLimits(day_usd=Decimal(2)))
    found = over(own, "budget = {day_usd = '0.5', month_usd = 10}").budget
    assert (found.day_usd, found.month_usd) == (Decimal("0.5"), Decimal(10))


@pytest.mark.parametrize(
    ("toml", "field"),
    [
        ("[router", "policy"),
        ("router = 3", "router"),
        ("[router]\npreset = 'bold'", "router.preset"),
        ("[router]\npresett = 'best'", "router.presett"),
        ("[router]\nthreshold = 99", "router.threshold"),
        ("[router.budget]\nday_usd = -1", "router.budget.day_usd"),
        ("[router]\n[privacy]\nconsent = true", "privacy"),
        ("[fleet]\nshare = true", "fleet"),
        ("gateway_address = 'evil:1'\n[router]", "gateway_address"),
    ],
)
def test_anything_else_is_refused_and_named(toml: str, field: str) -> None:
    with pytest.raises(BundleRefused) as caught:
        tuned(RouterConfig(), toml)
    assert (caught.value.state, caught.value.field) == (BundleState.BROKEN, field)
