"""The hard gates: what shuts which, in which order, and what a shut gate means for the route."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isthmus.core.chat import RouteMode, RoutePreference
from isthmus.core.decision import Reason, Target
from isthmus.core.errors import PolicyRefused
from isthmus.privacy.scan import ScanResult
from isthmus.router.config import RouterConfig
from isthmus.router.gates import privacy_reason, shut_gates
from isthmus.router.policy import decide
from isthmus.router.presets import Preset
from isthmus.router.signals import Capability, CloudState, DeviceHealth, EdgeState, Signals
from routing_cases import (
    BREAKER,
    EASY,
    HARD,
    NO_CONSENT,
    NO_EDGE,
    OFFLINE,
    PRICED,
    SENSITIVE,
    SPENT,
    UNKNOWN,
    asking,
)

CONFIG = RouterConfig()
DEAR = replace(HARD, preference=RoutePreference(max_price_usd=0.000611), cloud=PRICED)
TOOLS = frozenset({Capability.TOOLS})
ON_DEVICE, IN_CLOUD = RouteMode.ONLY_ON_DEVICE, RouteMode.ONLY_IN_CLOUD

CASES = {
    "sensitive": (replace(HARD, privacy=SENSITIVE), "edge", "privacy_local_only"),
    "unknown": (replace(HARD, privacy=UNKNOWN), "edge", "privacy_scan_failed"),
    "not_redactable": (
        replace(HARD, privacy=replace(SENSITIVE, redactable=False)),
        "edge", "privacy_not_redactable",
    ),
    "no_consent": (replace(HARD, cloud=NO_CONSENT), "edge", "privacy_no_consent"),
    "offline": (replace(HARD, cloud=OFFLINE), "edge", "cloud_offline"),
    "breaker": (replace(HARD, cloud=BREAKER), "edge", "breaker_open"),
    "no_model": (replace(EASY, edge=NO_EDGE), "cloud", "edge_unavailable"),
    "too_long_for_edge": (
        replace(EASY, prompt_tokens=2000, edge=EdgeState(context_tokens=2048)),
        "cloud", "context_too_long_for_edge",
    ),
    "answer_too_long_for_edge": (
        replace(EASY, max_tokens=2000, edge=EdgeState(context_tokens=2048)),
        "cloud", "context_too_long_for_edge",
    ),
    "too_long_for_cloud": (
        replace(HARD, cloud=CloudState(context_tokens=128)), "edge", "context_too_long_for_cloud",
    ),
    "tools_on_edge": (replace(EASY, needs=TOOLS), "cloud", "capability_missing_on_edge"),
    "tools_in_cloud": (
        replace(
            HARD,
            needs=TOOLS,
            edge=EdgeState(capabilities=TOOLS),
            cloud=CloudState(capabilities=frozenset()),
        ),
        "edge", "capability_missing_in_cloud",
    ),
    "only_device": (asking(ON_DEVICE, HARD), "edge", "forced_edge"),
    "only_cloud": (asking(IN_CLOUD), "cloud", "forced_cloud"),
    "dear": (DEAR, "edge", "price_above_limit"),
    "dear_for_the_budgets_limit": (
        replace(HARD, cloud=PRICED, budget=replace(SPENT, day=None, request_micro_usd=611)),
        "edge", "price_above_limit",
    ),
    "spent": (replace(HARD, cloud=PRICED, budget=SPENT), "edge", "budget_spent"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_gate_rules_a_tier_out_with_its_reason_and_forbids_to_fall_back_to_it(
    case: str,
) -> None:
    signals, target, reason = CASES[case]
    decision = decide(signals, CONFIG)
    assert (decision.target, decision.reasons) == (Target(target), (Reason(reason),))
    assert not decision.fallback_allowed
    assert not decision.race


HOT, EMPTY = DeviceHealth(temperature_c=90.1), DeviceHealth(battery=0.149)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (HOT, "device_hot"),
        (DeviceHealth(battery_temperature_c=45.1), "device_hot"),
        (DeviceHealth(throttled=True), "device_hot"),
        (EMPTY, "battery_low"),
        (replace(EMPTY, charging=False), "battery_low"),
    ],
)
def test_a_device_below_its_floors_leaves_the_answer_to_the_cloud_and_helps_out_if_that_fails(
    device: DeviceHealth, reason: str
) -> None:
    decision = decide(replace(EASY, device=device), CONFIG)
    assert (decision.target, decision.reasons) == (Target.CLOUD, (Reason(reason),))
    assert decision.fallback_allowed


@pytest.mark.parametrize(
    "device",
    [
        DeviceHealth(),
        DeviceHealth(battery=0.15),
        DeviceHealth(battery=0.01, charging=True),
        DeviceHealth(temperature_c=90.0, battery_temperature_c=45.0, throttled=False),
    ],
)
def test_absent_sensors_and_a_device_at_its_floors_shut_no_gate(device: DeviceHealth) -> None:
    assert shut_gates(replace(EASY, device=device), CONFIG) == ()


@pytest.mark.parametrize("other", ["sensitive", "offline", "only_device", "spent"])
def test_below_its_floors_the_device_answers_all_the_same_where_the_cloud_may_not(
    other: str,
) -> None:
    signals, _, reason = CASES[other]
    decision = decide(replace(signals, device=replace(EMPTY, temperature_c=99.0)), CONFIG)
    assert (decision.target, decision.reasons) == (Target.EDGE, (Reason(reason),))


@pytest.mark.parametrize("preset", [Preset.PRIVATE, Preset.OFFLINE])
def test_a_warm_device_is_no_reason_to_let_out_what_was_to_stay(preset: Preset) -> None:
    decision = decide(replace(HARD, device=HOT), RouterConfig(preset))
    assert decision.target is Target.EDGE


ALL_SHUT = replace(
    asking(ON_DEVICE, DEAR),
    privacy=SENSITIVE,
    prompt_tokens=10**6,
    needs=TOOLS,
    budget=SPENT,
    device=replace(EMPTY, temperature_c=99.0),
    edge=EdgeState(),
    cloud=replace(
        PRICED,
        consented=False,
        available=False,
        breaker_open=True,
        context_tokens=10,
        capabilities=frozenset(),
    ),
)
IN_ORDER = [
    "privacy_local_only",
    "privacy_no_consent",
    "cloud_offline",
    "breaker_open",
    "context_too_long_for_cloud",
    "context_too_long_for_edge",
    "capability_missing_in_cloud",
    "capability_missing_on_edge",
    "forced_edge",
    "price_above_limit",
    "budget_spent",
    "battery_low",
    "device_hot",
]


def test_the_gates_stand_in_their_order() -> None:
    assert [gate.reason for gate in shut_gates(ALL_SHUT, CONFIG)] == IN_ORDER
    no_model = [gate.reason for gate in shut_gates(replace(ALL_SHUT, edge=NO_EDGE), CONFIG)]
    assert no_model.index(Reason.EDGE_UNAVAILABLE) == no_model.index(Reason.BREAKER_OPEN) + 1


def test_when_both_tiers_are_ruled_out_the_device_is_named_with_all_that_rules_them_out() -> None:
    decision = decide(replace(HARD, cloud=OFFLINE, prompt_tokens=10**6), CONFIG)
    assert decision.target is Target.EDGE
    assert decision.reasons == (Reason.CLOUD_OFFLINE, Reason.CONTEXT_TOO_LONG_FOR_EDGE)
    assert decide(ALL_SHUT, CONFIG).reasons == tuple(map(Reason, IN_ORDER[:-2]))


@pytest.mark.parametrize(
    ("cloud", "reasons"),
    [
        (OFFLINE, ["cloud_offline", "forced_cloud"]),
        (BREAKER, ["breaker_open", "forced_cloud"]),
        (CloudState(context_tokens=1), ["context_too_long_for_cloud", "forced_cloud"]),
    ],
)
def test_a_forced_cloud_that_cannot_is_asked_and_says_so_itself(
    cloud: CloudState, reasons: list[str]
) -> None:
    decision = decide(asking(IN_CLOUD, replace(EASY, cloud=cloud)), CONFIG)
    assert (decision.target, list(decision.reasons)) == (Target.CLOUD, reasons)
    assert not decision.fallback_allowed


@pytest.mark.parametrize(
    ("signals", "config", "reason", "field"),
    [
        (replace(EASY, privacy=SENSITIVE), CONFIG, "privacy_local_only", "isthmus.route"),
        (replace(EASY, privacy=UNKNOWN), CONFIG, "privacy_scan_failed", "isthmus.route"),
        (replace(EASY, cloud=NO_CONSENT), CONFIG, "privacy_no_consent", "isthmus.route"),
        (EASY, RouterConfig(Preset.OFFLINE), "forced_edge", "isthmus.route"),
        (DEAR, CONFIG, "price_above_limit", "isthmus.max_price_usd"),
        (replace(HARD, cloud=PRICED, budget=SPENT), CONFIG, "budget_spent", "isthmus.route"),
    ],
)
def test_forcing_the_cloud_where_it_is_forbidden_is_refused(
    signals: Signals, config: RouterConfig, reason: str, field: str
) -> None:
    with pytest.raises(PolicyRefused) as refusal:
        decide(asking(IN_CLOUD, signals), config)
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


@pytest.mark.parametrize(
    ("mode", "gate"),
    [(RouteMode.PREFER_IN_CLOUD, "offline"), (RouteMode.PREFER_ON_DEVICE, "no_model")],
)
def test_a_gate_overrules_a_preference(mode: RouteMode, gate: str) -> None:
    signals, target, reason = CASES[gate]
    decision = decide(asking(mode, signals), CONFIG)
    assert (decision.target, decision.reasons) == (Target(target), (Reason(reason),))


def test_the_preset_offline_shuts_the_cloud_out() -> None:
    decision = decide(HARD, RouterConfig(Preset.OFFLINE))
    assert (decision.target, decision.reasons) == (Target.EDGE, (Reason.FORCED_EDGE,))


def test_a_limit_that_is_no_number_counts_as_exceeded() -> None:
    unlimited = replace(HARD, cloud=PRICED)
    assert decide(unlimited, CONFIG).target is Target.CLOUD
    nonsense = replace(unlimited, preference=RoutePreference(max_price_usd=float("nan")))
    for signals in (nonsense, replace(nonsense, budget=replace(SPENT, request_micro_usd=10**9))):
        assert Reason.PRICE_ABOVE_LIMIT in decide(signals, CONFIG).reasons


@pytest.mark.parametrize("privacy", [SENSITIVE, UNKNOWN, replace(SENSITIVE, redactable=False)])
def test_every_private_result_has_a_reason_of_its_own(privacy: ScanResult) -> None:
    others = {privacy_reason(p) for p in (SENSITIVE, UNKNOWN, replace(SENSITIVE, redactable=False))}
    assert len(others) == 3
    assert privacy_reason(privacy).value.startswith("privacy_")
