"""The official openai client against a running agent over scripted tiers."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from agent_client import HARD_QUESTION, HELLO, openai_client, sample
from isthmus.core.chat import RouteMode
from isthmus.core.events import Delta, FinishReason, TokenLogprob, ToolCallDelta, TopLogprob
from isthmus.core.tier import ModelInfo
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from isthmus.privacy.scanner import Scanner

CLOUD_PIECES = ("From", " the", " cloud")


async def test_a_plain_answer_says_where_it_was_made() -> None:
    async with running_agent(ScriptedEngine()) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO
        )
        answer = raw.parse()
        assert answer.choices[0].message.content == "Hello there."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 3)
        assert raw.headers["x-isthmus-route"] == "edge"
        assert raw.headers["x-isthmus-reasons"] == "cloud_offline"
        assert answer.model_extra is not None
        isthmus = answer.model_extra["isthmus"]
        assert isthmus["target"] == "edge"
        assert isthmus["reasons"] == ["cloud_offline"]
        assert isthmus["latency"]["ttft_ms"] <= isthmus["latency"]["total_ms"]
        assert isthmus["prefilled_tokens"] == 10
        assert isthmus["prefill_backend"] == isthmus["decode_backend"] == "scripted"


async def test_a_stream_gives_the_same_text_then_one_final_chunk_with_usage() -> None:
    async with running_agent(ScriptedEngine()) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-isthmus-route"] == "edge"
        chunks = [chunk async for chunk in raw.parse()]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Hello there."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-2].model_extra is not None
    assert chunks[-2].model_extra["isthmus"]["target"] == "edge"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 13
    assert all(c.usage is None for c in chunks[:-1])


async def test_the_clients_own_stream_helper_works() -> None:
    async with (
        running_agent(ScriptedEngine()) as agent,
        openai_client(agent) as client,
        client.chat.completions.stream(model="isthmus", messages=HELLO) as stream,
    ):
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Hello there."


async def test_easy_stays_and_hard_goes_up() -> None:
    cloud = ScriptedTier(CLOUD_PIECES, model_name="big")
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        easy = await client.chat.completions.create(model="isthmus", messages=HELLO)
        hard = await client.chat.completions.create(model="isthmus", messages=HARD_QUESTION)
    assert easy.choices[0].message.content == "Hello there."
    assert hard.choices[0].message.content == "From the cloud"
    assert hard.model == "big"


@pytest.mark.parametrize(
    ("model", "route", "text"),
    [
        ("isthmus-edge", None, "Hello there."),
        ("isthmus-cloud", None, "From the cloud"),
        ("isthmus", "only_on_device", "Hello there."),
        ("isthmus", "prefer_on_device", "Hello there."),
        ("isthmus", "prefer_in_cloud", "From the cloud"),
        ("isthmus", "only_in_cloud", "From the cloud"),
    ],
)
async def test_the_caller_chooses_the_tier(model: str, route: str | None, text: str) -> None:
    cloud = ScriptedTier(CLOUD_PIECES)
    extra = {"isthmus": {"route": route}} if route else None
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(model=model, messages=HELLO, extra_body=extra)
    assert answer.choices[0].message.content == text


async def test_sampling_and_limits_reach_the_tier() -> None:
    engine = ScriptedEngine()
    async with running_agent(engine) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus",
            messages=HELLO,
            max_completion_tokens=2,
            temperature=0,
            seed=3,
            stop=["\n"],
            extra_body={"top_k": 5, "isthmus": {"deadline_ms": 9000}},
        )
    assert answer.choices[0].finish_reason == "length"
    (request,) = engine.requests
    assert (request.max_tokens, request.sampling.seed, request.sampling.top_k) == (2, 3, 5)
    assert request.sampling.stop == ("\n",)
    remaining_s = request.deadline.remaining_s()
    assert remaining_s is not None
    assert remaining_s < 9


async def test_log_probabilities_come_in_openais_form() -> None:
    token = TokenLogprob("Hi", -0.25, b"Hi", (TopLogprob("Hi", -0.25, b"Hi"),))
    engine = ScriptedEngine(deltas=[Delta("Hi", logprobs=(token,))])
    async with running_agent(engine) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=HELLO, logprobs=True, top_logprobs=1
        )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert logprobs.content[0].token == "Hi"
    assert logprobs.content[0].bytes == [72, 105]
    assert logprobs.content[0].top_logprobs[0].logprob == -0.25


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_come_in_openais_form(stream: bool) -> None:
    cloud = ScriptedTier(
        deltas=[
            Delta("", tool_calls=(ToolCallDelta(0, "c1", "now", '{"zone"'),)),
            Delta("", tool_calls=(ToolCallDelta(0, arguments=': "UTC"}'),)),
        ],
        finish_reason=FinishReason.TOOL_CALLS,
    )
    tools: list[Any] = [{"type": "function", "function": {"name": "now"}}]
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        if stream:
            async with client.chat.completions.stream(
                model="isthmus", messages=HELLO, tools=tools
            ) as events:
                answer = await events.get_final_completion()
        else:
            answer = await client.chat.completions.create(
                model="isthmus", messages=HELLO, tools=tools
            )
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.id, call.function.name, call.function.arguments) == (
        "c1",
        "now",
        '{"zone": "UTC"}',
    )


async def test_the_models_are_listed() -> None:
    async with running_agent() as agent, openai_client(agent) as client:
        models = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("isthmus-edge")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-4o")
    assert models == ["isthmus", "isthmus-edge", "isthmus-cloud"]
    assert one.owned_by == "isthmus"


async def test_a_private_value_keeps_the_conversation_on_the_device() -> None:
    cloud = ScriptedTier(CLOUD_PIECES)
    secret: list[Any] = [{"role": "user", "content": "Pay with my card 4111 1111 1111 1111"}]
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        first = await client.chat.completions.create(
            model="isthmus", messages=secret, extra_body={"isthmus": {"route": "prefer_in_cloud"}}
        )
        text = first.choices[0].message.content
        later: list[Any] = [
            *secret,
            {"role": "assistant", "content": text},
            {"role": "user", "content": "Go on"},
        ]
        second = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=later, extra_body={"isthmus": {"route": "prefer_in_cloud"}}
        )
        # The value itself is gone from the history, but its neighbours are known.
        third = await client.chat.completions.with_raw_response.create(
            model="isthmus",
            messages=later[1:],
            extra_body={"isthmus": {"route": "prefer_in_cloud"}},
        )
        kept = sample(agent, "isthmus_edge_privacy_local_requests_total")
    assert text == "Hello there."
    assert second.headers["x-isthmus-reasons"] == "privacy_local_only"
    assert third.headers["x-isthmus-reasons"] == "privacy_local_only"
    assert cloud.requests == []
    assert kept == 3


async def test_forcing_a_private_value_into_the_cloud_is_refused() -> None:
    cloud = ScriptedTier(CLOUD_PIECES)
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat.completions.create(
                model="isthmus-cloud",
                messages=[{"role": "user", "content": "My card is 4111 1111 1111 1111"}],
            )
    assert caught.value.code == "privacy_local_only"
    assert caught.value.response.headers["x-isthmus-reasons"] == "privacy_local_only"
    assert "4111" not in caught.value.response.text
    assert cloud.requests == []


async def test_a_scanner_that_fails_keeps_the_request_here() -> None:
    class Broken(Scanner):
        def find(self, text: str) -> Any:
            raise RuntimeError("Jane's secret")

    cloud = ScriptedTier(CLOUD_PIECES)
    async with (
        running_agent(cloud=cloud, scanner=Broken()) as agent,
        openai_client(agent) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HARD_QUESTION
        )
    assert raw.headers["x-isthmus-reasons"] == "privacy_scan_failed"
    assert cloud.requests == []


async def test_the_cloud_gets_no_name_of_the_conversation_but_the_device_does() -> None:
    engine, cloud = ScriptedEngine(), ScriptedTier(CLOUD_PIECES)
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        await client.chat.completions.create(model="isthmus-edge", messages=HELLO)
        await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
    assert engine.requests[0].preference.conversation
    assert cloud.requests[0].preference.conversation is None
    assert cloud.requests[0].preference.mode is RouteMode.ONLY_IN_CLOUD
    assert engine.requests[0].model == cloud.requests[0].model == ""


async def test_a_price_limit_keeps_a_dear_answer_here_and_bounds_a_cheap_one() -> None:
    cloud = ScriptedTier(CLOUD_PIECES)
    price = {"cloud_output_usd_per_mtok": "10"}
    async with running_agent(cloud=cloud, **price) as agent, openai_client(agent) as client:
        dear = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HARD_QUESTION, extra_body={"isthmus": {"max_price_usd": 1e-5}}
        )
        cheap = await client.chat.completions.create(
            model="isthmus", messages=HARD_QUESTION, extra_body={"isthmus": {"max_price_usd": 0.01}}
        )
        spent = sample(agent, "isthmus_edge_price_spent_usd_total")
        saved = sample(agent, "isthmus_edge_price_saved_usd_total")
    assert dear.headers["x-isthmus-reasons"] == "price_above_limit"
    assert cheap.model_extra is not None
    assert cheap.model_extra["isthmus"]["price"]["spent_usd"] == pytest.approx(30e-6)
    assert cloud.requests[0].max_tokens == 1000
    assert (spent, saved) == (pytest.approx(30e-6), pytest.approx(30e-6))


async def test_the_gateways_own_price_is_learned_from_its_first_answer() -> None:
    cloud = ScriptedTier(CLOUD_PIECES)
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
    assert cloud.last_info == ModelInfo("scripted", "scripted")


async def test_a_same_model_demo_is_labelled() -> None:
    cloud = ScriptedTier(CLOUD_PIECES, same_model_demo=True)
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        told = await client.chat.completions.with_raw_response.create(
            model="isthmus-cloud", messages=HELLO
        )
    answer = told.parse()
    assert told.headers["x-isthmus-label"] == "same-model demo"
    assert answer.model_extra is not None
    assert answer.model_extra["isthmus"]["same_model_demo"] is True
