"""The walk over a request's texts: nothing that leaves is missed, nothing else is touched."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest

from isthmus.core import wire
from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    Message,
    ResponseFormat,
    ResponseKind,
    Role,
    TextPart,
    Tool,
    ToolCall,
)
from isthmus.core.deadline import Deadline
from isthmus.core.tracing.base import NO_SPAN, Span
from isthmus.privacy.fields import FixedField, Passage, Place, UnscannedField, map_texts

MADE_BY_THE_AGENT = {"request_id"}


class Planter:
    """Builds a value of any type that a request is made of, with a text of its own in each place
    that can hold one."""

    def __init__(self) -> None:
        self.planted: list[str] = []

    def text(self, path: str) -> str:
        text = f"planted{len(self.planted)}."
        if path.rpartition(".")[2] in MADE_BY_THE_AGENT:
            return "id"
        self.planted.append(text)
        return f"https://example.org/{text}" if path.endswith(".url") else text

    def build(self, kind: Any, path: str = "") -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is str:
            return self.text(path)
        if origin is tuple:
            options = typing.get_args(arguments[0]) or (arguments[0],)
            return tuple(self.build(option, path) for option in options)
        if origin in {types.UnionType, typing.Union}:
            return self.build(arguments[0], path)
        if origin is Mapping:
            return {self.text(path): [self.text(path), {"deep": self.text(path)}]}
        if is_dataclass(kind) and kind is not Deadline:
            hints = typing.get_type_hints(kind)
            return kind(
                **{  # type: ignore[call-arg]
                    field.name: self.build(hints[field.name], f"{path}.{field.name}")
                    for field in fields(kind)
                }
            )
        if isinstance(kind, type) and issubclass(kind, Enum):
            return next(iter(kind))
        if kind is Span:  # never in the bytes
            return NO_SPAN
        return {int: 1, float: 1.0, bool: True, Deadline: Deadline.NEVER}[kind]


def everything() -> tuple[ChatRequest, list[str]]:
    planter = Planter()
    request = replace(planter.build(ChatRequest), received=None)
    call = request.messages[0].tool_calls[0]
    arguments = json.dumps({call.arguments: call.arguments})
    message = replace(request.messages[0], tool_calls=(replace(call, arguments=arguments),))
    return replace(request, messages=(message,)), planter.planted


def test_every_text_that_is_in_the_bytes_is_walked() -> None:
    """A field added to the request, and to the wire, fails here until the walk knows it."""
    request, planted = everything()
    seen: list[str] = []

    def collect(passage: Passage) -> Sequence[str]:
        seen.append(passage.joined)
        return passage.texts

    assert map_texts(request, collect) == request
    leaving = wire.request_to_wire(request).SerializeToString()
    left = [text for text in planted if text.encode() in leaving]
    assert len(left) >= 20
    assert [text for text in left if not any(text in one for one in seen)] == []


def test_what_an_earlier_attempt_brought_is_no_field_to_scan_and_stays_here() -> None:
    request, _ = everything()
    with pytest.raises(UnscannedField, match="received"):
        map_texts(replace(request, received="words"), lambda passage: passage.texts)


def test_every_text_is_either_rewritten_or_refused() -> None:
    request, planted = everything()
    before = wire.request_to_wire(request).SerializeToString()
    fixed = set()
    for place in Place:

        def hide(passage: Passage, place: Place = place) -> Sequence[str]:
            hidden = ["hidden"] * len(passage.texts)
            return hidden if passage.place is place else passage.texts

        try:
            changed = map_texts(request, hide)
        except FixedField as refused:
            fixed.add(refused.place)
        else:
            after = wire.request_to_wire(changed).SerializeToString()
            gone = [t for t in planted if t.encode() in before and t.encode() not in after]
            assert gone, place
    assert set(Place) - fixed == {
        Place.CONTENT,
        Place.ARGUMENTS,
        Place.TOOL_DESCRIPTION,
        Place.TOOL_PARAMETERS,
        Place.SCHEMA,
        Place.STOP,
        Place.ANSWER_SO_FAR,
    }


def swap(old: str, new: str) -> Any:
    return lambda passage: [text.replace(old, new) for text in passage.texts]


def arguments_after(arguments: str, old: str, new: str) -> str:
    call = ToolCall("1", "f", arguments)
    changed = map_texts(
        ChatRequest("r", (Message(Role.ASSISTANT, tool_calls=(call,)),)), swap(old, new)
    )
    return changed.messages[0].tool_calls[0].arguments


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":  "x" , "b":1e5}', '{"a":  "y" , "b":1e5}'),
        (r'{"a": "\u0078"}', '{"a": "y"}'),
        ('{"a": "x", "a": "x"}', '{"a": "y", "a": "y"}'),
        ('{"x": [null, true, "é\\n"]}', '{"y": [null, true, "é\\n"]}'),
        ('{"a": "x', '{"a": "y'),
        ("not json: x", "not json: y"),
    ],
)
def test_arguments_change_in_their_values_alone(arguments: str, expected: str) -> None:
    assert arguments_after(arguments, "x", "y") == expected


def test_what_stands_for_a_number_is_a_string() -> None:
    assert (
        arguments_after('{"a": 13812345678, "b": 2}', "13812345678", "[P]")
        == '{"a": "[P]", "b": 2}'
    )


@pytest.mark.parametrize("hidden", [r"x\u0078", r"x\"x", r"x\nx"])
def test_a_value_hidden_by_escapes_in_broken_json_is_refused(hidden: str) -> None:
    plain = json.loads(f'"{hidden}"')
    with pytest.raises(FixedField):
        arguments_after(f'{{"a": "{hidden}', plain, "y")


def test_a_limit_in_a_schema_stays_a_number() -> None:
    tool = Tool("t", "", {"properties": {"n": {"maximum": 13812345678}}})
    with pytest.raises(FixedField):
        map_texts(ChatRequest("r", (), tools=(tool,)), swap("13812345678", "y"))


def test_keys_of_a_schema_are_texts_like_any_other() -> None:
    form = ResponseFormat(ResponseKind.JSON_SCHEMA, "s", {"properties": {"x": {"const": "x"}}})
    changed = map_texts(ChatRequest("r", (), response_format=form), swap("x", "y"))
    assert changed.response_format.schema == {"properties": {"y": {"const": "y"}}}


def test_parts_of_a_message_are_one_passage() -> None:
    image = ImagePart("https://example.org/")
    message = Message(Role.USER, (TextPart("jane@exa"), image, TextPart("mple.org")))
    seen = []

    def collect(passage: Passage) -> Sequence[str]:
        seen.append((passage.joined, passage.ranges, passage.seamless))
        return passage.texts

    map_texts(ChatRequest("r", (message,)), collect)
    assert ("jane@example.org", [(0, 8), (8, 16)], True) in seen
