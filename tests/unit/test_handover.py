"""When an answer may be handed over, as far as the request and the moment tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from isthmus.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    RouteMode,
    RoutePreference,
    TextPart,
)
from isthmus.core.deadline import Deadline
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.errors import ConfigError
from isthmus.router.budget import BudgetState, PeriodState
from isthmus.router.config import RouterConfig
from isthmus.router.doubt.cascade import Doubt
from isthmus.router.doubt.handover import (
    DOUBTS,
    CascadeConfig,
    Moment,
    break_even,
    may_be_watched,
    may_hand_over,
)
from isthmus.router.policy import decide
from isthmus.router.presets import Preset
from routing_cases import EASY, PRICED

REQUEST = ChatRequest("r", (Message(Role.USER, (TextPart("hello"),)),))
MOMENT = Moment(
    shown=True, has_tool_calls=False, cloud_available=True, consented=True, elapsed_ms=100.0
)
JSON = replace(REQUEST, response_format=ResponseFormat(ResponseKind.JSON_OBJECT))


def hasty(slo_ms: float) -> ChatRequest:
    return replace(REQUEST, preference=RoutePreference(ttft_slo_ms=slo_ms))


def test_an_answer_may_be_handed_over_when_nothing_speaks_against_it() -> None:
    assert may_hand_over(REQUEST, MOMENT)
    assert may_hand_over(REQUEST, replace(MOMENT, shown=False))


@pytest.mark.parametrize(
    "against", [{"has_tool_calls": True}, {"cloud_available": False}, {"consented": False}]
)
def test_half_a_call_no_cloud_and_no_consent_keep_it_on_the_device(against: dict[str, Any]) -> None:
    assert not may_hand_over(REQUEST, replace(MOMENT, **against))


def test_a_form_of_which_a_part_was_shown_is_ended_where_it_was_begun() -> None:
    assert not may_hand_over(JSON, MOMENT)
    assert may_hand_over(JSON, replace(MOMENT, shown=False))


def test_a_promised_first_token_is_not_given_up_for_a_doubt() -> None:
    waiting = replace(MOMENT, shown=False, cloud_ttft_ms=150.0)
    assert may_hand_over(hasty(300.0), waiting)
    assert not may_hand_over(hasty(200.0), waiting)
    assert may_hand_over(hasty(200.0), replace(waiting, shown=True))


def test_a_deadline_that_the_cloud_would_hardly_meet_keeps_it_on_the_device() -> None:
    soon = replace(REQUEST, deadline=Deadline.after(0.2))
    assert may_hand_over(soon, replace(MOMENT, cloud_ttft_ms=10.0))
    assert not may_hand_over(soon, replace(MOMENT, cloud_ttft_ms=150.0))


@pytest.mark.parametrize("mode", RouteMode)
def test_only_an_answer_whose_route_was_left_open_is_watched(mode: RouteMode) -> None:
    asked = replace(REQUEST, preference=RoutePreference(mode=mode))
    decision = Decision(Target.EDGE, (Reason.VALUE_ON_EDGE,))
    assert may_be_watched(asked, decision, CascadeConfig()) is (mode is RouteMode.AUTO)


def test_where_nobody_else_may_answer_nothing_is_watched() -> None:
    alone = Decision(Target.EDGE, (Reason.PRIVACY_LOCAL_ONLY,), fallback_allowed=False)
    assert not may_be_watched(REQUEST, alone, CascadeConfig())
    decision = Decision(Target.EDGE, (Reason.VALUE_ON_EDGE,))
    assert not may_be_watched(REQUEST, decision, CascadeConfig(enabled=False))


def test_the_preset_private_keeps_a_doubtful_answer_on_the_device() -> None:
    decision = decide(EASY, RouterConfig(Preset.PRIVATE))
    assert decision.fallback_allowed
    assert not may_be_watched(REQUEST, decision, CascadeConfig())


def test_the_break_even_is_the_quality_at_which_the_decision_turns() -> None:
    signals = replace(EASY, cloud=PRICED)
    turn = break_even(decide(signals, RouterConfig()))
    assert 0 < turn < signals.quality.edge
    for edge, target in ((turn + 1e-6, Target.EDGE), (turn - 1e-6, Target.CLOUD)):
        quality = replace(signals.quality, edge=edge)
        assert decide(replace(signals, quality=quality), RouterConfig()).target is target


def test_a_doubt_leads_nowhere_where_the_cloud_is_not_worth_its_price() -> None:
    running_out = BudgetState(day=PeriodState(10**6, 9 * 10**5, 0.1))
    dear = replace(EASY, cloud=PRICED, budget=running_out)
    for signals, config in ((dear, RouterConfig()), (EASY, RouterConfig(good_answer_usd=0))):
        decision = decide(signals, config)
        assert decision.fallback_allowed
        assert break_even(decision) <= 0
        assert not may_be_watched(REQUEST, decision, CascadeConfig())
    assert may_be_watched(REQUEST, decide(EASY, RouterConfig()), CascadeConfig())


def test_every_doubt_has_a_reason_code() -> None:
    assert set(DOUBTS) == set(Doubt)
    assert len(set(DOUBTS.values())) == len(Doubt)


@pytest.mark.parametrize("wrong", [{"edge_floor": -0.1}, {"patience_s": float("nan")}])
def test_a_setting_out_of_range_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        CascadeConfig(**wrong)  # type: ignore[arg-type]
    assert caught.value.field == f"router.cascade.{next(iter(wrong))}"
