"""The page that tells the agent's HTTP API says what the parser does."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from isthmus.core.errors import InvalidRequest
from isthmus.edge.openai_api import IGNORED, UNDERSTOOD, parse_chat_request
from isthmus.edge.openapi import openapi

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PART = [{"type": "text", "text": "x"}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def allowed(body: Any) -> bool:
    page = openapi()
    schema = {"$ref": "#/components/schemas/ChatRequest", "components": page["components"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(body))


def parsed(body: Any) -> bool:
    try:
        parse_chat_request(body)
    except InvalidRequest:
        return False
    return True


def test_it_names_every_field_that_is_read_or_ignored_and_no_other() -> None:
    schema = openapi()["components"]["schemas"]["ChatRequest"]
    assert schema["properties"].keys() == UNDERSTOOD | IGNORED


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": PART, "name": None}]},
        {"messages": [{"role": "assistant", "content": "x", "refusal": 3}]},
        {"messages": [*HELLO, {"role": "assistant", "tool_calls": [CALL]}]},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "poet", "content": "x"}]},
        {"model": "gpt-4o"},
        {"model": None},
        {"n": 2},
        {"temperature": 2},
        {"temperature": 2.5},
        {"top_k": -1},
        {"top_k": 1.5},
        {"max_tokens": 0},
        {"seed": 1 << 63},
        {"stop": "x"},
        {"stop": ""},
        {"stop": ["x"] * 17},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"other": True}},
        {"tools": [TOOL]},
        {"tools": [{"type": "function"}]},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tool_choice": "sometimes"},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_object", "json_schema": {}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
        {"response_format": {"type": "json_schema"}},
        {"isthmus": {"route": "prefer_on_device", "deadline_ms": 5}},
        {"isthmus": {"route": "by sea"}},
        {"isthmus": {"colour": "blue"}},
        {"isthmus": {"conversation": ""}},
        {"modalities": ["text"]},
        {"modalities": ["audio"]},
        {"user": {"any": "thing"}},
        {"tempreature": 1},
    ],
)
def test_what_it_allows_is_read_and_what_it_forbids_is_refused(more: dict[str, Any]) -> None:
    body = {"messages": HELLO, **more}
    assert allowed(body) == parsed(body)
