"""The decision between two tiers that both may answer, and what holds for any signals at all."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from isthmus.core.chat import RouteMode, RoutePreference
from isthmus.core.decision import Reason, Target
from isthmus.core.money import Price
from isthmus.router.budget import BudgetState, PeriodState
from isthmus.router.config import RouterConfig
from isthmus.router.latency import Prediction
from isthmus.router.policy import decide
from isthmus.router.presets import Preset
from isthmus.router.quality import Basis, Quality
from isthmus.router.signals import (
    Capability,
    CloudState,
    DeviceHealth,
    EdgeState,
    Session,
    Signals,
)
from routing_cases import (
    EASY,
    HARD,
    PRICED,
    SENSITIVE,
    asking,
    taking,
)

CONFIG = RouterConfig()


def choice(signals: Signals, config: RouterConfig = CONFIG) -> tuple[str, list[str]]:
    decision = decide(signals, config)
    assert decision.fallback_allowed
    return decision.target.value, [reason.value for reason in decision.reasons]


def test_what_the_device_answers_as_well_stays_and_what_it_answers_badly_goes() -> None:
    assert choice(EASY) == ("edge", ["value_on_edge"])
    assert choice(HARD) == ("cloud", ["value_in_cloud"])


def test_a_preference_overrules_the_value() -> None:
    assert choice(asking(RouteMode.PREFER_ON_DEVICE, HARD)) == ("edge", ["preferred_edge"])
    assert choice(asking(RouteMode.PREFER_IN_CLOUD, EASY)) == ("cloud", ["preferred_cloud"])


def test_the_value_of_each_tier_is_its_quality_less_its_costs() -> None:
    signals = replace(
        HARD,
        edge=EdgeState(latency=taking(200, tpot_ms=60)),
        cloud=replace(PRICED, latency=taking(500, tpot_ms=20)),
        device=DeviceHealth(battery=1.0, battery_wh=10.0),
    )
    config = RouterConfig(
        good_answer_usd=0.01, second_usd=0.001, battery_percent_usd=0.002, leave_usd=0.0005,
        reading_tokens_per_s=20, inference_watts=5, radio_joules=3.6,
    )  # fmt: skip
    scores = decide(signals, config).scores
    # 256 tokens, each 10 ms later than it is read; one percent of 10 Wh is 360 J.
    expected = {
        "edge.quality": 3000,
        "edge.price": 0,
        "edge.time": 200 + 2560,
        "edge.energy": 5 * (0.2 + 256 * 0.06) / 360 * 2000,
        "edge.leaving": 0,
        "cloud.quality": 9000,
        "cloud.price": 612,
        "cloud.time": 500,
        "cloud.energy": 3.6 / 360 * 2000,
        "cloud.leaving": 500,
    }
    for name, value in expected.items():
        assert scores[f"{name}_micro_usd"] == pytest.approx(value), name
    for tier in ("edge", "cloud"):
        terms = {n.split(".")[1]: v for n, v in scores.items() if n.startswith(tier)}
        costs = ("price", "time", "energy", "moving", "leaving")
        left = terms["quality_micro_usd"] - sum(terms[f"{name}_micro_usd"] for name in costs)
        assert terms["value_micro_usd"] == pytest.approx(left)


def test_a_decision_carries_every_limit_that_it_was_held_against() -> None:
    signals = replace(
        HARD,
        quality=replace(HARD.quality, terms=(("code", 0.3),)),
        preference=RoutePreference(max_price_usd=0.5, ttft_slo_ms=300),
        cloud=replace(PRICED, rtt_ms=40.0, context_tokens=4096),
        budget=BudgetState(9000, PeriodState(10**6, 250, 0.5)),
        device=DeviceHealth(battery=0.5),
    )
    decision = decide(signals, CONFIG)
    assert decision.scores["quality.code"] == 0.3
    assert decision.scores["cloud.price_at_most_micro_usd"] == 612
    assert decision.scores["cloud.rtt_ms"] == 40
    assert decision.scores["battery"] == 0.5
    assert {name: decision.thresholds[name] for name in decision.thresholds if name != "gain"} == {
        "edge_context_tokens": 8192,
        "cloud_context_tokens": 4096,
        "max_price_usd": 0.5,
        "budget.request_micro_usd": 9000,
        "budget.left_micro_usd": 10**6 - 250,
        "ttft_slo_ms": 300,
        "battery_floor": 0.15,
    }
    assert json.loads(json.dumps(dict(decision.scores))) == dict(decision.scores)


def test_the_gain_that_would_be_needed_is_where_the_decision_turns() -> None:
    signals = replace(HARD, cloud=PRICED)
    needed = decide(signals, CONFIG).thresholds["gain"]
    for gain, target in ((needed + 1e-6, "cloud"), (needed - 1e-6, "edge")):
        quality = Quality(0.3, 0.3 + gain, Basis.CALIBRATED)
        assert choice(replace(signals, quality=quality))[0] == target


def test_an_estimate_that_nobody_calibrated_is_believed_in_part_and_says_so() -> None:
    guessed = replace(HARD, quality=Quality(0.6, 0.8))
    assert choice(guessed) == ("edge", ["value_on_edge", "uncalibrated"])
    known = replace(HARD, quality=Quality(0.6, 0.96, Basis.CALIBRATED))
    assert choice(known) == ("cloud", ["value_in_cloud"])
    assert choice(guessed, RouterConfig(uncalibrated_trust=1))[0] == "cloud"


@pytest.mark.parametrize(
    ("preset", "free", "told"),
    [(Preset.SAVER, 0.5, 0.3), (Preset.BALANCED, 0.35, 0.15), (Preset.BEST, 0.05, 0.02)],
)
def test_a_cloud_that_told_no_price_is_not_taken_to_be_free(
    preset: Preset, free: float, told: float
) -> None:
    config = RouterConfig(preset=preset)
    assert decide(HARD, config).thresholds["gain"] == pytest.approx(free)
    next_to_nothing = CloudState(price=Price(Decimal("1e-9"), Decimal("1e-9")))
    priced = decide(replace(HARD, cloud=next_to_nothing), config)
    assert priced.thresholds["gain"] == pytest.approx(told)


def test_a_gain_that_nothing_can_reach_is_told_as_two() -> None:
    spent = BudgetState(day=PeriodState(10**6, 999_000, 0.1))
    dear = decide(replace(HARD, cloud=PRICED, budget=spent), CONFIG)
    assert dear.scores["cloud.price_micro_usd"] > 2 * CONFIG.weights.good_answer_usd * 1e6
    assert (dear.target, dear.thresholds["gain"]) == (Target.EDGE, 2.0)


def test_a_threshold_stands_in_the_place_of_worths() -> None:
    dear = RouterConfig(threshold=0.6, good_answer_usd=0)
    assert choice(HARD, dear) == ("cloud", ["hard"])
    assert choice(HARD, replace(dear, threshold=0.61)) == ("edge", ["easy"])
    assert decide(HARD, dear).thresholds["gain"] == 0.6
    assert decide(HARD, dear).scores["gain"] == pytest.approx(0.6)


def test_a_target_without_its_threshold_is_not_taken_for_kept() -> None:
    hoped = RouterConfig(max_cloud_share=0.2)
    assert choice(HARD, hoped) == ("cloud", ["value_in_cloud", "no_threshold"])
    guessed = replace(HARD, quality=replace(HARD.quality, reason=Basis.UNCALIBRATED))
    assert decide(guessed, hoped).reasons[-2:] == (Reason.UNCALIBRATED, Reason.NO_THRESHOLD)
    kept = RouterConfig(max_cloud_share=0.2, threshold=0.4)
    assert decide(HARD, kept).reasons == (Reason.HARD,)


def test_the_presets_differ_in_what_they_pay_for_quality() -> None:
    signals = replace(EASY, quality=Quality(0.5, 0.7, Basis.CALIBRATED), cloud=PRICED)
    targets = {preset: decide(signals, RouterConfig(preset)).target.value for preset in Preset}
    assert targets == {
        Preset.SAVER: "edge",
        Preset.BALANCED: "edge",
        Preset.BEST: "cloud",
        Preset.PRIVATE: "edge",
        Preset.OFFLINE: "edge",
    }


def test_private_leaves_for_what_the_device_cannot_do_and_for_who_prefers_the_cloud() -> None:
    private = RouterConfig(Preset.PRIVATE)
    assert choice(HARD, private) == ("edge", ["preferred_edge"])
    assert choice(asking(RouteMode.PREFER_IN_CLOUD), private) == ("cloud", ["preferred_cloud"])
    too_long = replace(EASY, prompt_tokens=10**5)
    assert decide(too_long, private).target is Target.CLOUD


def test_a_number_of_ones_own_stands_over_the_preset() -> None:
    assert choice(HARD, RouterConfig(Preset.BEST, good_answer_usd=0.0001))[0] == "edge"


SLOW, QUICK = taking(900), taking(150)
PROMISED = RoutePreference(ttft_slo_ms=200)


def promised(signals: Signals, edge: Prediction, cloud: Prediction) -> Signals:
    return replace(
        signals,
        preference=PROMISED,
        edge=EdgeState(latency=edge),
        cloud=CloudState(latency=cloud),
    )


def test_the_tier_that_keeps_the_promise_answers_when_the_other_does_not() -> None:
    assert choice(promised(EASY, SLOW, QUICK)) == ("cloud", ["latency_slo"])
    assert choice(promised(HARD, QUICK, SLOW)) == ("edge", ["latency_slo"])


def test_the_tail_decides_whether_a_promise_is_kept() -> None:
    seldom_late = taking(150, p95_ms=201)
    assert choice(promised(HARD, QUICK, seldom_late)) == ("edge", ["latency_slo"])


def test_the_settings_promise_for_requests_that_bring_no_promise_of_their_own() -> None:
    signals = replace(promised(EASY, SLOW, QUICK), preference=RoutePreference())
    assert choice(signals)[1] == ["value_on_edge"]
    assert choice(signals, RouterConfig(ttft_slo_ms=200))[1] == ["latency_slo"]


def test_what_a_request_has_waited_is_gone_from_its_promise() -> None:
    signals = promised(HARD, taking(100), taking(150))
    assert choice(signals)[1] == ["value_in_cloud"]
    late = replace(signals, elapsed_ms=60)
    assert choice(late) == ("edge", ["latency_slo"])
    assert decide(late, CONFIG).thresholds["ttft_slo_ms"] == 140


RISKY = taking(150, p95_ms=900)


@pytest.mark.parametrize(("signals", "target"), [(EASY, "edge"), (HARD, "cloud")])
def test_both_tiers_may_start_when_neither_is_sure_to_keep_the_promise(
    signals: Signals, target: str
) -> None:
    decision = decide(promised(signals, RISKY, RISKY), CONFIG)
    assert decision.race
    assert decision.fallback_allowed
    assert decision.target.value == target
    assert decision.reasons[-1] is Reason.RACE


@pytest.mark.parametrize(
    ("signals", "config"),
    [
        (promised(EASY, QUICK, QUICK), CONFIG),
        (promised(EASY, SLOW, SLOW), CONFIG),
        (promised(EASY, RISKY, Prediction()), CONFIG),
        (promised(EASY, RISKY, RISKY), RouterConfig(race=False)),
        (promised(EASY, RISKY, RISKY), RouterConfig(Preset.PRIVATE)),
        (replace(promised(EASY, RISKY, RISKY), preference=RoutePreference()), CONFIG),
        (replace(promised(EASY, RISKY, RISKY), privacy=SENSITIVE), CONFIG),
        (replace(promised(EASY, RISKY, RISKY), device=DeviceHealth(battery=0.1)), CONFIG),
        (
            replace(
                promised(EASY, RISKY, RISKY), budget=BudgetState(day=PeriodState(10**6, 10**5, 0.0))
            ),
            CONFIG,
        ),
    ],
    ids=[
        "kept", "hopeless", "unknown", "switched_off", "private", "no_promise", "sensitive",
        "low_battery", "ahead_of_the_budget",
    ],
)  # fmt: skip
def test_there_is_no_race(signals: Signals, config: RouterConfig) -> None:
    assert not decide(signals, config).race


def test_a_race_may_be_paid_while_spending_keeps_to_its_pace() -> None:
    on_pace = BudgetState(day=PeriodState(10**6, 10**5, 0.1))
    assert decide(replace(promised(EASY, RISKY, RISKY), budget=on_pace), CONFIG).race


def test_spending_ahead_of_its_pace_keeps_on_the_device_what_gains_least() -> None:
    ahead = BudgetState(day=PeriodState(10**6, 4 * 10**5, 0.33))
    signals = replace(HARD, cloud=PRICED, budget=ahead)
    assert choice(signals) == ("edge", ["value_on_edge", "budget_pace"])
    assert choice(replace(signals, budget=BudgetState(day=PeriodState(10**6, 10, 0.3)))) == (
        "cloud",
        ["value_in_cloud"],
    )
    best = RouterConfig(Preset.BEST)
    assert choice(signals, best) == ("cloud", ["value_in_cloud"])


def test_a_conversation_stays_where_its_cache_is_unless_moving_gains_more() -> None:
    there = Session(Target.EDGE, edge_cached_tokens=6000)
    signals = replace(
        HARD,
        quality=Quality(0.5, 0.95, Basis.CALIBRATED),
        prompt_tokens=6100,
        session=there,
        edge=EdgeState(latency=taking(200)),
        cloud=CloudState(latency=taking(6200)),
    )
    assert choice(signals) == ("edge", ["value_on_edge", "sticky_session"])
    assert decide(signals, CONFIG).scores["cloud.moving_micro_usd"] == pytest.approx(6000 * 0.3)
    worth_it = replace(signals, quality=Quality(0.2, 0.9, Basis.CALIBRATED))
    assert choice(worth_it) == ("cloud", ["value_in_cloud"])
    moved = replace(
        signals,
        quality=Quality(0.5, 0.8, Basis.CALIBRATED),
        session=Session(Target.CLOUD, cloud_cached_tokens=6000),
        edge=EdgeState(latency=taking(6200)),
        cloud=CloudState(latency=taking(200)),
    )
    assert choice(moved) == ("cloud", ["value_in_cloud", "sticky_session"])


def test_a_program_waits_for_tokens_that_a_person_would_still_be_reading() -> None:
    as_json = frozenset({Capability.JSON_OBJECT})
    signals = replace(
        EASY,
        edge=EdgeState(capabilities=as_json, latency=taking(100, tpot_ms=40)),
        cloud=CloudState(latency=taking(100, tpot_ms=5)),
    )
    assert decide(signals, CONFIG).scores["edge.time_micro_usd"] == pytest.approx(30)
    by_program = decide(replace(signals, needs=as_json), CONFIG)
    assert by_program.scores["edge.time_micro_usd"] == pytest.approx(30 + 256 * 40 * 0.3)


def test_an_answer_is_expected_to_be_as_long_as_those_of_late_and_no_longer_than_allowed() -> None:
    def price(**known: float) -> float:
        signals = replace(HARD, cloud=PRICED, **known)  # type: ignore[arg-type]
        return decide(signals, CONFIG).scores["cloud.price_micro_usd"]

    assert price() == 100 + 2 * 256
    assert price(usual_answer_tokens=40.4) == 100 + 2 * 40
    assert price(usual_answer_tokens=40.4, max_tokens=10) == 100 + 2 * 10
    short = replace(HARD, cloud=PRICED, usual_answer_tokens=40.4)
    assert decide(short, CONFIG).scores["cloud.price_at_most_micro_usd"] == 612


def test_time_counts_only_when_it_is_known_of_both_tiers() -> None:
    signals = replace(EASY, edge=EdgeState(latency=SLOW))
    assert decide(signals, CONFIG).scores["edge.time_micro_usd"] == 0
    assert decide(signals, CONFIG).scores["edge.ttft_p50_ms"] == 900


def test_energy_counts_only_on_a_battery_and_more_the_emptier_it_is() -> None:
    signals = replace(EASY, edge=EdgeState(latency=SLOW))

    def energy(device: DeviceHealth) -> float:
        return decide(replace(signals, device=device), CONFIG).scores["edge.energy_micro_usd"]

    assert energy(DeviceHealth()) == energy(DeviceHealth(battery=0.5, charging=True)) == 0
    full, half, low = (energy(DeviceHealth(battery=share)) for share in (1.0, 0.5, 0.2))
    assert 0 < full < half < low
    assert low / full == pytest.approx(0.85 / 0.05)
