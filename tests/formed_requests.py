"""Requests whose answers must have a form: a schema's, or a call of a tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isthmus.core.chat import (
    ChatRequest,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    TextPart,
    Tool,
    ToolChoice,
)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dog", "né"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3},
        "home": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
    },
    "required": ["name", "age", "kind", "home"],
    "$defs": {
        "place": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    },
}
WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 10},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city"],
    },
)
CLOCK = Tool('the "time"')
ASKED = ChatRequest("r", (Message(Role.USER, (TextPart("hello"),)),), max_tokens=1500)
FORCED = replace(ASKED, tools=(WEATHER, CLOCK), tool_choice=ToolChoice.REQUIRED)


def with_schema(schema: Mapping[str, Any], **fields: Any) -> ChatRequest:
    form = ResponseFormat(ResponseKind.JSON_SCHEMA, "answer", schema)
    return replace(ASKED, response_format=form, **fields)
