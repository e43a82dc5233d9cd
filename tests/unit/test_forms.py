"""JSON that is checked while it is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import ChatRequest, Message, ResponseFormat, ResponseKind, Role, TextPart
from isthmus.router.doubt.forms import FormCheck

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "hours": {"type": "array", "items": {"type": "number"}},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False).filter(lambda x: abs(x) != float("inf"))
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.integers(1, 7))
def test_whatever_json_writes_fits_however_it_is_cut(
    value: object, ascii_only: bool, size: int
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=size % 3 or None)
    form = FormCheck()
    for at in range(0, len(text), size):
        assert form.feed(text[at : at + size]) is None
    assert form.complete


@given(VALUES, st.data())
def test_a_text_is_complete_only_where_json_can_read_it(value: object, data: st.DataObject) -> None:
    whole = json.dumps(value)
    text = whole[: data.draw(st.integers(0, len(whole)))]
    form = FormCheck()
    form.feed(text)
    try:
        json.loads(text)
    except json.JSONDecodeError:
        assert not form.complete
    else:
        assert form.complete


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('{"a": 1,}', 8),
        ('{"a" 1}', 5),
        ("{'a': 1}", 1),
        ("[1, 2}", 5),
        ("[01]", 1),
        ("[1.e5]", 1),
        ('["a\nb"]', 1),
        (r'["\x41"]', 1),
        ("[nul]", 1),
        ("[truely]", 5),
        ("{} and more", 3),
        ("Sure! Here is", 0),
        ("]", 0),
    ],
)
def test_a_break_is_found_where_its_key_or_value_begins(text: str, at: int) -> None:
    form = FormCheck()
    assert form.feed(text) == at
    assert form.feed(" more") == at
    assert not form.complete


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('{"town": "Paris"', 1),
        ('{"city": 5', 9),
        ('{"city": "Paris", "unit": "K"', 26),
        ('{"city": "Paris", "days": 1.5,', 26),
        ('{"city": "Paris", "hours": [1, "2"', 31),
        ('{"city": "Paris"}', 16),
        ("[", 0),
    ],
)
def test_an_answer_that_cannot_fit_the_schema_any_more_is_broken(text: str, at: int) -> None:
    assert FormCheck(WEATHER).feed(text) == at


def test_an_answer_that_fits_the_schema_is_whole() -> None:
    form = FormCheck(WEATHER)
    text = '{"city": "São Paulo", "days": 3, "unit": "C", "hours": [1, 2.5]}'
    assert form.feed(text) is None
    assert form.complete


def test_what_a_schema_says_in_words_that_are_not_read_breaks_nothing() -> None:
    form = FormCheck({"anyOf": [{"type": "string"}], "properties": {"a": {"$ref": "#/$defs/x"}}})
    assert form.feed('{"a": [1, {"b": null}]}') is None
    assert form.complete


def test_a_number_without_end_is_broken() -> None:
    assert FormCheck().feed("[3." + "3" * 2000) == 1


def test_only_a_request_for_json_has_a_form() -> None:
    message = Message(Role.USER, (TextPart("hello"),))
    asked = ResponseFormat(ResponseKind.JSON_SCHEMA, "weather", WEATHER)
    assert FormCheck.of(ChatRequest("r", (message,))) is None
    form = FormCheck.of(ChatRequest("r", (message,), response_format=asked))
    assert form is not None
    assert form.feed("[") == 0
