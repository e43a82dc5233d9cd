"""Values that are split over messages, or over the strings of a JSON document."""

from __future__ import annotations

import json
import random

import pytest

from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role, TextPart, ToolCall
from isthmus.privacy.fields import FixedField
from isthmus.privacy.redact import redact
from isthmus.privacy.scan import scan_request
from isthmus.privacy.scanner import Scanner
from isthmus.privacy.vault import Vault


def user(text: str) -> Message:
    return Message(Role.USER, (TextPart(text),))


def assistant(text: str) -> Message:
    return Message(Role.ASSISTANT, (TextPart(text),))


SPLIT = {
    "card": ("BANK_CARD", user("the card is 4111 1111"), user("1111 1111")),
    "card_with_an_answer_between": (
        "BANK_CARD",
        user("the card is 4111 1111"),
        assistant("Go on."),
        user("1111 1111, that is all"),
    ),
    "card_over_roles": ("BANK_CARD", assistant("You said 4111 1111"), user("1111 1111")),
    "mail": ("EMAIL", user("write to jane.doe"), user("@example.org please")),
    "id": ("ID_CN", user("我的身份证号是110105194912"), user("31002X,请记住")),
}


@pytest.mark.parametrize("what", SPLIT)
def test_a_value_that_is_split_over_messages_counts(what: str) -> None:
    label, *messages = SPLIT[what]
    result = scan_request(ChatRequest("r", tuple(messages)))  # type: ignore[arg-type]
    assert label in result.labels
    assert label in result.messages[-1]
    assert result.privacy_class is not PrivacyClass.PUBLIC


def test_what_is_split_over_messages_cannot_be_redacted() -> None:
    request = ChatRequest("r", (user("write to jane.doe"), user("@example.org please")))
    with pytest.raises(FixedField):
        redact(request, Vault(), Scanner().find, lambda label: True)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("I have 20 apples.", "12 of them are red"),
        ("What is 12345 * 67890", "1 + 1"),
        ("My server is 10.0.0.1", "2 requests fail"),
        ("It was in 2024-01-01", "2024-01-02 is better"),
        ("Call +1 415 555 0132", "5 times a day"),
        ("jane@example.org", "bob@example.org"),
        ("order 20240101", "20240102"),
        ("version 1.2.3", "4.5.6 is out"),
    ],
)
def test_two_texts_side_by_side_are_no_value(first: str, then: str) -> None:
    alone = [scan_request(ChatRequest("r", (user(text),))).labels for text in (first, then)]
    together = scan_request(ChatRequest("r", (user(first), user(then)))).labels
    assert sum(together.values()) == sum(sum(labels.values()) for labels in alone)


def calling(arguments: object) -> ChatRequest:
    call = ToolCall("c", "send", json.dumps(arguments))
    return ChatRequest("r", (Message(Role.ASSISTANT, tool_calls=(call,)),))


def test_a_value_that_is_split_over_json_strings_is_found_and_replaced() -> None:
    request = calling(["jane.doe", "@example.org"])
    assert scan_request(request).labels["EMAIL"] == 1
    result = redact(request, Vault(random.Random(1).choice), Scanner().find, lambda label: True)
    left = result.request.messages[0].tool_calls[0].arguments
    assert "jane" not in left
    assert "example" not in left
    assert len(json.loads(left)) == 2


def test_a_list_of_plain_strings_is_no_value() -> None:
    lists: list[list[str]] = [
        [f"2024-01-{day:02}" for day in range(1, 29)],
        [str(number) for number in range(1000, 1100)],
        [f"item-{number}" for number in range(50)],
        ["src/a.py", "src/b.py", "@scope/package", "1.2.3"],
    ]
    for strings in lists:
        assert scan_request(calling(strings)).labels == {}
