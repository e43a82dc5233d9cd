"""What holds of the decision whatever the signals are."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import PrivacyClass, RouteMode, RoutePreference
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.errors import PolicyRefused
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
    PUBLIC,
    REDACTED,
    SENSITIVE,
    UNKNOWN,
)

CONFIG = RouterConfig()

NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
KNOWN = st.floats(0.01, 1e6)
TOKENS = st.integers(0, 10**7)
NEEDS = st.frozensets(st.sampled_from(Capability))
PRICES = st.decimals(0, 1000, places=4)
SHARES = st.floats(0, 1)
PREDICTIONS = st.builds(Prediction, *([st.none() | KNOWN] * 4))
PERIODS = st.builds(PeriodState, st.integers(0, 10**12), st.integers(0, 10**12), elapsed=SHARES)
ANY_SIGNALS = st.builds(
    Signals,
    preference=st.builds(
        RoutePreference,
        mode=st.sampled_from(RouteMode),
        ttft_slo_ms=NUMBERS,
        max_price_usd=NUMBERS,
    ),
    privacy=st.sampled_from([PUBLIC, REDACTED, SENSITIVE, UNKNOWN]),
    quality=st.builds(Quality, SHARES, SHARES, st.sampled_from(Basis)),
    prompt_tokens=TOKENS,
    max_tokens=st.none() | TOKENS,
    needs=NEEDS,
    edge=st.builds(
        EdgeState,
        available=st.booleans(),
        context_tokens=TOKENS,
        capabilities=NEEDS,
        latency=PREDICTIONS,
    ),
    cloud=st.builds(
        CloudState,
        available=st.booleans(),
        consented=st.booleans(),
        breaker_open=st.booleans(),
        context_tokens=st.none() | TOKENS,
        capabilities=st.none() | NEEDS,
        price=st.builds(Price, PRICES, PRICES),
        rtt_ms=NUMBERS,
        latency=PREDICTIONS,
    ),
    device=st.builds(
        DeviceHealth,
        battery=st.none() | SHARES,
        charging=st.none() | st.booleans(),
        temperature_c=NUMBERS,
        throttled=st.none() | st.booleans(),
    ),
    budget=st.builds(
        BudgetState, st.none() | st.integers(0, 10**9), st.none() | PERIODS, st.none() | PERIODS
    ),
    session=st.builds(Session, st.none() | st.sampled_from(Target), TOKENS, TOKENS),
)
CONFIGS = st.builds(
    RouterConfig,
    preset=st.sampled_from(Preset),
    good_answer_usd=st.none() | st.floats(0, 10),
    second_usd=st.none() | st.floats(0, 1),
    threshold=st.none() | st.floats(-1, 1),
    uncalibrated_trust=SHARES,
    ttft_slo_ms=st.none() | KNOWN,
)
FORBIDDEN = {
    "privacy_local_only",
    "privacy_scan_failed",
    "privacy_no_consent",
    "forced_edge",
    "price_above_limit",
    "budget_spent",
}


def decided(signals: Signals, config: RouterConfig) -> Decision | str:
    """The decision, or the reason of the refusal; any other error fails the test."""
    try:
        return decide(signals, config)
    except PolicyRefused as refusal:
        return refusal.reason


@given(ANY_SIGNALS, CONFIGS)
def test_any_signals_give_the_same_lawful_decision_twice(
    signals: Signals, config: RouterConfig
) -> None:
    private = signals.privacy.privacy_class not in {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}
    mode = signals.preference.mode
    decision = decided(signals, config)
    # NaN is unequal to itself, so the repetition is compared by what it prints.
    assert repr(decided(signals, config)) == repr(decision)
    if isinstance(decision, str):
        assert mode is RouteMode.ONLY_IN_CLOUD
        assert decision in FORBIDDEN
        return
    assert decision.reasons
    may_leave = decision.target is Target.CLOUD or decision.fallback_allowed
    forced = mode is RouteMode.ONLY_ON_DEVICE or config.preset is Preset.OFFLINE
    assert not (may_leave and (private or not signals.cloud.consented or forced))
    left = signals.budget.left_micro_usd
    if may_leave and left is not None:
        assert decision.scores["cloud.price_at_most_micro_usd"] <= left
    left_redacted = decision.target is Target.CLOUD and signals.privacy is REDACTED
    assert (Reason.PRIVACY_REDACTED in decision.reasons) == left_redacted
    assert not decision.race or decision.fallback_allowed
    assert decision.race == (Reason.RACE in decision.reasons)
    if mode is RouteMode.ONLY_IN_CLOUD:
        assert decision.target is Target.CLOUD
        assert not decision.fallback_allowed


def in_cloud(signals: Signals, config: RouterConfig) -> bool:
    decision = decided(signals, config)
    return isinstance(decision, Decision) and decision.target is Target.CLOUD


def never_likelier(before: Signals, after: Signals, config: RouterConfig) -> None:
    """That what changed sends nothing to the cloud that did not go there before."""
    assert in_cloud(before, config) or not in_cloud(after, config)


MORE = st.integers(0, 10**6)
OPEN_CHOICE = ANY_SIGNALS.filter(lambda signals: signals.preference.mode is RouteMode.AUTO)


@given(ANY_SIGNALS, CONFIGS, PRICES, PRICES)
def test_a_dearer_cloud_is_never_likelier(
    signals: Signals, config: RouterConfig, more_in: Decimal, more_out: Decimal
) -> None:
    price = signals.cloud.price
    dearer = Price(price.input_usd_per_mtok + more_in, price.output_usd_per_mtok + more_out)
    never_likelier(signals, replace(signals, cloud=replace(signals.cloud, price=dearer)), config)


@given(ANY_SIGNALS, CONFIGS, MORE)
def test_more_spending_makes_the_cloud_never_likelier(
    signals: Signals, config: RouterConfig, more: int
) -> None:
    day = signals.budget.day
    if day is None:
        return
    ahead = replace(signals.budget, day=replace(day, spent_micro_usd=day.spent_micro_usd + more))
    never_likelier(signals, replace(signals, budget=ahead), config)


@given(ANY_SIGNALS, CONFIGS, SHARES)
def test_a_better_device_makes_the_cloud_never_likelier(
    signals: Signals, config: RouterConfig, edge: float
) -> None:
    quality = signals.quality
    better = replace(quality, edge=max(edge, quality.edge))
    never_likelier(signals, replace(signals, quality=better), config)


@given(ANY_SIGNALS, CONFIGS, SHARES)
def test_an_emptier_battery_makes_the_device_never_likelier(
    signals: Signals, config: RouterConfig, share: float
) -> None:
    battery = signals.device.battery
    # Where the radio takes more than the model would, it is the cloud that a low battery shuns.
    config = replace(config, radio_joules=0)
    if battery is not None:
        emptier = replace(signals, device=replace(signals.device, battery=battery * share))
        never_likelier(emptier, signals, config)


@given(OPEN_CHOICE, CONFIGS, KNOWN)
def test_a_slower_cloud_is_never_likelier(
    signals: Signals, config: RouterConfig, more_ms: float
) -> None:
    latency = signals.cloud.latency
    if latency.ttft_p50_ms is None or latency.ttft_p95_ms is None:
        return
    slower = replace(
        latency,
        ttft_p50_ms=latency.ttft_p50_ms + more_ms,
        ttft_p95_ms=latency.ttft_p95_ms + more_ms,
    )
    signals = replace(signals, session=Session())
    after = replace(signals, cloud=replace(signals.cloud, latency=slower))
    never_likelier(signals, after, config)


@given(ANY_SIGNALS, st.floats(0, 10), st.floats(0, 10))
def test_who_pays_more_for_quality_escalates_all_that_gains_and_went_before(
    signals: Signals, worth: float, more: float
) -> None:
    quality = signals.quality
    if quality.cloud >= quality.edge:
        poor = RouterConfig(good_answer_usd=worth)
        rich = RouterConfig(good_answer_usd=worth + more)
        assert in_cloud(signals, rich) or not in_cloud(signals, poor)
