"""The difficulty score is a bounded sum that explains itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.chat import ChatRequest, Message, Role, TextPart
from isthmus.router.difficulty import Difficulty, difficulty
from isthmus.router.learned.question import HEAD_BYTES, TAIL_BYTES


def rate(text: str, *history: Message, max_tokens: int | None = None) -> Difficulty:
    asked = Message(Role.USER, (TextPart(text),))
    return difficulty(ChatRequest("r", (*history, asked), max_tokens=max_tokens))


@given(st.text(), st.none() | st.integers(1, 10**9))
def test_the_score_is_the_sum_of_its_terms_between_nought_and_one(
    text: str, max_tokens: int | None
) -> None:
    rated = rate(text, max_tokens=max_tokens)
    assert 0 <= rated.score <= 1
    assert all(0 <= term.value <= 1 and term.weight > 0 for term in rated.terms)
    assert rated.score == min(1.0, sum(term.contribution for term in rated.terms))


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("length", "word " * 400),
        ("code", "Debug this python function:\n```\ndef f(x): return x\n```"),
        ("math", "Solve the equation 3x + 5 = 20"),
        ("steps", "First do this, then do that, finally stop"),
        ("reasoning", "Explain why, and compare the trade-offs"),
        ("knowledge", "Who wrote the treaty, and when?"),
        ("foreign_language", "请把这句话翻译一下"),
        ("long_answer", "Write a detailed essay of 2000 words"),
    ],
)
def test_each_term_notices_what_it_is_named_after(term: str, text: str) -> None:
    terms = {t.name: t.value for t in rate(text).terms}
    assert terms[term] >= 1 / 3
    assert {t.name: t.value for t in rate("Hi there").terms}[term] == 0


def test_small_talk_is_easier_than_a_proof() -> None:
    assert rate("Tell me a joke").score < 0.1
    assert (
        rate("Prove step by step that there are infinitely many primes; explain why.").score > 0.3
    )


def test_a_long_history_and_a_long_answer_add_to_it() -> None:
    history = Message(Role.ASSISTANT, (TextPart("word " * 1000),))
    assert rate("Go on").score < rate("Go on", history).score
    assert rate("Go on").score < rate("Go on", max_tokens=2000).score


def test_a_request_without_a_user_message_has_a_score() -> None:
    assert difficulty(ChatRequest("r", ())).score == 0


@pytest.mark.parametrize("unit", ["a", "\n ", "SELECT ", "$", "1 + ", "{ ", "- ", "谁"])
def test_of_a_hostile_megabyte_only_the_start_and_the_end_are_read(unit: str) -> None:
    megabyte = unit * (1_000_000 // len(unit))
    hidden = "Prove that 1 + 1 = 2 in Rust. "
    inside = megabyte[:HEAD_BYTES] + hidden + megabyte[HEAD_BYTES + len(hidden) :]
    assert rate(inside) == rate(megabyte)
    assert rate(megabyte[:-TAIL_BYTES] + hidden) != rate(megabyte)
