"""Races and hand-overs as a client sees them: headers, the isthmus object, receipts, a gateway."""

from __future__ import annotations

from typing import Any

from agent_client import HELLO, openai_client, sample
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.tier import ModelInfo
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from isthmus.router.config import RouterConfig
from isthmus.router.doubt.cascade import WatchConfig
from isthmus.router.doubt.handover import CascadeConfig
from waiting import eventually

WORDS = ("one", " two", " three", " four", " five", " six", " seven", " eight.")
TEXT = "".join(WORDS)
DOUBTING = (-0.1, -0.1, -0.1, -0.1, -4.0)
PRICE: dict[str, Any] = {"cloud_input_usd_per_mtok": "1", "cloud_output_usd_per_mtok": "2"}
WATCHED: dict[str, Any] = {
    "router": RouterConfig(cascade=CascadeConfig(watch=WatchConfig(2, hold_back_tokens=2)))
}


def decide_for(agent: RunningAgent, target: Target, *, race: bool = False) -> None:
    reason = Reason.RACE if race else Reason.VALUE_ON_EDGE
    decision = Decision(target, (reason,), race=race)
    agent.agent.decide = lambda *args, **kwargs: decision  # type: ignore[method-assign]


async def test_a_race_shows_its_loser_with_its_price_and_its_bytes() -> None:
    engine = ScriptedEngine(WORDS, delay_s=0.05)
    cloud = ScriptedTier(WORDS, delay_s=5, prompt_tokens=100)
    async with running_agent(engine, cloud=cloud, **PRICE) as agent, openai_client(agent) as client:
        decide_for(agent, Target.EDGE, race=True)
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO
        )
    told = raw.parse().model_extra["isthmus"]  # type: ignore[index]
    assert raw.headers["x-isthmus-route"] == "edge"
    assert raw.headers["x-isthmus-reasons"] == "race"
    assert [leg["end"] for leg in told["legs"]] == ["answered", "lost"]
    assert told["legs"][1]["sent_bytes"] == len(cloud.left[0])
    assert told["legs"][1]["spent_usd"] == told["price"]["spent_usd"] == 0.0001


async def test_a_hand_over_shows_both_legs_and_its_reasons_in_the_last_chunk() -> None:
    engine, cloud = ScriptedEngine(WORDS, logprobs=DOUBTING), ScriptedTier(WORDS)
    async with running_agent(engine, cloud=cloud, **WATCHED) as agent:
        decide_for(agent, Target.EDGE)
        async with openai_client(agent) as client:
            stream = await client.chat.completions.create(
                model="isthmus", messages=HELLO, stream=True
            )
            chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    told = chunks[-1].model_extra["isthmus"]  # type: ignore[index]
    assert told["reasons"] == ["value_on_edge", "doubt_while_decoding", "handed_over"]
    assert [(leg["target"], leg["end"]) for leg in told["legs"]] == [
        ("edge", "doubted"),
        ("cloud", "answered"),
    ]
    assert told["legs"][0]["dropped_tokens"] == 3
    assert told["fallback_error"] is None


async def test_a_gateway_judges_what_was_held_back_and_goes_on_from_it() -> None:
    info = ModelInfo("big", "scripted", context_tokens=4096, verifies_drafts=True)
    backend = ScriptedBackend(WORDS, info=info, draft_logprobs=(-0.1, -0.1, -9.0))
    engine = ScriptedEngine(WORDS, logprobs=DOUBTING)
    watched = WatchConfig(4)
    router = RouterConfig(cascade=CascadeConfig(watch=watched))
    async with running_gateway(backend) as address:
        cloud = RemoteTier(RemoteConfig(address))
        await cloud.info()
        async with running_agent(engine, cloud=cloud, router=router) as agent:
            decide_for(agent, Target.EDGE)
            async with openai_client(agent) as client:
                answer = await client.chat.completions.create(model="isthmus", messages=HELLO)
    judged, asked = backend.requests
    assert judged.draft.startswith(" three four")
    assert asked.answer_so_far == "one two three four"
    assert answer.choices[0].message.content == TEXT
    told = answer.model_extra["isthmus"]  # type: ignore[index]
    assert told["legs"][1]["draft"] == {"judged": True, "tokens": 5, "accepted_tokens": 2}


async def test_a_gateway_that_loses_a_race_stops_its_work() -> None:
    backend = ScriptedBackend(WORDS, delay_s=5)
    engine = ScriptedEngine(WORDS, delay_s=0.1)
    async with running_gateway(backend) as address:
        cloud = RemoteTier(RemoteConfig(address))
        async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
            decide_for(agent, Target.CLOUD, race=True)
            answer = await client.chat.completions.create(model="isthmus", messages=HELLO)
            stopped = await eventually(lambda: len(backend.stopped_at_s) == 1)
            won = sample(agent, "isthmus_edge_races_total", winner="edge")
            state = cloud.breaker.state.value
    assert answer.choices[0].message.content == TEXT
    assert stopped
    assert won == 1
    assert state == "closed"  # to be the slower one is no failure


async def test_a_gateway_that_dies_after_a_hand_over_leaves_the_rest_to_the_device() -> None:
    backend = ScriptedBackend(WORDS, failure=RuntimeError("dead"), fail_after=2)
    engine = ScriptedEngine(WORDS, logprobs=DOUBTING)
    async with running_gateway(backend) as address:
        cloud = RemoteTier(RemoteConfig(address))
        async with running_agent(engine, cloud=cloud, **WATCHED) as agent:
            decide_for(agent, Target.EDGE)
            async with openai_client(agent) as client:
                stream = await client.chat.completions.create(
                    model="isthmus", messages=HELLO, stream=True
                )
                chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    told = chunks[-1].model_extra["isthmus"]  # type: ignore[index]
    assert [(leg["target"], leg["end"]) for leg in told["legs"]] == [
        ("edge", "doubted"),
        ("cloud", "failed"),
        ("edge", "answered"),
    ]
    assert told["target"] == "edge"
