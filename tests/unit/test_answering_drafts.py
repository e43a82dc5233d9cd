"""What the device wrote and nobody saw: offered to the cloud, and shown as far as it stands."""

from __future__ import annotations

from isthmus.core.chat import (
    Message,
    PrivacyClass,
    Role,
    Sampling,
    TextPart,
)
from isthmus.core.tier import ModelInfo
from isthmus.edge.testing import ScriptedEngine, ScriptedTier
from isthmus.edge.trail import Trail
from isthmus.router.doubt.cascade import WatchConfig
from isthmus.router.doubt.handover import CascadeConfig
from scripted_agent import (
    PRICE,
    SURE,
    TEXT,
    UNSURE,
    VERIFIES,
    WORDS,
    agent_over,
    answer_of,
    decided,
    doubting,
    request,
    text_of,
)


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
