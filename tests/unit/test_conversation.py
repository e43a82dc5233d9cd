"""Finding conversations again by their messages, and what is inherited with them."""

from __future__ import annotations

import pytest

from isthmus.core.chat import Message, Role, TextPart
from isthmus.edge.conversation import CLEAN, Conversations

PHONE = frozenset({"PHONE"})
LONG = "This answer is long enough to be told from all others."


def said(role: Role, text: str) -> Message:
    return Message(role, (TextPart(text),))


def system(text: str) -> Message:
    return said(Role.SYSTEM, text)


def user(text: str) -> Message:
    return said(Role.USER, text)


def assistant(text: str) -> Message:
    return said(Role.ASSISTANT, text)


@pytest.fixture
def conversations() -> Conversations:
    return Conversations()


def hold(conversations: Conversations, *messages: Message, tainted_from: int | None = None) -> str:
    """Have a conversation that ends with an answer; its id."""
    found = conversations.find(messages[:-1])
    if tainted_from is not None:
        labels = [PHONE if at == tainted_from else CLEAN for at in range(len(messages) - 1)]
        found = found.tainted(labels)
    conversations.remember(found, messages)
    return found.id


def test_the_next_turn_is_found_by_the_history_it_repeats(conversations: Conversations) -> None:
    first = hold(conversations, user("Hi"), assistant("Hello!"))
    found = conversations.find([user("Hi"), assistant("Hello!"), user("How are you?")])
    assert found.id == first


def test_the_same_greeting_does_not_join_two_conversations(conversations: Conversations) -> None:
    first = hold(conversations, user("Hi"), assistant("Hello!"))
    assert conversations.find([user("Hi")]).id != first


def test_messages_that_two_conversations_share_do_not_make_them_one(
    conversations: Conversations,
) -> None:
    first = hold(
        conversations,
        user("my number"),
        assistant(LONG),
        user("so"),
        assistant("ok"),
        tainted_from=0,
    )
    for messages in (
        [user("another"), assistant(LONG)],
        [assistant("hm"), user("so"), assistant("ok")],
    ):
        found = conversations.find([*messages, user("and?")])
        assert found.taint == PHONE
        assert found.id != first


def test_a_name_finds_a_conversation_whatever_its_messages(conversations: Conversations) -> None:
    first = conversations.find([user("Hi")], "mine")
    assert conversations.find([user("something else")], "mine").id == first.id
    assert conversations.find([user("Hi")], "yours").id != first.id


def test_a_later_turn_inherits_the_taint(conversations: Conversations) -> None:
    hold(conversations, user("my number"), assistant("ok"), tainted_from=0)
    found = conversations.find([user("my number"), assistant("ok"), user("and?")])
    assert found.taint == PHONE
    assert found.flow == (PHONE, PHONE, PHONE)


def test_a_shortened_history_inherits_the_taint_of_its_answers(
    conversations: Conversations,
) -> None:
    hold(conversations, user("my number"), assistant(LONG), tainted_from=0)
    found = conversations.find([assistant(LONG), user("and?")])
    assert found.taint == PHONE


def test_an_edited_history_inherits_the_taint_of_neighbours_it_keeps(
    conversations: Conversations,
) -> None:
    hold(
        conversations, user("secret"), assistant("ok"), user("so"), assistant("yes"), tainted_from=0
    )
    found = conversations.find([user("edited"), assistant("ok"), user("so"), user("more")])
    assert found.taint == PHONE
    assert found.flow[:3] == (CLEAN, CLEAN, PHONE)


@pytest.mark.parametrize(
    ("question", "edited"),
    [
        ("my card is 4111 1111 1111 1111", "my card is gone"),
        ("4111 1111 1111 1111, keep it in mind", "keep it in mind"),
        ("我的卡号是4111 1111 1111 1111", "我的卡号是多少"),
    ],
)
def test_a_first_question_that_is_edited_under_a_short_answer_leaves_its_taint(
    conversations: Conversations, question: str, edited: str
) -> None:
    hold(conversations, system("Be kind."), user(question), assistant("OK."), tainted_from=1)
    found = conversations.find(
        [system("Be kind."), user(edited), assistant("OK."), user("Say it again")]
    )
    assert found.taint == PHONE


def test_a_later_question_that_is_replaced_under_a_short_answer_leaves_its_taint(
    conversations: Conversations,
) -> None:
    start = [user("Hi"), assistant("Hello!")]
    hold(conversations, *start, user("my number"), assistant("OK."), tainted_from=2)
    found = conversations.find([*start, user("never mind"), assistant("OK."), user("Again?")])
    assert found.taint == PHONE


def test_a_short_answer_that_may_be_the_value_carries_the_taint_alone(
    conversations: Conversations,
) -> None:
    hold(conversations, user("my card"), assistant("It ends in 1111."), tainted_from=0)
    found = conversations.find([user("So?"), assistant("It ends in 1111."), user("Again?")])
    assert found.taint == PHONE


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("My sister Jane is ill", "Poor Jane!"),
        ("the code is a7x", "a7x, noted."),
        ("我家住在青石巷", "青石巷，好的"),
    ],
)
def test_a_short_answer_that_repeats_its_question_carries_the_taint_alone(
    conversations: Conversations, question: str, answer: str
) -> None:
    hold(conversations, user(question), assistant(answer), tainted_from=0)
    found = conversations.find([user("What is up?"), assistant(answer), user("Again?")])
    assert found.taint == PHONE


@pytest.mark.parametrize("answer", ["OK.", "Got it!", "好的", "Sure, go on"])
def test_a_short_answer_that_says_nothing_of_its_question_holds_no_other_conversation(
    conversations: Conversations, answer: str
) -> None:
    hold(conversations, user("keep my number in mind"), assistant(answer), tainted_from=0)
    found = conversations.find([user("What is up?"), assistant(answer), user("Again?")])
    assert found.taint == CLEAN


def test_the_same_short_answer_to_another_question_carries_no_taint(
    conversations: Conversations,
) -> None:
    hold(conversations, user("Hi, my number is this"), assistant("Hello!"), tainted_from=0)
    for question in ("Hi", "Hello", "What is 2 + 2?"):
        found = conversations.find([user(question), assistant("Hello!"), user("more")])
        assert found.taint == CLEAN


def test_no_number_of_other_conversations_makes_a_name_lose_its_taint() -> None:
    conversations = Conversations(capacity=10)
    found = conversations.find([user("my number")], "mine").tainted([PHONE])
    conversations.remember(found, [user("my number")], name="mine")
    for number in range(20):
        hold(conversations, user(f"question {number}"), assistant(f"answer {number}"))
    edited = [user("never mind"), assistant("OK."), user("more")]
    assert conversations.find(edited, "mine").taint == PHONE


def test_what_came_before_the_sensitive_message_stays_clean(conversations: Conversations) -> None:
    prompt = system("You are a helpful assistant with a long prompt that everybody shares.")
    hold(conversations, prompt, user("my number"), assistant(LONG), tainted_from=1)
    assert conversations.find([prompt, user("What is 2 + 2?")]).taint == CLEAN


def test_a_short_word_does_not_carry_taint_into_another_conversation(
    conversations: Conversations,
) -> None:
    hold(
        conversations,
        user("my number"),
        assistant("ok"),
        user("thanks"),
        assistant("."),
        tainted_from=0,
    )
    assert conversations.find([user("2 + 2?"), user("thanks")]).taint == CLEAN


def test_a_named_conversation_keeps_its_taint_when_its_history_is_replaced(
    conversations: Conversations,
) -> None:
    found = conversations.find([user("my number")], "mine")
    tainted = found.tainted([PHONE])
    conversations.remember(tainted, [user("my number")], name="mine")
    assert conversations.find([user("unrelated")], "mine").taint == PHONE


def test_taint_is_never_washed_off_by_a_cleaner_turn(conversations: Conversations) -> None:
    hold(conversations, user("my number"), assistant(LONG), tainted_from=0)
    hold(conversations, user("my number"), assistant(LONG))
    assert conversations.find([assistant(LONG)]).taint == PHONE


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    conversations = Conversations(capacity=10)
    hold(conversations, user("first"), assistant("one"))
    for number in range(20):
        hold(conversations, user(f"question {number}"), assistant(f"answer {number}"))
    assert len(conversations) <= 10
    last = conversations.find([user("question 19"), assistant("answer 19")])
    again = conversations.find([user("question 19"), assistant("answer 19")])
    assert last.id == again.id
    forgotten = [user("first"), assistant("one")]
    assert conversations.find(forgotten).id != conversations.find(forgotten).id


def test_an_id_holds_letters_alone_so_that_no_scan_takes_it_for_a_number(
    conversations: Conversations,
) -> None:
    assert conversations.find([user("Hi")]).id.isalpha()
    assert conversations.find([user("Hi")], "4111 1111 1111 1111").id.isalpha()
