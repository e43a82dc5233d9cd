"""Redacting requests: placeholders, the vault behind them, and what cannot be redacted."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import ChatRequest, Message, Role, Sampling, TextPart, Tool, ToolCall
from isthmus.privacy.base import Span
from isthmus.privacy.fields import FixedField
from isthmus.privacy.placeholder import DIGITS, LETTERS
from isthmus.privacy.redact import AsksForValues, Redacted, redact
from isthmus.privacy.restore import restore
from isthmus.privacy.vault import Vault, VaultFull, Vaults

PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_]*_[a-z]\d[a-z]\d\]")


def finder(**values: str) -> object:
    """A detector of the values given: label → a pattern."""

    def scan(text: str) -> Sequence[Span]:
        return [
            Span(*found.span(), label, 1.0)
            for label, pattern in values.items()
            for found in re.finditer(pattern, text)
        ]

    return scan


SCAN = finder(PERSON="Jane Doe|王伟", PHONE=r"555-0100|13812345678", EMAIL=r"[a-z]+@example\.org")


def vault(seed: int = 1) -> Vault:
    return Vault(random.Random(seed).choice)


def say(text: str, role: Role = Role.USER) -> Message:
    return Message(role, (TextPart(text),))


def redacted(*messages: Message, into: Vault | None = None, **more: object) -> Redacted:
    request = replace(ChatRequest("r", messages), **more)  # type: ignore[arg-type]
    return redact(request, vault() if into is None else into, SCAN, lambda label: True)  # type: ignore[arg-type]


def text_of(result: Redacted, index: int = 0) -> str:
    return result.request.messages[index].text


def test_what_may_leave_hides_nothing_that_overlaps_it() -> None:
    both = finder(ORG="Jane Doe and Sons", PERSON="Jane Doe")
    request = ChatRequest("r", (say("Ask Jane Doe and Sons"),))
    result = redact(request, vault(), both, lambda label: label == "PERSON")  # type: ignore[arg-type]
    assert "Jane" not in text_of(result)
    assert text_of(result).endswith(" and Sons")


def test_a_value_becomes_a_typed_placeholder_and_comes_back() -> None:
    kept = vault()
    asked = "Write a long friendly letter to Jane Doe, who is at 555-0100."
    result = redacted(say(asked), into=kept)
    assert re.fullmatch(
        r"Write a long friendly letter to \[PERSON_....\], who is at \[PHONE_....\]\.",
        text_of(result),
    )
    assert restore(text_of(result), kept) == asked
    assert result.labels == {"PERSON": 1, "PHONE": 1}


def test_the_same_value_has_the_same_placeholder_in_every_turn_and_form() -> None:
    kept = vault()
    first = text_of(redacted(say("Please write a poem for Jane Doe today."), into=kept))
    second = text_of(redacted(say("Please write a song about JANE  DOE and Jane-Doe."), into=kept))
    assert len(set(PLACEHOLDER.findall(first + second))) == 1
    assert len(PLACEHOLDER.findall(second)) == 2


def test_two_conversations_give_a_value_different_placeholders() -> None:
    texts = {
        text_of(redacted(say("Write a poem for Jane Doe today."), into=vault(seed)))
        for seed in range(20)
    }
    assert len(texts) == 20


def test_a_value_found_once_is_hidden_everywhere() -> None:
    result = redacted(
        say("The caller's name has been noted: janedoe", Role.SYSTEM),
        say("Write a long letter for Jane Doe to her landlord."),
    )
    assert "jane" not in text_of(result).lower()


def test_a_part_of_a_word_is_no_value() -> None:
    result = redact(
        ChatRequest("r", (say("Ann plans to plant many anns in the garden. Ann!"),)),
        vault(),
        finder(PERSON="Ann(?= plans)"),  # type: ignore[arg-type]
        lambda label: True,
    )
    assert re.fullmatch(
        r"(\[PERSON_....\]) plans to plant many anns in the garden. \1!", text_of(result)
    )


def test_what_looks_like_a_placeholder_is_hidden_too_and_comes_back_as_it_was() -> None:
    kept = vault()
    shown = text_of(redacted(say("Write a long letter to Jane Doe today."), into=kept))
    placeholder = PLACEHOLDER.findall(shown)[0]
    quoted = f"A web page says {placeholder} and {placeholder[1:-1].lower()}; explain it to me."
    result = text_of(redacted(say(quoted), into=kept))
    assert placeholder not in result
    assert restore(result, kept) == quoted


@given(st.integers(0, 10**6), st.text(max_size=60))
def test_no_placeholder_occurs_in_the_users_text(seed: int, noise: str) -> None:
    twin = Vault(random.Random(seed).choice).add("PHONE", "13812345678")
    asked = f"Explain what {twin} and {twin[-5:-1]} may mean here: {noise} 13812345678"
    kept = Vault(random.Random(seed).choice)
    result = redacted(say(asked), into=kept)
    assert all(
        placeholder not in asked
        for placeholder in PLACEHOLDER.findall(text_of(result))
        if placeholder not in asked
    )
    assert restore(text_of(result), kept) == asked


def test_a_text_that_holds_every_code_cannot_be_redacted() -> None:
    """And does not keep a thread, and the vault's lock, for ever."""
    codes = " ".join(map("".join, product(LETTERS, DIGITS, LETTERS, DIGITS)))
    with pytest.raises(VaultFull):
        redacted(say(f"Write a friendly letter to Jane Doe about {codes}"))


def test_a_value_over_the_seam_of_two_parts_is_whole_in_its_first() -> None:
    parts = (TextPart("Write a long mail to jane@exam"), TextPart("ple.org today"))
    result = redacted(Message(Role.USER, parts)).request.messages[0].content
    assert [type(part) for part in result] == [TextPart, TextPart]
    assert re.fullmatch(r"Write a long mail to \[EMAIL_....\]", result[0].text)  # type: ignore[union-attr]
    assert result[1] == TextPart(" today")


def test_tool_calls_and_tools_are_redacted_in_their_values() -> None:
    call = ToolCall("1", "send", r'{"to": "jane\u0040example.org", "n": 13812345678}')
    result = redacted(
        say("Send the weekly report to the usual people."),
        Message(Role.ASSISTANT, tool_calls=(call,)),
        tools=(Tool("send", "Sends", {"properties": {"to": {"default": "a@example.org"}}}),),
    )
    arguments = result.request.messages[1].tool_calls[0].arguments
    assert re.fullmatch(r'\{"to": "\[EMAIL_....\]", "n": "\[PHONE_....\]"\}', arguments)
    default = result.request.tools[0].parameters["properties"]["to"]["default"]
    assert PLACEHOLDER.fullmatch(default)


def test_a_tools_result_is_redacted_inside_of_its_escapes() -> None:
    kept = vault()
    result = redacted(
        say("Write him a long letter about the weather, please."),
        say(json.dumps({"name": "王伟", "number": 13812345678, "town": "Ōsaka"}), Role.TOOL),
        into=kept,
    )
    shown = json.loads(text_of(result, 1))
    assert [restore(text, kept) for text in (shown["name"], shown["number"])] == [
        "王伟",
        "13812345678",
    ]
    assert shown["town"] == "Ōsaka"
    assert "13812345678" not in text_of(result, 1)


@pytest.mark.parametrize(
    "text",
    [
        "see https://example.org/?to=jane%40example.org",
        "see https://example.org/?next=%2F%3Fto%3Djane%2540example.org",
        r"'\u738b\u4f1f'",
        r"'{\"name\": \"\\u738b\\u4f1f\"}'",
        r"'jane\x40example.org'",
        "jane&#64;example.org",
        "jane&#64example.org",
        "jane=40example.org",
        "amFuZUBleGFtcGxlLm9yZyBpcyBmaW5l",
        "6a616e65406578616d706c652e6f7267",
        "1.3812345678e10",
    ],
)
def test_a_value_behind_escapes_in_a_text_cannot_be_redacted(text: str) -> None:
    with pytest.raises(FixedField):
        redacted(say(f"Explain this long log line of mine to me: {text}"))


def test_escapes_beside_a_value_do_no_harm() -> None:
    result = redacted(say("Write to jane@example.org about https://example.org/a%20b &amp; more."))
    assert text_of(result).endswith("https://example.org/a%20b &amp; more.")


def test_a_value_in_a_name_or_an_id_cannot_be_redacted() -> None:
    named = replace(say("Write a long letter to my landlord."), name="Jane Doe")
    with pytest.raises(FixedField):
        redacted(named)


def test_a_value_as_a_seed_or_as_a_schemas_number_cannot_be_redacted() -> None:
    asked = say("Write him a long letter about the weather, please.")
    with pytest.raises(FixedField):
        redacted(asked, sampling=Sampling(seed=13812345678))
    with pytest.raises(FixedField):
        redacted(asked, tools=(Tool("t", "", {"default": 13812345678.0}),))


@pytest.mark.parametrize("stop", ["Jane Doe", "555", "_", "PERSON", "]"])
def test_a_stop_text_that_would_cut_a_value_or_a_placeholder_cannot_be_kept(stop: str) -> None:
    with pytest.raises(FixedField):
        redacted(
            say("Write a long letter to Jane Doe about 555-0100."), sampling=Sampling(stop=(stop,))
        )


def test_other_stop_texts_are_kept() -> None:
    result = redacted(
        say("Write a long letter to Jane Doe, please."), sampling=Sampling(stop=("\n\n",))
    )
    assert result.request.sampling.stop == ("\n\n",)


def test_an_answer_that_breaks_off_inside_a_value_cannot_be_handed_over() -> None:
    asked = say("Write a long letter to Jane Doe, please.")
    with pytest.raises(FixedField):
        redacted(asked, answer_so_far="Dear Jane D")
    assert redacted(asked, answer_so_far="Dear Jane Doe,").request.answer_so_far.startswith(
        "Dear ["
    )


def test_a_draft_is_redacted_like_the_answer_that_it_may_follow() -> None:
    asked = say("Write a long letter to Jane Doe, please.")
    result = redacted(asked, answer_so_far="Dear Jane Doe, ", draft="dear Jane Doe, hello").request
    placeholder = result.answer_so_far.removeprefix("Dear ").removesuffix(", ")
    assert PLACEHOLDER.fullmatch(placeholder)
    assert result.draft == f"dear {placeholder}, hello"


@pytest.mark.parametrize(
    ("so_far", "draft"),
    [
        ("Dear Jane", " Doe, hello"),
        ("Call 555-", "0100 now"),
        ("Dear Jane D", "avis, hello"),
        ("Dear", " friend, or is it Jane D"),
    ],
)
def test_a_value_that_only_a_draft_completes_or_begins_cannot_leave(
    so_far: str, draft: str
) -> None:
    asked = say("Write a long letter to Jane Doe about 555-0100, please.")
    with pytest.raises(FixedField):
        redacted(asked, answer_so_far=so_far, draft=draft)


def test_the_beginning_of_a_value_at_a_messages_end_is_hidden_too() -> None:
    result = redacted(
        say("Write a long letter to Jane Doe, please."),
        say("Dear Jane D", Role.ASSISTANT),
        say("Go on with the letter that you began."),
    )
    assert "Jane" not in text_of(result, 1)


@pytest.mark.parametrize(
    "asked",
    [
        "Who is Jane Doe?",
        "What is the area code of 555-0100?",
        "How many digits does 13812345678 have?",
        "Tell me about Jane Doe and her books, please.",
        "What did Jane Doe discover in 1905?",
        "介绍一下王伟的代表作品好吗",
        "Spell the name Jane Doe backwards for me please",
        "Jane Doe",
        "Translate 王伟 to English",
        "王伟是谁?",
        "Whose number is 555-0100? It keeps calling me.",
        "13812345678是谁的号码?",
        "13812345678是哪个省的号码?",
        "Please tell me if 13812345678 and the others are correct; is this number valid or not?",
    ],
)
def test_a_question_about_the_value_itself_stays(asked: str) -> None:
    with pytest.raises(AsksForValues):
        redacted(say(asked))


@pytest.mark.parametrize(
    "asked",
    [
        "Write an email to Jane Doe about the meeting on Friday.",
        "Summarise: Jane Doe called from 555-0100 and wants her money back because it rained.",
        "How do I tell Jane Doe that I cannot come on Friday?",
        "What should my answer to Jane Doe say about the rent?",
        "给王伟写一封邮件,说明会议改到周五。",
        "Translate into Chinese: Jane Doe went to the market last week and bought five apples.",
    ],
)
def test_a_task_around_a_value_may_leave(asked: str) -> None:
    assert redacted(say(asked)).labels


def test_a_question_about_a_value_of_an_earlier_turn_stays() -> None:
    with pytest.raises(AsksForValues):
        redacted(say("Write an email to Jane Doe about it."), say("And how is that name spelled?"))


def test_a_vault_shows_no_value_and_can_be_wiped() -> None:
    kept = vault()
    kept.add("PERSON", "Jane Doe")
    assert "Jane" not in repr(kept)
    assert "Jane" not in repr(kept.__dict__)
    kept.wipe()
    assert (len(kept), kept.forms()) == (0, None)


def test_vaults_expire_are_bounded_and_wiped() -> None:
    now_s = 0.0
    vaults = Vaults(ttl_s=10, capacity=2, clock=lambda: now_s)
    first = vaults.of("a")
    first.add("PERSON", "Jane Doe")
    now_s = 9.0
    assert vaults.of("a") is first
    now_s = 18.0
    assert vaults.of("a") is first
    now_s = 28.5
    assert vaults.of("b") is not first
    assert len(first) == 0
    vaults.of("c")
    vaults.of("d")
    assert len(vaults) == 2
    vaults.wipe()
    assert len(vaults) == 0
