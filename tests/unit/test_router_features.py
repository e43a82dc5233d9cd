"""What is read off a prompt: bounded, robust, and about its form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import ChatRequest, Message, Role, TextPart, Tool, ToolChoice
from isthmus.router.learned.asked import asked, is_follow_up
from isthmus.router.learned.features import NAMES, features
from isthmus.router.learned.ngrams import BINS, HALF, grams, weigh
from isthmus.router.learned.question import HEAD_BYTES, TAIL_BYTES, parse

CHOICE = "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide\nC. Helium\nAnswer:"


def of(prompt: str) -> dict[str, float]:
    return dict(zip(NAMES, map(float, features(parse(prompt))), strict=True))


@given(st.text())
def test_any_text_has_finite_features_and_ordered_bins(text: str) -> None:
    question = parse(text)
    assert features(question).shape == (len(NAMES),)
    assert np.isfinite(features(question)).all()
    found = grams(question)
    for bins, low, high in ((found.words, 0, HALF), (found.characters, HALF, BINS)):
        assert (np.diff(bins) > 0).all()
        assert all(low <= b < high for b in bins)


def test_a_question_is_taken_apart() -> None:
    question = parse(CHOICE)
    assert question.stem == "Which gas do plants take in?"
    assert question.options == ("Oxygen", "Carbon dioxide", "Helium")
    assert question.forms == {"cue"}
    assert parse("Pick one: (A) red (B) blue").options == ("red", "blue")
    assert parse("A. A single letter is no choice").options == ()
    assert parse("What is 5!\n[tools] math.factorial, ask").tools == ("math.factorial", "ask")


@pytest.mark.parametrize(
    ("prompt", "feature", "at_least"),
    [
        (CHOICE, "options", 3),
        (CHOICE, "form_cue", 1),
        ("12 apples at 3.50 dollars each", "decimals", 0.6),
        ("Prove that every group of prime order is cyclic", "about.abstract", 1),
        ("def f(x):\n    return {}", "code", 0.6),
        (r"Find $\int x^2 dx$", "latex", 1),
        ("Which is NOT a mammal?", "except", 0.6),
        ("法院的合同是什么？", "about.law", 0.6),
        ("法院的合同是什么？", "han", 0.8),
        ("The capital of ____ is Paris", "blanks", 0.6),
        ("Is it 1, 2 or 3?\nA. 1\nB. 2\nC. 3", "option_sorted", 1),
    ],
)
def test_a_feature_notices_what_it_is_named_after(
    prompt: str, feature: str, at_least: float
) -> None:
    assert of(prompt)[feature] >= at_least
    assert of("Tell me a joke")[feature] == 0


def test_a_typo_moves_the_features_little() -> None:
    right, wrong = features(parse(CHOICE)), features(parse(CHOICE.replace("plants", "plnats")))
    other = features(parse("Tell me a joke"))
    assert np.linalg.norm(right - wrong) < np.linalg.norm(right - other) / 4
    same = np.intersect1d(
        grams(parse("continental")).characters, grams(parse("continnental")).characters
    )
    assert len(same) > 10


@pytest.mark.parametrize("unit", ["a", "\n ", "A. ", "$", "1-", "(a)", "？", "x " * 9 + "\nB) "])
def test_of_a_hostile_megabyte_the_start_and_the_end_are_read(unit: str) -> None:
    megabyte = unit * (1_000_000 // len(unit))
    changed = megabyte[:HEAD_BYTES] + "Z" * (len(megabyte) - HEAD_BYTES - TAIL_BYTES)
    changed += megabyte[-TAIL_BYTES:]
    assert (features(parse(megabyte)) == features(parse(changed))).all()


def test_each_half_of_the_bins_counts_by_the_root_of_how_many_occur() -> None:
    weights = np.ones((BINS, 2), np.int8)
    weights[HALF:, 1] = 0
    found = grams(parse("one two three four"))
    words, characters = (float(np.sqrt(bins.size)) for bins in found)
    assert weigh(weights, found) == pytest.approx([words + characters, words])


def message(role: Role, text: str) -> Message:
    return Message(role, (TextPart(text),))


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "Yes, please.",
        "continue",
        "go on",
        "why?",
        "ok!",
        "继续",
        "好的，继续吧",
        "然后呢？",
        "",
    ],
)
def test_a_follow_up_is_rated_by_what_it_refers_to(text: str) -> None:
    assert is_follow_up(text)
    request = ChatRequest(
        "r",
        (
            message(Role.USER, "Prove that the square root of 2 is irrational"),
            message(Role.ASSISTANT, "Here is a sketch. Shall I write out every step?"),
            message(Role.USER, text),
        ),
    )
    assert asked(request) == (
        "Prove that the square root of 2 is irrational\nShall I write out every step?"
    )


@pytest.mark.parametrize(
    "text",
    [
        "yes, and now prove Fermat's theorem",
        "why is the sky blue",
        "42",
        "继续证明费马大定理",
        "no 7",
    ],
)
def test_what_says_something_of_its_own_is_rated_by_itself(text: str) -> None:
    assert not is_follow_up(text)
    request = ChatRequest("r", (message(Role.USER, "Hi"), message(Role.USER, text)))
    assert asked(request) == text


def test_tools_that_are_offered_are_named() -> None:
    request = ChatRequest(
        "r", (message(Role.USER, "Roll a die"),), tools=(Tool("dice.roll", "", {}),)
    )
    assert parse(asked(request)).tools == ("dice.roll",)
    refused = ChatRequest("r", request.messages, tools=request.tools, tool_choice=ToolChoice.NONE)
    assert asked(refused) == "Roll a die"
    assert asked(ChatRequest("r", ())) == ""
