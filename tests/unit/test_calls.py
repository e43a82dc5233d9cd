"""Calls are read from an answer as it arrives, in whatever pieces that is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import Tool
from isthmus.core.events import ToolCallDelta
from isthmus.engine.calls import CallReader, instructions, written

NAMES = st.sampled_from(["f", "get_weather", 'a "b", "arguments": c', "é\\"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just("}\n</tool_call>"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(st.text(max_size=3), JSON, max_size=3)))
SAID = st.text(st.sampled_from("<tool_cal> \na"), max_size=20).filter(
    lambda text: "<tool_call>" not in text and not text.endswith("\n")
)


def read(reader: CallReader, pieces: list[str]) -> tuple[str, list[ToolCallDelta]]:
    text, calls = "", list[ToolCallDelta]()
    for piece in pieces:
        shown, deltas = reader.push(piece)
        text += shown
        calls += deltas
    return text + reader.flush(), calls


@given(SAID, CALLS, st.lists(st.integers(1, 9), min_size=1))
def test_an_answer_falls_into_its_text_and_its_calls(
    said: str, made: list[tuple[str, dict[str, object]]], sizes: list[int]
) -> None:
    parts = [said] if said else []
    whole = "\n".join([*parts, *(written(name, arguments) for name, arguments in made)])
    pieces, at = [], 0
    while at < len(whole):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(whole[at : at + size])
        at += size
    reader = CallReader()
    text, deltas = read(reader, pieces)
    assert text == said
    assert reader.complete == len(made)
    for index, (name, arguments) in enumerate(made):
        first, *rest = [delta for delta in deltas if delta.index == index]
        assert (first.name, first.arguments) == (name, "")
        assert json.loads("".join(delta.arguments for delta in rest)) == arguments
    ids = [delta.id for delta in deltas if delta.id]
    assert len(set(ids)) == len(made)


@pytest.mark.parametrize(
    "broken_off", ["<tool", "a\n<tool_call", "\n"], ids=["start", "after_text", "line_break"]
)
def test_what_became_no_call_is_text(broken_off: str) -> None:
    assert read(CallReader(), list(broken_off)) == (broken_off, [])


def test_a_call_that_is_broken_off_gives_what_there_is() -> None:
    reader = CallReader()
    text, deltas = read(reader, ['<tool_call>\n{"name": "f", "arguments": {"a": 1'])
    assert text == ""
    assert [(delta.name, delta.arguments) for delta in deltas] == [("f", ""), ("", '{"a": 1')]
    assert reader.complete == 0


def test_the_instructions_show_every_tool_and_how_to_call_one() -> None:
    told = instructions([Tool("f", "does", {"type": "object"}), Tool("g")])
    assert '{"name": "f", "description": "does", "parameters": {"type": "object"}}' in told
    assert '"name": "g"' in told
    assert '<tool_call>\n{"name": "NAME", "arguments": {…}}\n</tool_call>' in told
