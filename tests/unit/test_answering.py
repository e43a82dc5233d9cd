"""The answer path with scripted tiers: races, doubts, failures. Nothing is lost or said twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_client import eventually
from isthmus.core.chat import (
    Message,
    PrivacyClass,
    Role,
    RouteMode,
    RoutePreference,
    Sampling,
    TextPart,
)
from isthmus.core.decision import Reason, Status, Target
from isthmus.core.errors import DeadlineExceeded, Unavailable
from isthmus.core.events import FirstToken
from isthmus.core.money import Price
from isthmus.core.tier import ModelInfo
from isthmus.edge.answers import isthmus_object
from isthmus.edge.ledger import Ledger, open_ledger
from isthmus.edge.leg import LegEnd
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.doubt.cascade import WatchConfig
from isthmus.router.doubt.handover import CascadeConfig
from isthmus.router.doubt.second_look import Build, SecondLook
from isthmus.router.signals import estimate_tokens
from scripted_agent import (
    QUICK,
    SURE,
    UNSURE,
    FindsNothing,
    agent_over,
    answer_of,
    decided,
    request,
    text_of,
)

WORDS = ("one", " two", " three", " four", " five", " six", " seven", " eight", " nine", " ten.")
TEXT = "".join(WORDS)
VERIFIES = ModelInfo("big", "scripted", verifies_drafts=True)
PRICE = {"cloud_input_usd_per_mtok": "1", "cloud_output_usd_per_mtok": "2"}


def doubting(after: int, **more: object) -> ScriptedEngine:
    """A device that becomes unsure after so many words."""
    return ScriptedEngine(WORDS, logprobs=(SURE,) * after + (UNSURE,), **more)  # type: ignore[arg-type]


# --- both tiers at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("winner", Target)
async def test_the_first_tier_to_show_something_gives_the_whole_answer(winner: Target) -> None:
    engine = ScriptedEngine(WORDS, delay_s=0.02 if winner is Target.EDGE else 5)
    cloud = ScriptedTier(WORDS, delay_s=0.0 if winner is Target.CLOUD else 5)
    trail = Trail(request())
    async with agent_over(engine, cloud, decided(winner.other, race=True)) as agent:
        pieces, _ = await answer_of(agent, trail)
        won = agent.metrics.registry.get_sample_value(
            "isthmus_edge_races_total", {"winner": winner.value}
        )
    assert text_of(pieces) == TEXT
    assert trail.route is winner
    ends = {leg.target: leg.end for leg in trail.legs}
    assert ends == {winner: LegEnd.ANSWERED, winner.other: LegEnd.LOST}
    loser = engine if winner is Target.CLOUD else cloud
    assert (loser.stopped, loser.running) == (1, 0)
    assert won == 1


@pytest.mark.parametrize("streams", [True, False])
async def test_a_device_in_a_race_holds_nothing_back(streams: bool) -> None:
    engine = ScriptedEngine(WORDS, delay_s=0.05)
    cloud = ScriptedTier(WORDS, delay_s=0.3)
    trail = Trail(request(), streams=streams)
    cascade = CascadeConfig(watch=WatchConfig(hold_back_tokens=9))
    async with agent_over(engine, cloud, decided(race=True), cascade) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert trail.route is Target.EDGE
    assert pieces[0].text == WORDS[0]


async def test_a_promised_first_token_is_not_held_back() -> None:
    cascade = CascadeConfig(watch=WatchConfig(hold_back_tokens=4))
    hasty = request(preference=RoutePreference(ttft_slo_ms=200.0))
    async with agent_over(ScriptedEngine(WORDS), ScriptedTier(WORDS), decided(), cascade) as agent:
        at_once, _ = await answer_of(agent, Trail(hasty))
        later, _ = await answer_of(agent, Trail(request()))
    assert at_once[0].text == WORDS[0]
    assert len(later[0].text) < len(TEXT)
    assert len(later) < len(at_once)


async def test_a_cloud_that_loses_a_race_is_paid_for_and_its_bytes_are_told() -> None:
    engine = ScriptedEngine(WORDS, delay_s=0.05)
    cloud = ScriptedTier(WORDS, delay_s=5, prompt_tokens=100)
    trail = Trail(request())
    async with agent_over(engine, cloud, decided(race=True), **PRICE) as agent:
        await answer_of(agent, trail)
        unused = agent.metrics.registry.get_sample_value("isthmus_edge_price_unused_usd_total")
    assert trail.route is Target.EDGE
    assert trail.price_micro_usd == 100
    assert unused == pytest.approx(100e-6)
    assert trail.outcome().price_micro_usd == 100
    assert [sent.size_bytes for sent in trail.sent] == [len(cloud.left[0])]
    assert trail.receipt("").made_by == ("edge",)


async def test_a_cloud_that_was_stopped_before_it_told_its_prompt_is_priced_by_an_estimate() -> (
    None
):
    trail = Trail(request())
    leg = trail.start(Target.CLOUD, expected_prompt_tokens=40)
    trail.cloud_price = Price(Decimal(1), Decimal(2))
    leg.end = LegEnd.LOST
    assert trail.price_micro_usd == 0  # nothing left
    trail.left(leg, b"request", {}, trail.request.privacy_class)
    assert trail.price_micro_usd == 40


@pytest.mark.parametrize("fails", Target)
async def test_a_race_survives_the_failure_of_either_tier(fails: Target) -> None:
    engine, cloud = ScriptedEngine(WORDS, delay_s=0.1), ScriptedTier(WORDS, delay_s=0.1)
    broken = engine if fails is Target.EDGE else cloud
    broken.pieces, broken.error = (), Unavailable("gone")
    trail = Trail(request())
    async with agent_over(engine, cloud, decided(fails, race=True)) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert trail.route is fails.other
    assert Reason.FELL_BACK in trail.reasons


async def test_a_race_that_both_lose_tells_the_failure_of_the_one_decided_on() -> None:
    engine = ScriptedEngine((), error=Unavailable("the engine is closed"))
    cloud = ScriptedTier((), error=Unavailable("the cloud is gone"))
    async with agent_over(engine, cloud, decided(Target.CLOUD, race=True)) as agent:
        with pytest.raises(Unavailable, match="the cloud is gone"):
            await answer_of(agent, Trail(request()))


@pytest.mark.parametrize(
    ("preference", "limits", "reason"),
    [
        (RoutePreference(max_price_usd=1e-6), BudgetLimits(), "price_above_limit"),
        (RoutePreference(), BudgetLimits(day_usd=Decimal("0.00001")), "budget_spent"),
    ],
)
@pytest.mark.parametrize("race", [False, True])
async def test_money_that_is_gone_after_the_decision_is_no_failure_of_the_cloud(
    preference: RoutePreference, limits: BudgetLimits, reason: str, *, race: bool
) -> None:
    engine, cloud = ScriptedEngine(WORDS, delay_s=0.05), ScriptedTier(WORDS)
    trail = Trail(request(preference=preference))
    decision = decided(Target.CLOUD, race=race)
    settings = {**PRICE, "router": RouterConfig(budget=limits)}
    async with agent_over(engine, cloud, decision, **settings) as agent:
        pieces, _ = await answer_of(agent, trail)
        counted = {family.name: family.samples for family in agent.metrics.registry.collect()}
    assert text_of(pieces) == TEXT
    assert cloud.left == []
    assert counted["isthmus_edge_fallbacks"] == []
    assert [one.value for one in trail.reasons] == [*decision.reasons, reason]
    assert trail.error_kind == ""
    assert isthmus_object(trail)["fallback_error"] is None


async def test_a_client_that_goes_away_stops_both_racers() -> None:
    engine, cloud = ScriptedEngine((), hang=True), ScriptedTier((), hang=True)
    trail = Trail(request())
    async with agent_over(engine, cloud, decided(race=True)) as agent:
        asking = asyncio.create_task(answer_of(agent, trail))
        assert await eventually(lambda: engine.running == cloud.running == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert (engine.stopped, cloud.stopped) == (1, 1)
    assert trail.status is Status.CANCELLED


async def test_without_consent_nothing_races_and_nothing_leaves() -> None:
    engine, cloud = ScriptedEngine(WORDS), ScriptedTier(WORDS)
    refused = {"privacy": PrivacyConfig(consent=False)}
    async with agent_over(engine, cloud, decided(race=True), **refused) as agent:
        await answer_of(agent, Trail(request()))
    assert cloud.left == []


# --- a doubt of the device's ----------------------------------------------------------------------


async def test_a_device_that_becomes_unsure_hands_its_answer_over() -> None:
    engine, cloud = doubting(4), ScriptedTier(WORDS)
    trail = Trail(request())
    async with agent_over(engine, cloud, decided()) as agent:
        pieces, _ = await answer_of(agent, trail)
        handed = agent.metrics.registry.get_sample_value(
            "isthmus_edge_doubts_total",
            {"reason": "doubt_while_decoding", "result": "handed_over"},
        )
    assert text_of(pieces) == TEXT
    assert cloud.requests[0].answer_so_far == "one two three"
    assert trail.reasons[-2:] == [Reason.DOUBT_WHILE_DECODING, Reason.HANDED_OVER]
    assert [leg.end for leg in trail.legs] == [LegEnd.DOUBTED, LegEnd.ANSWERED]
    assert [leg.dropped_tokens for leg in trail.legs] == [3, 0]
    assert trail.usage.completion_tokens == len(WORDS)
    assert trail.receipt("").made_by == ("edge", "cloud")
    assert engine.stopped == 1
    assert handed == 1


@pytest.mark.parametrize(("temperature", "target"), [(0.0, Target.CLOUD), (0.7, Target.EDGE)])
async def test_drawn_tokens_may_be_less_likely_than_the_likeliest_ones(
    temperature: float, target: Target
) -> None:
    engine = ScriptedEngine(WORDS, logprobs=(-2.0,))
    asked = request(sampling=Sampling(temperature=temperature))
    trail = Trail(asked)
    async with agent_over(engine, ScriptedTier(WORDS), decided()) as agent:
        await answer_of(agent, trail)
    assert trail.route is target


async def test_what_is_shown_is_never_what_the_cloud_then_says_differently() -> None:
    engine = doubting(3)
    cloud = ScriptedTier(("one", " two", " III", " IV", " V"))
    async with agent_over(engine, cloud, decided()) as agent:
        pieces, _ = await answer_of(agent, Trail(request()))
    assert text_of(pieces) == "one two III IV V"


async def test_a_device_that_repeats_itself_hands_over() -> None:
    engine = ScriptedEngine(("We begin. ", *["again and again and again. "] * 12))
    cloud = ScriptedTier(("We begin. ", "And we end."))
    trail = Trail(request())
    async with agent_over(engine, cloud, decided()) as agent:
        await answer_of(agent, trail)
    assert Reason.REPETITION in trail.reasons
    assert trail.route is Target.CLOUD


UNSURE_FIRST = FirstToken(margin=0.0, entropy=9.0, logprob=-6.0)


def second_look(bias: float) -> SecondLook:
    nothing = np.zeros(4, np.float32)
    return SecondLook(Build("0" * 64, "Q4_1"), bias, nothing, np.zeros(0, np.float32))


@pytest.mark.parametrize(("bias", "target"), [(-5.0, Target.CLOUD), (5.0, Target.EDGE)])
async def test_a_doubt_after_prefill_moves_the_answer_before_anything_is_shown(
    bias: float, target: Target
) -> None:
    engine, cloud = ScriptedEngine(WORDS, first_token=UNSURE_FIRST), ScriptedTier(WORDS)
    trail = Trail(request())
    decision = decided(scores={"edge.quality": 0.6})
    async with agent_over(engine, cloud, decision) as agent:
        agent.trained.second_look = second_look(bias)
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert trail.route is target
    assert (Reason.DOUBT_AFTER_PREFILL in trail.reasons) is (target is Target.CLOUD)
    assert [r.answer_so_far for r in cloud.requests] == [""] * (target is Target.CLOUD)


@pytest.mark.parametrize(
    "cloud",
    [
        ScriptedTier((), error=Unavailable("gone")),
        ScriptedTier((), hang=True),
    ],
    ids=["fails", "is silent"],
)
async def test_a_device_in_doubt_goes_on_by_itself_when_the_cloud_does_not_come(
    cloud: ScriptedTier,
) -> None:
    engine, trail = doubting(3), Trail(request())
    cascade = CascadeConfig(watch=QUICK, patience_s=0.05)
    async with agent_over(engine, cloud, decided(), cascade) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert trail.route is Target.EDGE
    assert len(engine.requests) == 1
    assert Reason.HANDED_OVER not in trail.reasons
    assert cloud.running == 0


async def test_what_the_cloud_began_after_a_doubt_the_device_ends_when_the_network_goes() -> None:
    engine, cloud = doubting(4), ScriptedTier(WORDS[:6], error=Unavailable("gone"))
    trail = Trail(request())
    async with agent_over(engine, cloud, decided()) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert [leg.target for leg in trail.legs] == [Target.EDGE, Target.CLOUD, Target.EDGE]
    assert not engine.requests[-1].watched


async def test_a_device_in_doubt_that_fails_after_the_cloud_did_says_so() -> None:
    engine = doubting(3)
    engine.error = DeadlineExceeded("the time is used up")
    cloud = ScriptedTier((), error=Unavailable("gone"))
    async with agent_over(engine, cloud, decided()) as agent:
        with pytest.raises(DeadlineExceeded):
            await answer_of(agent, Trail(request()))


@pytest.mark.parametrize(
    "forbidden",
    [
        {"decision": decided(fallback_allowed=False)},
        {"mode": RouteMode.PREFER_ON_DEVICE},
        {"enabled": False},
        {"consent": False},
        {"breaker": "open"},
    ],
    ids=["policy", "preference", "off", "consent", "breaker"],
)
async def test_a_doubt_leads_nowhere_where_the_cloud_may_not_help(
    forbidden: dict[str, Any],
) -> None:
    engine, cloud = doubting(2), ScriptedTier(WORDS)
    asked = request(preference=RoutePreference(mode=forbidden.get("mode", RouteMode.AUTO)))
    cascade = CascadeConfig(enabled=bool(forbidden.get("enabled", True)), watch=QUICK)
    decision = forbidden.get("decision", decided())
    if "breaker" in forbidden:
        for _ in range(3):
            cloud.breaker.fail()
    privacy = {"privacy": PrivacyConfig(consent=forbidden.get("consent", True))}
    async with agent_over(engine, cloud, decision, cascade, **privacy) as agent:  # type: ignore[arg-type]
        pieces, _ = await answer_of(agent, Trail(asked))
    assert text_of(pieces) == TEXT
    assert not engine.requests[0].watched
    assert cloud.left == []


async def test_an_answer_that_became_private_is_not_handed_over() -> None:
    pieces = ("Pay ", "with ", "4111 1111 1111 1111 ", "now ", "or ", "later ", "please ", "do.")
    engine = ScriptedEngine(pieces, logprobs=(SURE,) * 5 + (UNSURE,))
    cloud, trail = ScriptedTier(WORDS), Trail(request())
    async with agent_over(engine, cloud, decided()) as agent:
        shown, _ = await answer_of(agent, trail)
        private = agent.metrics.registry.get_sample_value(
            "isthmus_edge_doubts_total", {"reason": "doubt_while_decoding", "result": "refused"}
        )
    assert text_of(shown) == "".join(pieces)
    assert cloud.left == []
    assert private == 1


async def test_a_device_in_doubt_goes_on_when_there_is_no_money_for_the_cloud() -> None:
    engine, cloud, trail = doubting(4), ScriptedTier(WORDS), None
    prompt = estimate_tokens(request())
    asked = request(preference=RoutePreference(max_price_usd=(prompt + 1) / 1e6))
    trail = Trail(asked)
    async with agent_over(engine, cloud, decided(), **PRICE) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert cloud.left == []
    assert trail.route is Target.EDGE


async def test_the_ledger_tells_every_leg(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    trail = Trail(request())
    async with agent_over(
        doubting(4), ScriptedTier(WORDS), decided(), ledger=ledger, **PRICE
    ) as agent:
        await answer_of(agent, trail)
        await asyncio.to_thread(ledger.flush)
    with closing(open_ledger(tmp_path / "ledger.sqlite")) as db:
        rows = db.execute(
            "SELECT target, ended, dropped_tokens, sent_bytes > 0, price_micro_usd FROM legs "
            "ORDER BY number"
        ).fetchall()
    assert rows == [("edge", "doubted", 3, 0, 0), ("cloud", "answered", 0, 1, 10 + 2 * 7)]


async def test_log_probabilities_that_nobody_asked_for_are_not_shown() -> None:
    async with agent_over(doubting(99), ScriptedTier(WORDS), decided()) as agent:
        pieces, _ = await answer_of(agent, Trail(request()))
        asked = request(sampling=Sampling(top_logprobs=0))
        with_them, _ = await answer_of(agent, Trail(asked))
    assert not any(piece.logprobs for piece in pieces)
    tokens = [token.token for piece in with_them for token in piece.logprobs]
    assert tokens == list(WORDS)


# --- drafts ---------------------------------------------------------------------------------------


async def test_what_was_held_back_is_offered_and_what_is_accepted_is_shown() -> None:
    engine = doubting(4)
    cloud = ScriptedTier(WORDS, last_info=VERIFIES, accepted_chars=len(" three"))
    trail = Trail(request(), streams=False)
    cascade = CascadeConfig(watch=WatchConfig(window_tokens=4))
    async with agent_over(engine, cloud, decided(), cascade, **PRICE) as agent:
        pieces, _ = await answer_of(agent, trail)
        accepted = agent.metrics.registry.get_sample_value(
            "isthmus_edge_draft_tokens_total", {"result": "accepted"}
        )
    asked = cloud.requests[0]
    assert asked.answer_so_far == "one two"
    assert asked.draft == " three four five six seven"
    assert text_of(pieces) == TEXT
    assert accepted == 1
    assert trail.usage.completion_tokens == len(WORDS)


async def test_a_gateway_that_does_not_judge_is_offered_nothing() -> None:
    cloud = ScriptedTier(WORDS, last_info=ModelInfo("big", "scripted"))
    async with agent_over(doubting(4), cloud, decided()) as agent:
        await answer_of(agent, Trail(request(), streams=False))
    assert [asked.draft for asked in cloud.requests] == [""]


async def test_a_value_in_a_draft_leaves_as_a_placeholder_and_is_shown_as_itself() -> None:
    said = (Message(Role.USER, (TextPart("Write a polite letter to jane@example.org, please"),)),)
    words = ("Dear", " you,", " I", " write", " to", " jane@example.org", " today", " and", " so")
    engine = ScriptedEngine(words, logprobs=(SURE,) * 3 + (UNSURE,))
    cloud = ScriptedTier([" Yours."], last_info=VERIFIES, accepted_chars=1000)
    trail = Trail(request(messages=said), streams=False)
    cascade = CascadeConfig(watch=WatchConfig(window_tokens=8))
    async with agent_over(engine, cloud, decided(), cascade) as agent:
        pieces, _ = await answer_of(agent, trail)
    asked = cloud.requests[0]
    assert "[EMAIL_" in asked.draft
    assert b"jane" not in cloud.left[0]
    assert text_of(pieces) == "Dear you, I write to jane@example.org today and Yours."
    assert trail.privacy_class is PrivacyClass.REDACTED


async def test_a_draft_that_would_give_a_value_away_stays_and_the_rest_is_handed_over() -> None:
    said = (Message(Role.USER, (TextPart("Write a polite letter to jane@example.org, please"),)),)
    words = ("Dear", " you,", " I", " write", " to", " a", " b", " jane@exam")
    engine = ScriptedEngine(words, logprobs=(SURE,) * 3 + (UNSURE,))
    cloud = ScriptedTier([" Yours."], last_info=VERIFIES, accepted_chars=1000)
    trail = Trail(request(messages=said), streams=False)
    cascade = CascadeConfig(watch=WatchConfig(window_tokens=8))
    async with agent_over(engine, cloud, decided(), cascade) as agent:
        await answer_of(agent, trail)
    assert [asked.draft for asked in cloud.requests] == [""]
    assert b"jane" not in cloud.left[0]


async def test_a_client_that_asked_for_log_probabilities_gets_no_accepted_draft() -> None:
    cloud = ScriptedTier(WORDS, last_info=VERIFIES, accepted_chars=1000)
    asked = request(sampling=Sampling(top_logprobs=0))
    cascade = CascadeConfig(watch=WatchConfig(window_tokens=4))
    async with agent_over(doubting(4), cloud, decided(), cascade) as agent:
        await answer_of(agent, Trail(asked, streams=False))
    assert [one.draft for one in cloud.requests] == [""]


# --- anything -------------------------------------------------------------------------------------


def cut(text: str, places: Sequence[int]) -> list[str]:
    """`text` in pieces."""
    ends = [*sorted({place % len(text) for place in places} - {0}), len(text)]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


cuts = st.lists(st.integers(1, 10_000), max_size=12)
whole = st.text("ab ,.中国\n", min_size=1, max_size=60)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=whole,
    edge_cuts=cuts,
    cloud_cuts=cuts,
    logprobs=st.lists(st.sampled_from([SURE, UNSURE]), min_size=1, max_size=12),
    edge_fails=st.none() | st.integers(0, 60),
    cloud_fails=st.none() | st.integers(0, 60),
    accepted=st.none() | st.integers(0, 60),
    race=st.booleans(),
    target=st.sampled_from(Target),
    streams=st.booleans(),
    watch=st.builds(WatchConfig, st.integers(1, 5), hold_back_tokens=st.integers(0, 5)),
    delays_s=st.tuples(*[st.sampled_from([0.0, 0.001, 0.003])] * 2),
)
async def test_no_text_is_lost_and_none_is_said_twice(
    text: str,
    edge_cuts: list[int],
    cloud_cuts: list[int],
    logprobs: list[float],
    edge_fails: int | None,
    cloud_fails: int | None,
    accepted: int | None,
    race: bool,
    target: Target,
    streams: bool,
    watch: WatchConfig,
    delays_s: tuple[float, float],
) -> None:
    """Both tiers know the same text, so whoever goes on must go on with the rest of it."""
    edge, cloud = cut(text, edge_cuts), cut(text, cloud_cuts)
    engine = ScriptedEngine(edge, logprobs=logprobs, error_at_char=edge_fails)
    tier = ScriptedTier(
        cloud, last_info=VERIFIES, accepted_chars=accepted, error_at_char=cloud_fails
    )
    engine.delay_s, tier.delay_s = delays_s
    for failing, at in ((engine, edge_fails), (tier, cloud_fails)):
        failing.error = None if at is None else Unavailable("gone")
    trail = Trail(request(), streams=streams)
    cascade = CascadeConfig(watch=watch)
    async with agent_over(
        engine, tier, decided(target, race=race), cascade, FindsNothing()
    ) as agent:
        shown: list[str] = []
        failed = False
        try:
            async with aclosing(agent.run(trail)) as events:
                async for event in events:
                    shown.append(getattr(event, "text", ""))  # noqa: PERF401
        except Unavailable:
            failed = True
    seen = "".join(shown)
    assert seen == trail.text
    assert text.startswith(seen)
    if not failed:
        assert seen == text
    else:
        assert engine.error is not None
        assert tier.error is not None
    assert engine.running == tier.running == 0
    assert all(leg.end is not LegEnd.RUNNING for leg in trail.legs)
    assert sum(leg.shown_tokens for leg in trail.legs) <= sum(
        leg.completion_tokens for leg in trail.legs
    )
