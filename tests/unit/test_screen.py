"""What a request inherits of its conversation, and a scan that does not end."""

from __future__ import annotations

import threading

import pytest

from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role, TextPart
from isthmus.edge.screen import Screen
from isthmus.privacy.scan import ScanResult, scan_request


def say(role: Role, text: str) -> Message:
    return Message(role, (TextPart(text),))


SYSTEM = say(Role.SYSTEM, "You are the assistant of a shop for garden tools.")
QUESTION = say(Role.USER, "Please tell me how long a spade should last.")
OTHER = say(Role.USER, "Please tell me when the shop opens on a Sunday.")


def request(*messages: Message) -> ChatRequest:
    return ChatRequest("r1", messages)


@pytest.mark.timeout(20)
async def test_a_scan_that_never_ends_holds_the_request_here_and_not_up() -> None:
    ends = threading.Event()

    def scan(asked: ChatRequest) -> ScanResult:
        ends.wait()
        return scan_request(asked)

    screen = Screen(scan, timeout_s=0.5)
    try:
        _, found = await screen.look(request(SYSTEM, QUESTION))
    finally:
        ends.set()
    assert (found.privacy_class, found.failed) == (PrivacyClass.UNKNOWN, True)
    _, again = await screen.look(request(SYSTEM, QUESTION))
    _, without_instructions = await screen.look(request(QUESTION))
    _, elsewhere = await screen.look(request(SYSTEM, OTHER))
    assert again.privacy_class is PrivacyClass.UNKNOWN
    assert without_instructions.privacy_class is PrivacyClass.UNKNOWN
    assert elsewhere.privacy_class is PrivacyClass.PUBLIC


async def test_what_follows_a_sensitive_message_is_tainted_and_what_comes_before_is_not() -> None:
    screen = Screen(scan_request, timeout_s=5)
    private = say(Role.USER, "Write to jane@example.org about the broken spade, please.")
    answer = say(Role.ASSISTANT, "Dear Jane, about that spade of yours: it is broken.")
    conversation, found = await screen.look(request(SYSTEM, OTHER, private))
    screen.remember(conversation, request(SYSTEM, OTHER, private), answer)
    _, shortened = await screen.look(request(answer, QUESTION))
    _, before = await screen.look(request(SYSTEM, OTHER))
    assert found.privacy_class is PrivacyClass.SENSITIVE
    assert shortened.privacy_class is PrivacyClass.SENSITIVE
    assert before.privacy_class is PrivacyClass.PUBLIC
