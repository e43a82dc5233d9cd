"""What a request inherits of its conversation, in which form it may leave, and scans that fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace

import pytest

from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role, RoutePreference, TextPart
from isthmus.core.errors import InvalidRequest, PolicyRefused
from isthmus.edge.screen import Screen
from isthmus.privacy.base import Span
from isthmus.privacy.policy import Action, PrivacyConfig
from isthmus.privacy.scanner import Scanner


def say(role: Role, text: str) -> Message:
    return Message(role, (TextPart(text),))


SYSTEM = say(Role.SYSTEM, "You are the assistant of a shop for garden tools.")
QUESTION = say(Role.USER, "Please tell me how long a spade should last.")
OTHER = say(Role.USER, "Please tell me when the shop opens on a Sunday.")
CARD = say(Role.USER, "Please pay the broken spade with my card 4111 1111 1111 1111.")
MAIL = say(Role.USER, "Please write to jane@example.org about the broken spade.")
ANSWER = say(Role.ASSISTANT, "Dear Jane, about that spade of yours: it is broken.")


def request(*messages: Message, privacy: Mapping[str, str] | None = None) -> ChatRequest:
    return ChatRequest("r1", messages, preference=RoutePreference(privacy=privacy or {}))


def a_screen(scanner: Scanner | None = None, *, timeout_s: float = 5, **config: object) -> Screen:
    return Screen(scanner or Scanner(), PrivacyConfig(**config), timeout_s=timeout_s)  # type: ignore[arg-type]


async def class_of(screen: Screen, *messages: Message) -> PrivacyClass:
    return (await screen.look(request(*messages))).found.privacy_class


@pytest.mark.timeout(20)
async def test_a_scan_that_nobody_waits_for_any_more_reads_no_further_text() -> None:
    goes_on, ended = threading.Event(), threading.Event()
    read: list[str] = []

    class Slow(Scanner):
        def find(self, text: str) -> tuple[Span, ...]:
            read.append(text)
            goes_on.wait()
            if "Sunday" in text:
                ended.set()
            return super().find(text)

    screen = a_screen(Slow(), timeout_s=0.2)
    await screen.look(request(SYSTEM, QUESTION, OTHER))
    goes_on.set()
    assert not await asyncio.to_thread(ended.wait, 0.3)
    assert len(read) == 1


@pytest.mark.timeout(20)
async def test_a_scan_that_never_ends_holds_the_request_here_and_not_up() -> None:
    ends = threading.Event()

    class Stuck(Scanner):
        def find(self, text: str) -> tuple[Span, ...]:
            ends.wait()
            return super().find(text)

    screen = a_screen(Stuck(), timeout_s=0.5)
    try:
        found = (await screen.look(request(SYSTEM, QUESTION))).found
    finally:
        ends.set()
    assert (found.privacy_class, found.failed) == (PrivacyClass.UNKNOWN, True)
    assert await class_of(screen, SYSTEM, QUESTION) is PrivacyClass.UNKNOWN
    assert await class_of(screen, QUESTION) is PrivacyClass.UNKNOWN
    assert await class_of(screen, SYSTEM, OTHER) is PrivacyClass.PUBLIC


async def test_what_follows_a_sensitive_message_is_tainted_and_what_comes_before_is_not() -> None:
    screen = a_screen()
    look = await screen.look(request(SYSTEM, OTHER, CARD))
    screen.remember(look.conversation, request(SYSTEM, OTHER, CARD), ANSWER)
    assert look.found.privacy_class is PrivacyClass.SENSITIVE
    assert await class_of(screen, ANSWER, QUESTION) is PrivacyClass.SENSITIVE
    assert await class_of(screen, SYSTEM, OTHER) is PrivacyClass.PUBLIC


async def test_labels_stay_with_a_conversation_and_a_stricter_request_sees_them() -> None:
    screen = a_screen()
    look = await screen.look(request(MAIL))
    screen.remember(look.conversation, request(MAIL), ANSWER)
    assert look.found.privacy_class is PrivacyClass.REDACTED
    strict = await screen.look(request(ANSWER, QUESTION, privacy={"EMAIL": "local_only"}))
    assert strict.found.privacy_class is PrivacyClass.SENSITIVE


async def test_what_was_redacted_may_go_on_as_long_as_its_values_are_known() -> None:
    def mine(*messages: Message) -> ChatRequest:
        return replace(request(*messages), preference=RoutePreference(conversation="mine"))

    screen = a_screen()
    look = await screen.look(mine(MAIL))
    screen.remember(look.conversation, mine(MAIL), ANSWER)
    repeated = say(Role.USER, "Now write another long letter, to JANE @EXAMPLE. ORG this time")
    known = await screen.look(mine(ANSWER, repeated))
    assert known.found.privacy_class is PrivacyClass.REDACTED
    outgoing = await screen.outgoing(mine(ANSWER, repeated), known)
    assert "EXAMPLE" not in str(outgoing.request.messages)
    screen.vaults.wipe()
    forgotten = (await screen.look(mine(ANSWER, QUESTION))).found
    assert (forgotten.privacy_class, forgotten.redactable) == (PrivacyClass.SENSITIVE, False)


async def test_what_cannot_be_redacted_stays() -> None:
    screen = a_screen()
    named = replace(QUESTION, name="jane@example.org")
    found = (await screen.look(request(named))).found
    assert (found.privacy_class, found.redactable) == (PrivacyClass.SENSITIVE, False)


def test_warming_up_reads_both_languages_and_survives_a_broken_scanner() -> None:
    read: list[str] = []

    class Broken(Scanner):
        def find(self, text: str) -> tuple[Span, ...]:
            read.append(text)
            raise RuntimeError(text)

    a_screen(Broken()).warm_up()
    assert any("a" <= char <= "z" for char in read[0])
    assert any("\u4e00" <= char <= "\u9fff" for char in read[0])


async def test_a_looser_wish_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        await a_screen().look(request(MAIL, privacy={"BANK_CARD": "allow"}))
    assert refused.value.field == "isthmus.privacy.BANK_CARD"


async def test_what_is_allowed_leaves_as_it_is() -> None:
    screen = a_screen(labels={"EMAIL": Action.ALLOW})
    look = await screen.look(request(MAIL))
    assert look.found.privacy_class is PrivacyClass.PUBLIC
    assert (await screen.outgoing(request(MAIL), look)).request.messages == (MAIL,)


async def test_an_answer_so_far_is_judged_before_it_leaves() -> None:
    screen = a_screen()
    look = await screen.look(request(QUESTION))
    begun = replace(request(QUESTION), answer_so_far="Pay with 4111 1111 1111 1111 then")
    with pytest.raises(PolicyRefused):
        await screen.outgoing(begun, look)
