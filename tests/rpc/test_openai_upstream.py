"""The OpenAI-compatible backend against a small upstream on loopback, behind a real gateway."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from asked import anew
from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.testing import running_gateway
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.core import chat, errors, events
from isthmus.core.money import Usage
from isthmus.edge.remote import RemoteConfig, RemoteTier
from openai_upstream import REQUEST, Upstream, chunk, collected, tier_over
from waiting import eventually


async def test_an_upstreams_answer_streams_through():
    async with tier_over(Upstream()) as tier:
        info = await tier.info()
        answer = await collected(tier)
    assert (info.model, info.context_tokens, info.backend) == ("m", 2048, "openai")
    assert answer[0] == events.Started("m", 0)
    assert "".join(event.text for event in answer[1:-1]) == "Paris\u2028!"
    assert answer[-1] == events.Finished(events.FinishReason.STOP, Usage(5, 2, 3))


@pytest.mark.parametrize("value", ["\ud800", math.inf])
async def test_a_schema_that_no_json_can_hold_is_the_callers_to_mend(value):
    backend = UpstreamPool(BackendConfig(kind="openai", url="http://127.0.0.1:9/v1", model="m"))
    await backend.start()
    asked = replace(REQUEST, tools=(chat.Tool("f", parameters={"default": value}),))
    with pytest.raises(errors.InvalidRequest, match="schema"):
        _ = [event async for event in backend.generate(asked)]
    await backend.close()


async def test_every_wish_of_the_request_reaches_the_upstream():
    upstream = Upstream()
    request = replace(
        REQUEST,
        messages=(
            chat.Message(chat.Role.SYSTEM, (chat.TextPart("be brief"),)),
            chat.Message(
                chat.Role.USER, (chat.TextPart("what is it?"), chat.ImagePart("https://x/y.png"))
            ),
            chat.Message(chat.Role.ASSISTANT, tool_calls=(chat.ToolCall("c1", "f", "{}"),)),
            chat.Message(chat.Role.TOOL, (chat.TextPart("42"),), tool_call_id="c1"),
        ),
        sampling=chat.Sampling(
            temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, seed=3, stop=("END",), top_logprobs=2
        ),
        max_tokens=9,
        tools=(chat.Tool("f", "does it", {"type": "object"}, strict=True), chat.Tool("g")),
        parallel_tool_calls=False,
        tool_choice=chat.ToolChoice.REQUIRED,
        tool_name="f",
        response_format=chat.ResponseFormat(
            chat.ResponseKind.JSON_SCHEMA, "n", {"type": "object"}, strict=True
        ),
    )
    async with tier_over(upstream, api_key="hush", options={"priority": 1}) as tier:
        await collected(tier, request)
    body = upstream.bodies[0]
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "priority": 1,
        "messages": [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is it?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://x/y.png", "detail": "auto"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "seed": 3,
        "stop": ["END"],
        "logprobs": True,
        "top_logprobs": 2,
        "max_tokens": 9,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "does it",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "g", "description": "", "parameters": {}}},
        ],
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
    }
    assert upstream.keys == ["Bearer hush"]


async def test_a_vllm_server_tells_the_tokens_of_every_piece():
    upstream = Upstream()
    upstream.owner = "vllm"
    upstream.delay_s = 0.005
    upstream.chunks = [
        {**chunk(text, finish), "usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
        for text, tokens, finish in (
            ("", 0, None),
            ("Par", 3, None),
            ("is", 4, None),
            ("", 5, "stop"),
        )
    ]
    async with tier_over(upstream) as tier:
        answer = await collected(tier)
    assert upstream.bodies[0]["stream_options"]["continuous_usage_stats"] is True
    assert answer[0].prompt_tokens == 7
    assert [(one.text, one.tokens) for one in answer[1:-1]] == [("Par", 3), ("is", 1)]


async def test_log_probabilities_and_tool_calls_are_carried():
    upstream = Upstream()
    top = {"token": "a", "logprob": -0.1, "bytes": [97]}
    upstream.chunks = [
        {
            "choices": [
                {
                    "delta": {"content": "a"},
                    "logprobs": {"content": [top | {"top_logprobs": [top]}]},
                }
            ]
        },
        chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
        chunk(finish="tool_calls"),
    ]
    async with tier_over(upstream) as tier:
        answer = await collected(tier)
    one = events.TopLogprob("a", -0.1, b"a")
    deltas = [event for event in answer if isinstance(event, events.Delta)]
    assert [found for delta in deltas for found in delta.logprobs] == [
        events.TokenLogprob("a", -0.1, b"a", (one,))
    ]
    assert [part for delta in deltas for part in delta.tool_calls] == [
        events.ToolCallDelta(0, "c", "f", "{"),
        events.ToolCallDelta(0, "", "", "}"),
    ]
    assert answer[-1].reason is events.FinishReason.TOOL_CALLS


async def test_a_caller_that_leaves_closes_the_upstreams_response_within_100_ms():
    upstream = Upstream()
    upstream.chunks = [chunk("x")] * 1000
    upstream.delay_s = 0.02
    async with tier_over(upstream) as tier:
        answer = tier.generate(anew(REQUEST))
        await anext(answer)
        left_s = time.monotonic()
        await answer.aclose()
        assert await eventually(lambda: upstream.left_at_s)
    assert upstream.left_at_s[0] - left_s < 0.1


SECRET = "the user's own words"


@pytest.mark.parametrize(
    ("status", "error", "headers", "expected"),
    [
        (400, {"message": SECRET, "param": "top_p"}, {}, errors.InvalidRequest),
        (
            400,
            {"message": "maximum context length is 5. " + SECRET},
            {},
            errors.ContextTooLong,
        ),
        (400, {"code": "context_length_exceeded", "message": ""}, {}, errors.ContextTooLong),
        (401, {"message": SECRET}, {}, errors.Unavailable),
        (404, {"message": SECRET}, {}, errors.Unavailable),
        (413, {"message": SECRET}, {}, errors.InvalidRequest),
        (429, {"message": SECRET}, {"retry-after": "7"}, errors.Overloaded),
        (429, {"message": SECRET}, {"retry-after": "Tue, 3 Jun"}, errors.Overloaded),
        (429, {"message": SECRET}, {"retry-after": "nan"}, errors.Overloaded),
        (500, {"message": SECRET}, {}, errors.Unavailable),
        (504, {"message": SECRET}, {}, errors.DeadlineExceeded),
    ],
)
async def test_an_upstreams_refusal_is_ours_without_its_words(status, error, headers, expected):
    upstream = Upstream()
    upstream.refusal = status, {"error": error}, headers
    async with tier_over(upstream) as tier:
        with pytest.raises(expected) as caught:
            await collected(tier)
    assert type(caught.value) is expected
    assert SECRET not in str(caught.value)
    if error.get("param"):
        assert caught.value.field == "top_p"
    if "retry-after" in headers:
        assert caught.value.retry_after_s == (7 if headers["retry-after"] == "7" else 1)


@pytest.mark.parametrize(
    ("chunks", "tail"),
    [
        ([chunk("a")], []),
        ([chunk("a")], ["[DONE]"]),
        ([chunk("a"), "{not json"], []),
        ([chunk("a"), {"choices": ["?"]}], []),
        ([chunk("a"), chunk(finish="abort")], []),
        ([chunk("a"), {"error": {"message": SECRET, "code": 500}}], []),
        ([chunk("a"), "[" * 100_000], []),
        ([chunk("a"), chunk("b") | {"usage": {"completion_tokens": math.inf}}], []),
        ([chunk("a"), chunk("b") | {"usage": {"completion_tokens": -1}}], []),
        ([chunk("a"), '{"choices": [{"delta": {"content": "b\\ud83d"}}]}'], []),
        ([chunk("a"), chunk(5)], []),
        ([chunk("a"), chunk(tool_calls=[{"function": {"arguments": {"b": 1}}}])], []),
        ([chunk("a"), chunk(tool_calls=[{"index": 2**40, "id": "b"}])], []),
    ],
    ids=[
        "cut off",
        "no finish",
        "no json",
        "odd json",
        "aborted",
        "error",
        "deep json",
        "endless count",
        "negative count",
        "half a character",
        "no text",
        "no json text",
        "odd index",
    ],
)
async def test_a_stream_that_breaks_is_unavailable_and_never_a_short_answer(chunks, tail):
    upstream = Upstream()
    upstream.chunks, upstream.tail = chunks, tail
    async with tier_over(upstream) as tier:
        with pytest.raises(errors.Unavailable):
            await collected(tier)


@pytest.mark.parametrize("wanted", [None, 3])
async def test_an_upstream_that_writes_more_than_it_was_asked_for_is_cut_off(wanted):
    upstream = Upstream()
    upstream.chunks = [chunk("a")] * 40
    async with tier_over(upstream, limits={"max_completion_tokens": 20}) as tier:
        answer = await collected(tier, replace(REQUEST, max_tokens=wanted))
    told = sum(event.tokens for event in answer if isinstance(event, events.Delta))
    assert answer[-1].reason is events.FinishReason.LENGTH
    assert answer[-1].usage.completion_tokens == told <= (wanted or 20)


@pytest.mark.parametrize("count", [1_000, 10**15])
async def test_a_count_that_cannot_be_true_is_charged_to_nobody(count):
    upstream = Upstream()
    usage = {"prompt_tokens": count, "completion_tokens": count}
    upstream.tail = [{"choices": [], "usage": usage}, "[DONE]"]
    limits = {"max_prompt_tokens": 500, "max_completion_tokens": 500}
    async with tier_over(upstream, limits=limits) as tier:
        answer = await collected(tier)
    assert answer[-1].usage.completion_tokens == 2
    assert answer[-1].usage.prompt_tokens <= 500


async def test_an_error_that_is_none_is_none():
    upstream = Upstream()
    upstream.chunks = [one | {"error": None} for one in upstream.chunks]
    async with tier_over(upstream) as tier:
        answer = await collected(tier)
    assert answer[-1].reason is events.FinishReason.STOP


@pytest.mark.parametrize("context", ["1e999", "-5", "1" + "0" * 30, "[" * 100_000])
async def test_an_absurd_list_of_models_is_none(context):
    upstream = Upstream()
    told = '{"data": [{"id": "m", "max_model_len": ' + context + "}]}"
    upstream.listed = told
    async with tier_over(upstream) as tier:
        assert (await tier.info()).model == "m"


async def test_an_upstream_that_is_not_there_is_unavailable():
    backend = UpstreamPool(BackendConfig(kind="openai", url="http://127.0.0.1:9/v1", model="m"))
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address))
        with pytest.raises(errors.Unavailable):
            await collected(tier)
        await tier.close()
