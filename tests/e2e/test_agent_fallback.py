"""When a tier fails: the other one answers, nothing is lost and nothing is said twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import openai
import pytest

from agent_client import HARD_QUESTION, HELLO, openai_client, sample
from isthmus.core.errors import (
    ContextTooLong,
    InvalidRequest,
    NotSupported,
    Overloaded,
    Unauthenticated,
    Unavailable,
)
from isthmus.core.tier import ModelInfo
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from isthmus.router.signals import estimate_tokens

WORDS = ("One", " two", " three", " four")
TEXT = "".join(WORDS)
IN_CLOUD = {"isthmus": {"route": "prefer_in_cloud"}}
ON_DEVICE = {"isthmus": {"route": "prefer_on_device"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "error", [Unavailable("gone"), Overloaded("full"), Unauthenticated("who"), ValueError("bug")]
)
async def test_a_cloud_that_fails_before_the_first_token_shows_only_in_the_headers(
    error: Exception, stream: bool
) -> None:
    cloud = ScriptedTier(pieces=(), error=error)
    async with (
        running_agent(ScriptedEngine(WORDS), cloud=cloud) as agent,
        openai_client(agent) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HARD_QUESTION, stream=stream, extra_body=IN_CLOUD
        )
        if stream:
            text = "".join(
                [c.choices[0].delta.content or "" async for c in raw.parse()]  # type: ignore[attr-defined]
            )
        else:
            text = raw.parse().choices[0].message.content  # type: ignore[attr-defined]
        fallbacks = [
            s.labels
            for m in agent.agent.metrics.registry.collect()
            for s in m.samples
            if s.name == "isthmus_edge_fallbacks_total"
        ]
    assert text == TEXT
    assert raw.headers["x-isthmus-route"] == "edge"
    assert raw.headers["x-isthmus-reasons"] == "preferred_cloud,fell_back"
    assert [f["stage"] for f in fallbacks] == ["before_first_token"]


async def test_the_body_names_the_error_that_was_made_good() -> None:
    cloud = ScriptedTier(pieces=(), error=Unavailable("gone"))
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=HELLO, extra_body=IN_CLOUD
        )
    assert answer.model_extra is not None
    assert answer.model_extra["isthmus"]["fallback_error"] == "unavailable"
    assert answer.model_extra["isthmus"]["target"] == "edge"


@pytest.mark.parametrize("source", ["edge", "cloud"])
async def test_the_other_tier_goes_on_from_the_text_already_shown(source: str) -> None:
    engine = ScriptedEngine(WORDS, prompt_tokens=7)
    cloud = ScriptedTier(WORDS, prompt_tokens=9)
    failing, other = (engine, cloud) if source == "edge" else (cloud, engine)
    failing.pieces, failing.error = WORDS[:2], Unavailable("gone")
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        stream = await client.chat.completions.create(
            model="isthmus",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=ON_DEVICE if source == "edge" else IN_CLOUD,
        )
        chunks = [chunk async for chunk in stream]
        stage = {"stage": "mid_answer", "error": "unavailable"}
        target = "cloud" if source == "edge" else "edge"
        moved = sample(
            agent, "isthmus_edge_fallbacks_total", from_route=source, to_route=target, **stage
        )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == TEXT
    assert other.requests[0].answer_so_far == "One two"
    assert chunks[-2].model_extra is not None
    assert chunks[-2].model_extra["isthmus"]["reasons"][-1] == "handed_over"
    assert chunks[-2].model_extra["isthmus"]["target"] == target
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert chunks[-1].usage.prompt_tokens == failing.prompt_tokens
    assert moved == 1


async def test_what_is_left_of_the_length_limit_travels_with_the_answer() -> None:
    engine, cloud = ScriptedEngine(WORDS), ScriptedTier(WORDS[:2], error=Unavailable("gone"))
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=HELLO, max_tokens=3, extra_body=IN_CLOUD
        )
    assert engine.requests[0].max_tokens == 1
    assert answer.choices[0].message.content == "One two three"
    assert answer.choices[0].finish_reason == "length"


async def test_the_text_already_shown_counts_in_the_cloud_for_what_it_costs() -> None:
    shown = "word " * 80
    engine = ScriptedEngine([shown], error=Unavailable("gone"))
    cloud = ScriptedTier([shown, "end"])
    price = {"cloud_input_usd_per_mtok": "100", "cloud_output_usd_per_mtok": "100"}
    wishes = {"isthmus": {"route": "prefer_on_device", "max_price_usd": 0.02}}
    async with running_agent(engine, cloud=cloud, **price) as agent, openai_client(agent) as client:
        await client.chat.completions.create(
            model="isthmus", messages=HELLO, max_tokens=150, extra_body=wishes
        )
    prompt_tokens = estimate_tokens(replace(engine.requests[0], answer_so_far=shown))
    assert cloud.requests[0].max_tokens == 200 - prompt_tokens


async def test_a_failure_at_the_length_limit_needs_no_other_tier() -> None:
    engine, cloud = ScriptedEngine(WORDS), ScriptedTier(WORDS[:2], error=Unavailable("gone"))
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=HELLO, max_tokens=2, extra_body=IN_CLOUD
        )
    assert answer.choices[0].message.content == "One two"
    assert answer.choices[0].finish_reason == "length"
    assert engine.requests == []


async def test_a_cloud_that_says_nothing_is_given_up() -> None:
    cloud = ScriptedTier(pieces=(), hang=True)
    async with (
        running_agent(cloud=cloud, cloud_silence_s=0.1) as agent,
        openai_client(agent) as client,
    ):
        for _ in range(3):
            answer = await client.chat.completions.create(
                model="isthmus", messages=HELLO, extra_body=IN_CLOUD
            )
    assert answer.choices[0].message.content == "Hello there."
    assert cloud.stopped == 3
    assert not cloud.available


async def test_an_answer_begun_in_the_cloud_goes_on_when_that_falls_silent() -> None:
    cloud = ScriptedTier(WORDS[:1], hang=True)
    async with (
        running_agent(ScriptedEngine(WORDS), cloud=cloud, cloud_silence_s=0.1) as agent,
        openai_client(agent) as client,
    ):
        answer = await client.chat.completions.create(
            model="isthmus", messages=HELLO, extra_body=IN_CLOUD
        )
    assert answer.choices[0].message.content == TEXT


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ContextTooLong("too long"), "context_too_long_for_edge"),
        (NotSupported("no tools"), "capability_missing_on_edge"),
    ],
)
async def test_what_the_device_cannot_do_goes_to_the_cloud(error: Exception, reason: str) -> None:
    engine, cloud = ScriptedEngine(pieces=(), error=error), ScriptedTier(WORDS)
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO
        )
    assert raw.headers["x-isthmus-reasons"] == f"value_on_edge,uncalibrated,{reason},fell_back"
    assert raw.headers["x-isthmus-route"] == "cloud"


async def test_the_callers_own_mistake_is_not_tried_twice() -> None:
    engine = ScriptedEngine(pieces=(), error=InvalidRequest("bad", field="messages[0]"))
    cloud = ScriptedTier(WORDS)
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="isthmus", messages=HELLO)
    assert caught.value.param == "messages[0]"
    assert cloud.requests == []


@pytest.mark.parametrize("shown", [0, 2])
async def test_forced_into_the_cloud_the_device_keeps_out_of_it(shown: int) -> None:
    engine, cloud = ScriptedEngine(WORDS), ScriptedTier(WORDS[:shown], error=Unavailable("gone"))
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
    assert caught.value.status_code == 503
    assert engine.requests == []


async def test_when_both_tiers_fail_the_first_failure_is_told() -> None:
    engine = ScriptedEngine(pieces=(), error=Unavailable("the engine is closed"))
    cloud = ScriptedTier(pieces=(), error=Overloaded("the cloud is full", retry_after_s=7))
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(
                model="isthmus", messages=HELLO, extra_body=IN_CLOUD
            )
    assert caught.value.response.headers["retry-after"] == "7"
    assert "the cloud is full" in caught.value.message


async def test_a_failure_in_mid_answer_that_nobody_can_mend_is_an_error_event() -> None:
    engine = ScriptedEngine(WORDS[:2], error=Unavailable("the engine is closed"))
    async with running_agent(engine) as agent, openai_client(agent) as client:
        stream = await client.chat.completions.create(model="isthmus", messages=HELLO, stream=True)
        shown: list[str | None] = []

        async def read() -> None:
            async for chunk in stream:
                shown.append(chunk.choices[0].delta.content)  # noqa: PERF401

        with pytest.raises(openai.APIError, match="the engine is closed"):
            await read()
    assert "".join(text or "" for text in shown) == "One two"


async def test_an_answer_with_a_private_value_in_it_is_not_handed_to_the_cloud() -> None:
    engine = ScriptedEngine(("Pay with", " 4111 1111 1111 1111", " now"), error=Unavailable("gone"))
    cloud = ScriptedTier(WORDS)
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(
                model="isthmus", messages=HELLO, extra_body=ON_DEVICE
            )
    assert cloud.requests == []


async def test_a_deadline_ends_the_answer_and_is_not_tried_again() -> None:
    engine, cloud = ScriptedEngine(hang=True, pieces=()), ScriptedTier(WORDS)
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(
                model="isthmus", messages=HELLO, extra_body={"isthmus": {"deadline_ms": 100}}
            )
    assert caught.value.status_code == 503
    assert caught.value.code == "deadline_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert engine.stopped == 1
    assert cloud.requests == []


async def test_an_open_breaker_sends_requests_to_the_device_at_once() -> None:
    cloud = ScriptedTier(WORDS)
    for _ in range(3):
        cloud.breaker.fail()
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HARD_QUESTION
        )
        state = sample(agent, "isthmus_edge_cloud_breaker_state", state="open")
    assert raw.headers["x-isthmus-reasons"] == "breaker_open"
    assert state == 1


async def test_a_device_without_a_model_leaves_the_answers_to_the_cloud() -> None:
    def broken() -> ScriptedEngine:
        raise Unavailable("model 'x' is not on this machine; get it: isthmus model pull x")

    cloud = ScriptedTier(WORDS, last_info=ModelInfo("big", "scripted"))
    async with running_agent(broken, cloud=cloud) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO
        )
        with pytest.raises(openai.InternalServerError, match="isthmus model pull x"):
            await client.chat.completions.create(model="isthmus-edge", messages=HELLO)
    assert raw.headers["x-isthmus-reasons"] == "edge_unavailable"


async def test_only_on_device_opens_no_connection_whatever_happens() -> None:
    from isthmus.edge.remote import RemoteConfig, RemoteTier

    accepted = 0

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    cloud = RemoteTier(RemoteConfig(f"127.0.0.1:{port}"))
    engine = ScriptedEngine(WORDS)
    only = {"isthmus": {"route": "only_on_device"}}
    async with (
        listener,
        running_agent(engine, cloud=cloud) as agent,
        openai_client(agent) as client,
    ):
        await client.chat.completions.create(
            model="isthmus", messages=HARD_QUESTION, extra_body=only
        )
        engine.error = Unavailable("gone")
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(
                model="isthmus", messages=HARD_QUESTION, extra_body=only
            )
        await asyncio.sleep(0.05)
        assert accepted == 0
        assert not cloud.connected
        # The listener does count: a request that may leave is seen by it.
        engine.error = None
        await client.chat.completions.create(
            model="isthmus", messages=HARD_QUESTION, extra_body=IN_CLOUD
        )
        assert accepted > 0
