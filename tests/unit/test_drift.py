"""Two answers are compared by their letters, and the comparison is followed over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.router.drift import Drift, agreement


@given(st.text(), st.text())
def test_agreement_is_a_share_that_is_the_same_both_ways(one: str, other: str) -> None:
    assert 0.0 <= agreement(one, other) <= 1.0
    assert agreement(one, other) == agreement(other, one)


@given(st.text())
def test_an_answer_agrees_with_itself(text: str) -> None:
    assert agreement(text, text) == 1.0


def test_case_and_spaces_do_not_count_and_words_do() -> None:
    assert agreement("Paris is  the capital.\n", "paris is the capital.") == 1.0
    near = agreement("The capital is Paris.", "The capital of France is Paris.")
    far = agreement("The capital is Paris.", "I do not know that.")
    assert near > 0.7
    assert far < 0.4
    assert agreement("北京是首都", "首都是北京") > agreement("北京是首都", "我不知道")
    assert agreement("something", "") == 0.0


def test_a_change_shows_and_becomes_usual_in_time() -> None:
    watched = Drift()
    assert watched.drift == 0.0
    for _ in range(200):
        watched.observe(0.8)
    assert watched.drift == pytest.approx(0.0)
    for _ in range(30):
        watched.observe(0.4)
    assert watched.drift < -0.2
    for _ in range(1000):
        watched.observe(0.4)
    assert watched.drift == pytest.approx(0.0, abs=0.01)
