"""The decision: its gates, their order, and what holds for any signals at all."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    Message,
    PrivacyClass,
    ResponseFormat,
    ResponseKind,
    Role,
    RouteMode,
    RoutePreference,
    TextPart,
    Tool,
    ToolChoice,
)
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.errors import ConfigError, PolicyRefused
from isthmus.core.money import Price
from isthmus.privacy.scan import ScanResult
from isthmus.router.config import RouterConfig
from isthmus.router.policy import decide, privacy_reason
from isthmus.router.quality import Basis, Quality
from isthmus.router.signals import (
    Capability,
    CloudState,
    EdgeState,
    Signals,
    estimate_tokens,
    gather,
    needs_of,
)

CONFIG = RouterConfig(escalate_threshold=0.5)
PUBLIC, REDACTED, SENSITIVE, UNKNOWN = (
    ScanResult(PrivacyClass.PUBLIC),
    ScanResult(PrivacyClass.REDACTED, {"EMAIL": 1}),
    ScanResult(PrivacyClass.SENSITIVE, {"EMAIL": 1}),
    ScanResult(PrivacyClass.UNKNOWN, failed=True),
)
EASY = Signals(RoutePreference(), PUBLIC, Quality(0.9, 1.0), prompt_tokens=100)
HARD = replace(EASY, quality=Quality(0.5, 1.0))
OFFLINE, BREAKER, NO_EDGE = (
    CloudState(available=False),
    CloudState(breaker_open=True),
    EdgeState(available=False),
)


def asking(mode: RouteMode, signals: Signals = EASY) -> Signals:
    return replace(signals, preference=replace(signals.preference, mode=mode))


DEAR = replace(
    HARD,
    preference=RoutePreference(max_price_usd=0.0005),
    cloud=CloudState(price=Price(Decimal(1), Decimal(2))),
)

CASES = {
    "easy": (EASY, Target.EDGE, [Reason.EASY], True),
    "hard": (HARD, Target.CLOUD, [Reason.HARD], True),
    "prefer_device": (
        asking(RouteMode.PREFER_ON_DEVICE, HARD), Target.EDGE, [Reason.PREFERRED_EDGE], True,
    ),
    "prefer_cloud": (
        asking(RouteMode.PREFER_IN_CLOUD), Target.CLOUD, [Reason.PREFERRED_CLOUD], True,
    ),
    "only_device": (
        asking(RouteMode.ONLY_ON_DEVICE, HARD), Target.EDGE, [Reason.FORCED_EDGE], False,
    ),
    "only_cloud": (asking(RouteMode.ONLY_IN_CLOUD), Target.CLOUD, [Reason.FORCED_CLOUD], False),
    "only_cloud_while_offline": (
        asking(RouteMode.ONLY_IN_CLOUD, replace(EASY, cloud=OFFLINE)),
        Target.CLOUD, [Reason.FORCED_CLOUD, Reason.CLOUD_OFFLINE], False,
    ),
    "only_cloud_while_breaker_open": (
        asking(RouteMode.ONLY_IN_CLOUD, replace(EASY, cloud=BREAKER)),
        Target.CLOUD, [Reason.FORCED_CLOUD, Reason.BREAKER_OPEN], False,
    ),
    "only_device_though_it_cannot": (
        asking(RouteMode.ONLY_ON_DEVICE, replace(EASY, edge=NO_EDGE, prompt_tokens=10**6)),
        Target.EDGE, [Reason.FORCED_EDGE], False,
    ),
    "sensitive": (
        replace(HARD, privacy=SENSITIVE), Target.EDGE, [Reason.PRIVACY_LOCAL_ONLY], False,
    ),
    "unknown": (
        replace(HARD, privacy=UNKNOWN), Target.EDGE, [Reason.PRIVACY_SCAN_FAILED], False,
    ),
    "sensitive_overrules_a_preference": (
        asking(RouteMode.PREFER_IN_CLOUD, replace(HARD, privacy=SENSITIVE)),
        Target.EDGE, [Reason.PRIVACY_LOCAL_ONLY], False,
    ),
    "sensitive_on_device": (
        asking(RouteMode.ONLY_ON_DEVICE, replace(HARD, privacy=SENSITIVE)),
        Target.EDGE, [Reason.PRIVACY_LOCAL_ONLY, Reason.FORCED_EDGE], False,
    ),
    "sensitive_and_too_long": (
        replace(HARD, privacy=SENSITIVE, prompt_tokens=10**6),
        Target.EDGE, [Reason.PRIVACY_LOCAL_ONLY], False,
    ),
    "offline": (replace(HARD, cloud=OFFLINE), Target.EDGE, [Reason.CLOUD_OFFLINE], False),
    "offline_overrules_a_preference": (
        asking(RouteMode.PREFER_IN_CLOUD, replace(HARD, cloud=OFFLINE)),
        Target.EDGE, [Reason.CLOUD_OFFLINE], False,
    ),
    "breaker": (replace(HARD, cloud=BREAKER), Target.EDGE, [Reason.BREAKER_OPEN], False),
    "no_model": (
        asking(RouteMode.PREFER_ON_DEVICE, replace(EASY, edge=NO_EDGE)),
        Target.CLOUD, [Reason.EDGE_UNAVAILABLE], False,
    ),
    "too_long_for_edge": (
        replace(EASY, prompt_tokens=2000, edge=EdgeState(context_tokens=2048)),
        Target.CLOUD, [Reason.CONTEXT_TOO_LONG_FOR_EDGE], False,
    ),
    "answer_too_long_for_edge": (
        replace(EASY, max_tokens=2000, edge=EdgeState(context_tokens=2048)),
        Target.CLOUD, [Reason.CONTEXT_TOO_LONG_FOR_EDGE], False,
    ),
    "too_long_for_cloud": (
        replace(HARD, cloud=CloudState(context_tokens=128)),
        Target.EDGE, [Reason.CONTEXT_TOO_LONG_FOR_CLOUD], False,
    ),
    "tools": (
        replace(EASY, needs=frozenset({Capability.TOOLS})),
        Target.CLOUD, [Reason.CAPABILITY_MISSING_ON_EDGE], False,
    ),
    "tools_that_the_device_has": (
        replace(
            EASY,
            needs=frozenset({Capability.TOOLS}),
            edge=EdgeState(capabilities=frozenset({Capability.TOOLS})),
        ),
        Target.EDGE, [Reason.EASY], True,
    ),
    "dear": (DEAR, Target.EDGE, [Reason.PRICE_ABOVE_LIMIT], False),
    "cheap_enough": (
        replace(DEAR, preference=RoutePreference(max_price_usd=0.000612)),
        Target.CLOUD, [Reason.HARD], True,
    ),
    "neither": (
        replace(EASY, cloud=OFFLINE, prompt_tokens=10**6),
        Target.EDGE, [Reason.CLOUD_OFFLINE, Reason.CONTEXT_TOO_LONG_FOR_EDGE], False,
    ),
    "edge_breaks_the_promise": (
        replace(
            EASY,
            preference=RoutePreference(ttft_slo_ms=200),
            edge=EdgeState(ttft_ms=900),
            cloud=CloudState(ttft_ms=150),
        ),
        Target.CLOUD, [Reason.LATENCY_SLO], True,
    ),
    "cloud_breaks_the_promise": (
        replace(
            HARD,
            preference=RoutePreference(ttft_slo_ms=200),
            edge=EdgeState(ttft_ms=90),
            cloud=CloudState(ttft_ms=250),
        ),
        Target.EDGE, [Reason.LATENCY_SLO], True,
    ),
    "both_break_the_promise": (
        replace(
            HARD,
            preference=RoutePreference(ttft_slo_ms=20),
            edge=EdgeState(ttft_ms=90),
            cloud=CloudState(ttft_ms=250),
        ),
        Target.CLOUD, [Reason.HARD], True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_table_of_decisions(case: str) -> None:
    signals, target, reasons, fallback_allowed = CASES[case]
    decision = decide(signals, CONFIG)
    assert (decision.target, list(decision.reasons)) == (target, reasons)
    assert decision.fallback_allowed is fallback_allowed


@pytest.mark.parametrize("privacy", [SENSITIVE, UNKNOWN])
def test_forcing_the_cloud_with_something_private_is_refused(privacy: ScanResult) -> None:
    with pytest.raises(PolicyRefused) as refusal:
        decide(asking(RouteMode.ONLY_IN_CLOUD, replace(EASY, privacy=privacy)), CONFIG)
    assert refusal.value.reason == privacy_reason(privacy).value
    assert refusal.value.field == "isthmus.route"


def test_a_value_that_cannot_be_redacted_has_a_reason_of_its_own() -> None:
    kept = replace(EASY, privacy=replace(SENSITIVE, redactable=False))
    assert decide(kept, CONFIG).reasons == (Reason.PRIVACY_NOT_REDACTABLE,)


def test_forcing_the_cloud_without_consent_is_refused() -> None:
    with pytest.raises(PolicyRefused) as refusal:
        decide(
            asking(RouteMode.ONLY_IN_CLOUD, replace(EASY, cloud=CloudState(consented=False))),
            CONFIG,
        )
    assert refusal.value.reason == "privacy_no_consent"


def test_forcing_the_cloud_above_the_requests_own_price_limit_is_refused() -> None:
    with pytest.raises(PolicyRefused) as refusal:
        decide(asking(RouteMode.ONLY_IN_CLOUD, DEAR), CONFIG)
    assert refusal.value.reason == "price_above_limit"


def test_a_decision_carries_every_term_and_limit() -> None:
    signals = replace(
        DEAR,
        quality=Quality(0.5, 0.75, Basis.CALIBRATED, "v1", (("code", 0.3),)),
        edge=EdgeState(ttft_ms=90, tpot_ms=8),
    )
    decision = decide(signals, CONFIG)
    assert decision.scores["escalate"] == 0.25
    assert (decision.scores["edge_quality"], decision.scores["cloud_quality"]) == (0.5, 0.75)
    assert decision.scores["quality.code"] == 0.3
    assert decision.scores["cloud_price_usd"] == pytest.approx(0.000612)
    assert decision.scores["edge_ttft_ms"] == 90
    assert decision.thresholds["escalate"] == 0.5
    assert decision.thresholds["max_price_usd"] == 0.0005
    assert json.loads(json.dumps(dict(decision.scores))) == dict(decision.scores)


NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
TOKENS = st.integers(0, 10**7)
NEEDS = st.frozensets(st.sampled_from(Capability))
PRICES = st.decimals(0, 1000, places=4)
ANY_SIGNALS = st.builds(
    Signals,
    preference=st.builds(
        RoutePreference,
        mode=st.sampled_from(RouteMode),
        ttft_slo_ms=NUMBERS,
        max_price_usd=NUMBERS,
    ),
    privacy=st.sampled_from([PUBLIC, REDACTED, SENSITIVE, UNKNOWN]),
    quality=st.builds(Quality, st.floats(0, 1), st.floats(0, 1)),
    prompt_tokens=TOKENS,
    max_tokens=st.none() | TOKENS,
    needs=NEEDS,
    edge=st.builds(
        EdgeState,
        available=st.booleans(),
        context_tokens=TOKENS,
        capabilities=NEEDS,
        ttft_ms=NUMBERS,
        tpot_ms=NUMBERS,
    ),
    cloud=st.builds(
        CloudState,
        available=st.booleans(),
        consented=st.booleans(),
        breaker_open=st.booleans(),
        context_tokens=st.none() | TOKENS,
        price=st.builds(Price, PRICES, PRICES),
        rtt_ms=NUMBERS,
        ttft_ms=NUMBERS,
    ),
)
CONFIGS = st.builds(RouterConfig, escalate_threshold=st.floats(0, 2))


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
    consented = signals.cloud.consented
    mode = signals.preference.mode
    decision = decided(signals, config)
    # NaN is unequal to itself, so the repetition is compared by what it prints.
    assert repr(decided(signals, config)) == repr(decision)
    if isinstance(decision, str):
        assert mode is RouteMode.ONLY_IN_CLOUD
        if private:
            assert decision in {"privacy_local_only", "privacy_scan_failed"}
        else:
            assert decision == ("price_above_limit" if consented else "privacy_no_consent")
        return
    assert decision.reasons
    may_leave = decision.target is Target.CLOUD or decision.fallback_allowed
    kept = private or not consented or mode is RouteMode.ONLY_ON_DEVICE
    assert not (may_leave and kept)
    left_redacted = decision.target is Target.CLOUD and signals.privacy is REDACTED
    assert (Reason.PRIVACY_REDACTED in decision.reasons) == left_redacted
    if mode is RouteMode.ONLY_IN_CLOUD:
        assert decision.target is Target.CLOUD
        assert not decision.fallback_allowed


@pytest.mark.parametrize(
    "setting",
    [{"escalate_threshold": -0.1}, {"escalate_threshold": float("nan")}, {"answer_tokens": 0}],
)
def test_a_wrong_setting_is_named(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        RouterConfig(**setting)  # type: ignore[arg-type]
    assert error.value.field == f"router.{next(iter(setting))}"


ASKED = ChatRequest("r", (Message(Role.USER, (TextPart("mail a@b.org"),)),), max_tokens=9)


def test_signals_are_gathered_from_a_request() -> None:
    signals = gather(ASKED, edge=EdgeState(), cloud=CloudState())
    assert signals.privacy.privacy_class is PrivacyClass.REDACTED
    assert (signals.max_tokens, signals.needs) == (9, frozenset())
    assert signals.prompt_tokens == estimate_tokens(ASKED) > 3
    given_ones = gather(
        ASKED, edge=EdgeState(), cloud=CloudState(), privacy=PUBLIC, prompt_tokens=17
    )
    assert (given_ones.privacy, given_ones.prompt_tokens) == (PUBLIC, 17)


def test_a_schema_of_any_depth_is_estimated() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"a": schema}
    assert estimate_tokens(replace(ASKED, tools=(Tool("t", "", schema),))) >= 5_000


def test_needs_are_read_from_the_request() -> None:
    tools = replace(ASKED, tools=(Tool("t"),))
    image = Message(Role.USER, (ImagePart("https://example.org/a.png"),))
    schema = ResponseFormat(ResponseKind.JSON_SCHEMA, "s", {})
    assert needs_of(tools) == {Capability.TOOLS}
    assert needs_of(replace(tools, tool_choice=ToolChoice.NONE)) == set()
    assert needs_of(replace(ASKED, messages=(image,))) == {Capability.IMAGES}
    assert needs_of(replace(ASKED, response_format=schema)) == {Capability.JSON_SCHEMA}


def test_chinese_text_counts_more_tokens_than_english_of_the_same_length() -> None:
    english, chinese = (
        estimate_tokens(replace(ASKED, messages=(Message(Role.USER, (TextPart(text),)),)))
        for text in ("abcd" * 25, "你好世界" * 25)
    )
    assert english < chinese
