"""Both tiers at once: who shows something first answers; failures, and money. Scripted tiers."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from isthmus.core.chat import (
    RoutePreference,
)
from isthmus.core.decision import Reason, Status, Target
from isthmus.core.errors import Unavailable
from isthmus.core.money import Price
from isthmus.edge.answers import isthmus_object
from isthmus.edge.leg import LegEnd
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.doubt.cascade import WatchConfig
from isthmus.router.doubt.handover import CascadeConfig
from scripted_agent import (
    PRICE,
    TEXT,
    WORDS,
    agent_over,
    answer_of,
    decided,
    request,
    text_of,
)
from waiting import eventually


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
