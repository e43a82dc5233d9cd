"""A device that doubts its own answer: the cloud goes on, or nobody notices. Scripted tiers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.core.chat import (
    RouteMode,
    RoutePreference,
    Sampling,
)
from isthmus.core.decision import Reason, Target
from isthmus.core.errors import DeadlineExceeded, Unavailable
from isthmus.core.events import FirstToken
from isthmus.core.tier import ModelInfo
from isthmus.edge.ledger import Ledger, open_ledger
from isthmus.edge.leg import LegEnd
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.doubt.handover import CascadeConfig
from isthmus.router.doubt.second_look import Build, SecondLook
from isthmus.router.signals import estimate_tokens
from scripted_agent import (
    PRICE,
    QUICK,
    SURE,
    TEXT,
    UNSURE,
    WORDS,
    agent_over,
    answer_of,
    decided,
    doubting,
    request,
    text_of,
)


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
        {"info": ModelInfo("small", "scripted", same_model_demo=True)},
    ],
    ids=["policy", "preference", "off", "consent", "breaker", "same model"],
)
async def test_a_doubt_leads_nowhere_where_the_cloud_may_not_help(
    forbidden: dict[str, Any],
) -> None:
    engine, cloud = doubting(2), ScriptedTier(WORDS, last_info=forbidden.get("info"))
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


async def test_a_cloud_that_cannot_continue_an_answer_is_not_asked_to() -> None:
    info = ModelInfo("big", "scripted", continues_answers=False)
    engine, cloud, trail = doubting(4), ScriptedTier(WORDS, last_info=info), Trail(request())
    async with agent_over(engine, cloud, decided()) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert cloud.left == []
    assert trail.route is Target.EDGE


async def test_what_a_cloud_begins_anew_is_never_put_behind_what_is_shown() -> None:
    engine, cloud, trail = doubting(4), ScriptedTier(WORDS, anew=True), Trail(request())
    async with agent_over(engine, cloud, decided()) as agent:
        pieces, _ = await answer_of(agent, trail)
    assert text_of(pieces) == TEXT
    assert len(cloud.left) == 1
    assert trail.route is Target.EDGE


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
    with open_ledger(tmp_path / "ledger.sqlite") as db:
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
