"""Reading OpenAI's requests: what is understood, and which field an error names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from isthmus.core.chat import (
    ImagePart,
    Priority,
    ResponseKind,
    Role,
    RouteMode,
    TextPart,
    ToolCall,
    ToolChoice,
)
from isthmus.core.errors import InvalidRequest
from isthmus.edge.fields import decode_json
from isthmus.edge.openai_api import UnknownModelName, parse_chat_request
from isthmus.engine.sampler import Sampler

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "isthmus", "messages": HELLO, **fields}


def test_a_plain_request_gets_openais_defaults() -> None:
    parsed = parse_chat_request(chat())
    assert parsed.chat.messages[0].role is Role.USER
    assert parsed.chat.messages[0].content == (TextPart("Hello"),)
    assert parsed.chat.sampling.temperature == 1.0
    assert parsed.chat.sampling.top_logprobs is None
    assert parsed.chat.max_tokens is None
    assert parsed.chat.deadline.remaining_s() is None
    assert not parsed.stream


def test_every_sampling_field_is_taken_over() -> None:
    sampling = parse_chat_request(
        chat(
            temperature=0,
            top_p=0.9,
            top_k=40,
            min_p=0.05,
            repetition_penalty=1.1,
            presence_penalty=-1,
            frequency_penalty=0.5,
            seed=-7,
            stop=["\n", "END"],
            logprobs=True,
            top_logprobs=3,
        )
    ).chat.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 0.9, 40)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.05, 1.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-1.0, 0.5)
    assert (sampling.seed, sampling.stop, sampling.top_logprobs) == (-7, ("\n", "END"), 3)


def test_a_top_p_of_nothing_leaves_the_best_token_alone() -> None:
    sampling = parse_chat_request(chat(top_p=0, seed=1)).chat.sampling
    logits = np.array([0.1, 0.3, 0.2], np.float32)
    sampler = Sampler(sampling, [])
    assert {sampler.choose(logits).token for _ in range(20)} == {1}
    # Samplers elsewhere want a mass above zero (vLLM, and so the gateway).
    assert sampling.top_p > 0


def test_content_may_come_in_parts() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
    ]
    (message,) = parse_chat_request(
        chat(messages=[{"role": "user", "content": parts}])
    ).chat.messages
    assert message.content == (
        TextPart("What is this?"),
        ImagePart("https://example.org/a.png", "low"),
    )


def test_a_tool_conversation_is_read_whole() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    request = parse_chat_request(
        chat(
            messages=[
                *HELLO,
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "noon"},
            ],
            tools=[tool],
            tool_choice={"type": "function", "function": {"name": "now"}},
        )
    ).chat
    assert request.messages[1].tool_calls == (ToolCall("c1", "now", "{}"),)
    assert request.messages[2].tool_call_id == "c1"
    assert request.tools[0].parameters == {"type": "object"}
    assert (request.tool_choice, request.tool_name) == (ToolChoice.REQUIRED, "now")


@pytest.mark.parametrize("given", [None, True, False])
def test_strict_tools_and_parallel_calls_are_kept_as_they_are(given: bool | None) -> None:
    body = chat(tools=one_tool(strict=given), parallel_tool_calls=given)
    request = parse_chat_request(body).chat
    assert request.tools[0].strict is given
    assert request.parallel_tool_calls is given


def test_a_json_schema_is_kept_as_it_is() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    response_format = parse_chat_request(chat(response_format=form)).chat.response_format
    assert response_format.kind is ResponseKind.JSON_SCHEMA
    assert response_format.schema == schema


def test_the_isthmus_object_carries_the_wishes_for_the_route() -> None:
    wishes = {
        "route": "only_on_device",
        "ttft_slo_ms": 300,
        "max_price_usd": 0.01,
        "conversation": "c-1",
        "deadline_ms": 2000,
    }
    chat_request = parse_chat_request(chat(isthmus=wishes)).chat
    preference = chat_request.preference
    assert preference.mode is RouteMode.ONLY_ON_DEVICE
    assert (preference.ttft_slo_ms, preference.max_price_usd) == (300.0, 0.01)
    assert preference.conversation == "c-1"
    remaining_s = chat_request.deadline.remaining_s()
    assert remaining_s is not None
    assert 1.5 < remaining_s <= 2.0


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("isthmus", RouteMode.AUTO),
        ("isthmus-edge", RouteMode.ONLY_ON_DEVICE),
        ("isthmus-cloud", RouteMode.ONLY_IN_CLOUD),
    ],
)
def test_the_models_name_forces_a_tier(model: str, mode: RouteMode) -> None:
    assert parse_chat_request(chat(model=model)).chat.preference.mode is mode


def test_both_names_of_the_length_limit_mean_the_same() -> None:
    assert parse_chat_request(chat(max_tokens=5)).chat.max_tokens == 5
    assert parse_chat_request(chat(max_completion_tokens=6)).chat.max_tokens == 6


def test_fields_of_openais_own_service_are_ignored() -> None:
    ignored = {"user": "u", "metadata": {}, "store": True, "service_tier": "auto", "n": 1}
    assert parse_chat_request(chat(**ignored)).chat.messages


@pytest.mark.parametrize(
    ("asked", "priority"),
    [
        ({}, Priority.NORMAL),
        ({"stream": True}, Priority.INTERACTIVE),
        ({"service_tier": "flex", "stream": True}, Priority.BATCH),
        ({"service_tier": "priority"}, Priority.INTERACTIVE),
        ({"service_tier": "auto"}, Priority.NORMAL),
    ],
)
def test_how_urgent_it_is_comes_from_the_service_tier_or_from_streaming(
    asked: dict[str, Any], priority: Priority
) -> None:
    assert parse_chat_request(chat(**asked)).chat.priority is priority


def test_null_counts_as_left_out() -> None:
    parsed = parse_chat_request(chat(temperature=None, stop=None, stream=None, tools=None))
    assert parsed.chat.sampling.temperature == 1.0
    assert not parsed.stream


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def one_tool(**function: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", **function}}]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": [7]}, "messages[0]"),
    ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "Hello"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [*HELLO, {"role": "user", "content": 7}]}, "messages[1].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "x", "mood": "y"}]}, "messages[0].mood"),
    (
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
                }
            ]
        },
        "messages[0].content[0].image_url.url",
    ),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 1 << 64}, "seed"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"stop": 7}, "stop"),
    ({"stop": [""]}, "stop[0]"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": 1}, "logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include": True}}, "stream_options.include"),
    ({"n": 2}, "n"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"functions": [{}]}, "functions"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"tempreature": 0.5}, "tempreature"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "shema": {}}}},
        "response_format.json_schema.shema",
    ),
    ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
    ({"tools": [{"type": "function", "name": "f"}]}, "tools[0].name"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": one_tool(strict="yes")}, "tools[0].function.strict"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"tools": one_tool(parameters=nested(100))}, "tools[0].function.parameters"),
    ({"tools": one_tool(parameters={"x": "\udfff"})}, "tools[0].function.parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": one_tool()},
        "tool_choice.function.name",
    ),
    ({"isthmus": "edge"}, "isthmus"),
    ({"isthmus": {"route": "sideways"}}, "isthmus.route"),
    ({"isthmus": {"rout": "auto"}}, "isthmus.rout"),
    ({"isthmus": {"max_price_usd": -1}}, "isthmus.max_price_usd"),
    ({"isthmus": {"conversation": ""}}, "isthmus.conversation"),
    ({"model": "isthmus-edge", "isthmus": {"route": "only_in_cloud"}}, "isthmus.route"),
    ({"model": 7}, "model"),
]


@pytest.mark.parametrize(("fields", "param"), BAD, ids=[param for _, param in BAD])
def test_an_error_names_the_exact_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat_request(chat(**fields))
    assert caught.value.field == param
    assert param in caught.value.message


def test_an_unknown_model_is_its_own_error() -> None:
    with pytest.raises(UnknownModelName) as caught:
        parse_chat_request(chat(model="gpt-4o"))
    assert caught.value.field == "model"
    assert "isthmus-edge" in caught.value.message
    assert "gpt-4o" not in caught.value.message


def test_an_error_never_repeats_what_the_user_wrote() -> None:
    secret = "my password is swordfish"
    for fields in (
        {"messages": [{"role": secret, "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", secret: 1}]},
        {"model": secret},
        {secret: 1},
    ):
        with pytest.raises(InvalidRequest) as caught:
            parse_chat_request(chat(**fields))
        assert "swordfish" not in caught.value.message
        assert "swordfish" not in (caught.value.field or "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"messages": [}',
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"content": "\xff\xfe"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_json(body)
    assert caught.value.field == "body"
