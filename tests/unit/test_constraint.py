"""What may follow in an answer that must have a form, and which forms are refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tiny_qwen2
from formed_requests import ASKED, CLOCK, FORCED, PERSON, WEATHER, with_schema
from isthmus.core.chat import (
    ChatRequest,
    Tool,
)
from isthmus.core.errors import InvalidRequest, IsthmusError, NotSupported
from isthmus.engine.constraint import SCHEMA_FIELD, Grammars
from isthmus.engine.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_qwen2.model().tokenizer)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


def accepts(grammars: Grammars, tokenizer: Tokenizer, request: ChatRequest, text: str) -> bool:
    """Whether the whole of `text` may be the answer."""
    constraint = grammars.constraint(request)
    for token in tokenizer.encode(text):
        if not constraint.allowed(tokenizer.vocab)[token]:
            return False
        constraint.accept(token)
    return bool(constraint.allowed(tokenizer.vocab)[list(tokenizer.spec.eos_ids)].all())


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ANSWERS = {
    "text": ("Hello, <you>!", True),
    "nothing": ("", True),
    "call": (CALL, True),
    "text_then_call": (f"I look.\n{CALL}", True),
    "two_calls": (f"{CALL}\n{CALL}", True),
    "text_after_a_call": (f"{CALL} so", False),
    "no_such_tool": (CALL.replace("get_weather", "rain"), False),
    "no_such_argument": (CALL.replace("city", "town"), False),
    "wrong_type": (CALL.replace('"Paris"', "1"), False),
    "argument_missing": (CALL.replace('"city": "Paris"', ""), False),
    "broken_off": (CALL[:-4], False),
}


@pytest.mark.parametrize(("text", "allowed"), ANSWERS.values(), ids=list(ANSWERS))
def test_with_a_choice_text_and_calls_are_allowed_and_nothing_between(
    grammars: Grammars, tokenizer: Tokenizer, text: str, allowed: bool
) -> None:
    free = replace(ASKED, tools=(WEATHER, CLOCK))
    assert accepts(grammars, tokenizer, free, text) is allowed


def test_tools_and_a_form_together_allow_either(grammars: Grammars, tokenizer: Tokenizer) -> None:
    both = with_schema({"type": "object", "properties": {"a": {}}}, tools=(WEATHER,))
    assert accepts(grammars, tokenizer, both, '{"a": [1, {"b": null}]}')
    assert accepts(grammars, tokenizer, both, CALL)
    assert not accepts(grammars, tokenizer, both, "no")
    assert not accepts(grammars, tokenizer, both, '{"b": 1}')


def test_more_properties_come_only_where_the_schema_says_so(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    open_one = with_schema({"type": "object", "additionalProperties": {"type": "integer"}})
    joined = with_schema(
        {
            "type": "object",
            "allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}, "required": ["b"]}],
        }
    )
    assert accepts(grammars, tokenizer, open_one, '{"b": 1}')
    assert accepts(grammars, tokenizer, joined, '{"a": 1, "b": 1}')


def test_an_answer_begun_elsewhere_is_gone_on_with_whatever_its_white_space(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    begun = with_schema(PERSON, answer_so_far='{\n  "name" : "A", "age":')
    assert accepts(grammars, tokenizer, begun, ' 3, "kind": "cat", "home":null}')
    with pytest.raises(NotSupported) as caught:
        grammars.constraint(replace(begun, answer_so_far="Here it is: "))
    assert caught.value.field == "answer_so_far"


def test_a_model_with_more_rows_than_tokens_never_says_the_rest(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    allowed = grammars.constraint(with_schema(PERSON)).allowed(tokenizer.vocab + 7)
    assert allowed.shape == (tokenizer.vocab + 7,)
    assert allowed.dtype == np.bool_
    assert [tokenizer.token_bytes(int(i)) for i in np.flatnonzero(allowed)] == [b"{"]


SECRET = "zanzibar"
BAD: dict[str, tuple[dict[str, Any], type[IsthmusError], str]] = {
    "type": ({"type": SECRET}, InvalidRequest, "'type'"),
    "required": ({"type": "object", "required": SECRET}, InvalidRequest, "not valid"),
    "pattern": ({"type": "string", "pattern": f"({SECRET}"}, InvalidRequest, "regular"),
    "nowhere": ({"$ref": f"#/$defs/{SECRET}"}, InvalidRequest, "nowhere"),
    "outside": ({"$ref": f"https://{SECRET}.org/x"}, InvalidRequest, "leads out"),
    "impossible": ({"type": "integer", "minimum": 2, "maximum": 1}, InvalidRequest, "any value"),
    "not": ({"not": {"const": SECRET}}, NotSupported, '"not"'),
    "if": ({"if": {"const": SECRET}, "then": {}}, NotSupported, '"if", "then"'),
    "look_ahead": ({"type": "string", "pattern": f"(?={SECRET})"}, NotSupported, "look-around"),
    "format": ({"type": "string", "format": SECRET}, NotSupported, "'format'"),
    "one_of": ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, NotSupported, "'anyOf'"),
}


@pytest.mark.parametrize(("schema", "error", "told"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("of_a_tool", [False, True])
def test_a_bad_schema_is_named_explained_and_not_quoted(
    grammars: Grammars,
    schema: dict[str, Any],
    error: type[IsthmusError],
    told: str,
    of_a_tool: bool,
) -> None:
    if of_a_tool:
        tool = Tool("f", "", {"type": "object", "properties": {"x": schema}, "required": ["x"]})
        asked = replace(ASKED, tools=(WEATHER, tool))
    else:
        asked = with_schema(schema)
    with pytest.raises(error, match=told) as caught:
        grammars.constraint(asked)
    assert caught.value.field == ("tools[1].function.parameters" if of_a_tool else SCHEMA_FIELD)
    assert SECRET not in str(caught.value)


def test_a_tool_takes_an_object(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest, match="object") as caught:
        grammars.constraint(replace(ASKED, tools=(Tool("f", "", {"type": "string"}),)))
    assert caught.value.field == "tools[0].function.parameters"


def test_a_tool_that_is_not_there_cannot_be_forced(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammars.constraint(replace(FORCED, tool_name="other"))
    assert caught.value.field == "tool_choice"


def test_a_schema_too_deep_is_refused(grammars: Grammars) -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(sys.getrecursionlimit()):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InvalidRequest) as caught:
        grammars.constraint(with_schema(deep))
    assert caught.value.field == SCHEMA_FIELD


def test_without_the_library_the_device_says_that_it_cannot(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(NotSupported, match="pip install llguidance"):
        Grammars(tokenizer)
