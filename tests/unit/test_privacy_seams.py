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
    "card_over_three": ("BANK_CARD", user("card 4111"), user("1111 1111"), user("1111 thanks")),
    "phone_over_three": (
        "PHONE",
        user("my number is 138"),
        assistant("go on"),
        user("1234"),
        assistant("and"),
        user("5678"),
    ),
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


def test_a_value_that_is_split_into_the_answer_so_far_counts() -> None:
    request = ChatRequest("r", (user("the card 4111 1111"),), answer_so_far="1111 1111 is")
    result = scan_request(request)
    assert "BANK_CARD" in result.messages[0]


NAMED_ELSEWHERE = {
    "card, mistyped": (
        "BANK_CARD",
        assistant("What's your card number?"),
        user("4111111111111112"),
    ),
    "password": ("SECRET", assistant("And the password?"), user("hunter2")),
    "password, by the other one": (
        "SECRET",
        user("what is the password for the wifi?"),
        assistant("it's Zx9kLm22"),
    ),
    "name afterwards": ("SECRET", user("hunter2"), user("that's the password")),
    "name afterwards, in Chinese": ("ID_CN", user("110105194912310021"), user("这是我的身份证号")),
    "身份证": ("ID_CN", assistant("你的身份证号是多少呢？"), user("999999199902301234")),
    "密码": ("SECRET", assistant("请问您的密码是多少？"), user("zhang2020")),
    "护照": ("PASSPORT", assistant("护照号发我一下"), user("好的，C4VJ2K8H1")),
    "number": ("US_SSN", assistant("Could you tell me your SSN?"), user("sure, 536482917")),
    "pin": ("SECRET", assistant("what's your PIN?"), user("4821")),
    "account": ("ACCOUNT", assistant("account number please"), user("12345678")),
}


@pytest.mark.parametrize("what", NAMED_ELSEWHERE)
def test_what_another_message_names_counts(what: str) -> None:
    label, *messages = NAMED_ELSEWHERE[what]
    assert label in scan_request(ChatRequest("r", tuple(messages))).labels  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("Do you want a password?", "Yes, please make one"),
        ("What is a password?", "A secret word"),
        ("Enter your password", "I forgot it"),
        ("What is the order number?", "12345678"),
        ("what is a bank account?", "It is a record with a number such as 12"),
        ("how do I reset the password?", "Click Settings, then Account."),
        ("write a function that checks a password", "def check(password): return len(p) >= 8"),
        ("your key?", "no"),
        ("密码忘了怎么办？", "点击“忘记密码”，等短信"),
        ("身份证怎么补办", "带照片去派出所，约15天"),
    ],
)
def test_a_question_about_a_kind_of_value_makes_none_of_the_answer(first: str, then: str) -> None:
    request = ChatRequest("r", (user(first), assistant(then)))
    assert scan_request(request).labels == {}


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
