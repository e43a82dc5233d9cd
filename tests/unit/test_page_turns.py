"""A turn of the page's conversations: its body, its title, and what the model is shown of it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from isthmus.core.chat import Role
from isthmus.core.errors import InvalidRequest
from isthmus.edge.openapi import openapi
from isthmus.edge.page.messages import MessageStatus, StoredMessage, title_of
from isthmus.edge.page.settings import parse_settings
from isthmus.edge.page.turn import Turn, parse_turn

TURNS = ("/v1/isthmus/conversations/{conversation}/turns", "post", parse_turn)
SETTINGS = ("/v1/isthmus/settings", "patch", parse_settings)


@pytest.mark.parametrize(
    ("where", "body"),
    [
        (TURNS, {"content": "x"}),
        (TURNS, {"content": "x", "parent": None, "route": "auto", "max_tokens": 1}),
        (TURNS, {"regenerate": "x", "max_tokens": None}),
        (TURNS, {}),
        (TURNS, {"content": ""}),
        (TURNS, {"content": " \n"}),
        (TURNS, {"content": 3}),
        (TURNS, {"content": "x", "regenerate": "y"}),
        (TURNS, {"regenerate": "x", "parent": "y"}),
        (TURNS, {"content": "x", "route": "nowhere"}),
        (TURNS, {"content": "x", "max_tokens": 1 << 25}),
        (TURNS, {"content": "x", "stream": True}),
        (SETTINGS, {}),
        (SETTINGS, {"preset": "best", "budget": {}, "privacy": {"policy": "open"}}),
        (SETTINGS, {"budget": {"day_usd": None, "month_usd": 3}}),
        (SETTINGS, {"budget": {"day_usd": 2e9}}),
        (SETTINGS, {"budget": {"week_usd": 1}}),
        (SETTINGS, {"privacy": {"consent": 1}}),
        (SETTINGS, {"preset": "cheapest"}),
    ],
)
def test_the_page_of_the_interface_says_what_the_parser_does(where: Any, body: Any) -> None:
    path, method, parse = where
    page = openapi()
    told = page["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    schema = told | {"components": page["components"]}
    try:
        parse(body)
        parsed = True
    except InvalidRequest:
        parsed = False
    assert jsonschema.Draft202012Validator(schema).is_valid(body) is parsed


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("  How do\nrivers flow? ", "How do rivers flow?"),
        (
            "Tell me everything about the history of the canal between the two oceans",
            "Tell me everything about the history of the canal between…",
        ),
        ("巴拿马运河" * 20, "巴拿马运河" * 12 + "…"),
        ("x" * 61, "x" * 60 + "…"),
    ],
)
def test_a_title_is_the_first_words(text: str, title: str) -> None:
    assert title_of(text) == title


def chat(turns: int) -> list[StoredMessage]:
    """Questions 0, 1, … each answered."""
    messages: list[StoredMessage] = []
    for turn in range(turns):
        parent = messages[-1].id if messages else None
        messages.append(StoredMessage(Role.USER, f"question {turn}", parent))
        messages.append(StoredMessage(Role.ASSISTANT, f"answer {turn}", messages[-1].id))
    return messages


def asked(messages: list[StoredMessage], content: str = "next") -> Turn:
    parent = messages[-1].id if messages else None
    return Turn.of("c", messages, parse_turn({"content": content, "parent": parent}))


def test_the_oldest_half_is_left_out_until_the_question_alone_is_there() -> None:
    turn = asked(chat(4))
    shown = []
    while turn.leave_out():
        shown.append((turn.shown[0].content, turn.answer.left_out))
    assert shown == [("question 2", 4), ("question 3", 6), ("next", 8)]
    assert [m.content for m in turn.shown] == ["next"]


def test_a_question_that_had_no_room_at_all_takes_none_from_the_next() -> None:
    messages = chat(1)
    dear = asked(messages, "fox " * 20_000)
    assert dear.question is not None
    dear.answer.status = MessageStatus.FAILED
    dear.answer.error = {"code": "context_length_exceeded", "message": "too long"}
    after = asked([*messages, dear.question, dear.answer])
    assert [m.content for m in after.shown] == ["question 0", "answer 0", "next"]


def test_the_next_turn_begins_where_the_one_before_had_to() -> None:
    messages = chat(4)
    before = asked(messages, "long")
    before.leave_out()
    assert before.question is not None
    before.answer.content, before.answer.status = "answer", MessageStatus.DONE
    after = asked([*messages, before.question, before.answer])
    assert after.shown[0].content == "question 2"
    assert after.answer.left_out == 4
    earlier = asked(messages[:4])
    assert earlier.answer.left_out == 0, "another branch has room for all of its own"
