"""Choosing tokens: each setting does what its name says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isthmus.core.chat import Sampling
from isthmus.core.errors import InternalError
from isthmus.engine.sampler import Sampler, first_token
from isthmus.kernels.base import F32

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


def drawn(sampling: Sampling, *, times: int = 400, logits: F32 = LOGITS) -> list[int]:
    sampler = Sampler(sampling, prompt=[])
    return [sampler.choose(logits).token for _ in range(times)]


def test_temperature_zero_takes_the_likeliest() -> None:
    assert set(drawn(Sampling(temperature=0), times=5)) == {1}


def test_draws_follow_the_probabilities() -> None:
    counts = np.bincount(drawn(Sampling(seed=1), times=20_000), minlength=5) / 20_000
    np.testing.assert_allclose(counts, np.exp(LOGITS), atol=0.015)


def test_a_low_temperature_sharpens_the_probabilities() -> None:
    share = drawn(Sampling(seed=1, temperature=0.25)).count(1) / 400
    assert share > 0.7


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(seed=1, top_k=2), {1, 3}),
        (Sampling(seed=1, top_k=1), {1}),
        (Sampling(seed=1, top_p=0), {1}),
        (Sampling(seed=1, top_p=0.39), {1}),
        (Sampling(seed=1, top_p=0.75), {1, 3, 4}),
        (Sampling(seed=1, min_p=0.3), {1, 3, 4}),
        (Sampling(seed=1, top_k=3, min_p=0.5), {1, 3}),
        (Sampling(seed=1, top_k=99), {0, 1, 2, 3, 4}),
    ],
)
def test_filters_leave_exactly_the_likely_ones(sampling: Sampling, allowed: set[int]) -> None:
    assert set(drawn(sampling)) == allowed


def test_the_same_seed_draws_the_same_tokens_and_another_does_not() -> None:
    first, again, other = (drawn(Sampling(seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_without_a_seed_two_answers_differ() -> None:
    assert drawn(Sampling()) != drawn(Sampling())


def test_negative_and_huge_seeds_work() -> None:
    assert len(drawn(Sampling(seed=-1), times=3)) == 3
    assert len(drawn(Sampling(seed=2**64), times=3)) == 3


def test_the_repetition_penalty_weakens_what_the_prompt_or_the_answer_has() -> None:
    logits = np.array([2.0, 1.9, -1.0, -1.1], np.float32)
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=1.5), prompt=[0])
    assert [sampler.choose(logits).token for _ in range(2)] == [1, 0]
    assert logits.tolist() == pytest.approx([2.0, 1.9, -1.0, -1.1])


def test_presence_and_frequency_penalties_count_the_answer_alone() -> None:
    logits = np.array([1.0, 0.7, 0.4], np.float32)
    present = Sampler(Sampling(temperature=0, presence_penalty=0.5), prompt=[0])
    assert [present.choose(logits).token for _ in range(3)] == [0, 1, 0]
    frequent = Sampler(Sampling(temperature=0, frequency_penalty=0.2), prompt=[0])
    assert [frequent.choose(logits).token for _ in range(4)] == [0, 0, 1, 0]


def test_log_probabilities_are_the_models_own_before_temperature() -> None:
    sampling = Sampling(temperature=0.1, seed=3, top_logprobs=2)
    choice = Sampler(sampling, prompt=[]).choose(LOGITS + 5)
    assert choice.token == 1
    assert choice.logprob == pytest.approx(np.log(0.4), abs=1e-5)
    assert [token for token, _ in choice.top] == [1, 3]
    assert choice.top[1][1] == pytest.approx(np.log(0.3), abs=1e-5)


def test_log_probabilities_of_the_chosen_token_alone_need_no_list() -> None:
    choice = Sampler(Sampling(temperature=0, top_logprobs=0), prompt=[]).choose(LOGITS)
    assert choice.logprob == pytest.approx(np.log(0.4), abs=1e-5)
    assert choice.top == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0), Sampling(), Sampling(top_p=0.5), Sampling(top_k=2, min_p=0.1)],
    ids=str,
)
def test_logits_that_are_no_numbers_fail_this_answer_with_a_reason(
    sampling: Sampling, value: float
) -> None:
    with pytest.raises(InternalError, match="no numbers"):
        drawn(sampling, times=1, logits=np.full(5, value, np.float32))
    one = LOGITS.copy()
    one[2] = np.nan
    with pytest.raises(InternalError, match="no numbers"):
        drawn(sampling, times=1, logits=one)


def test_the_first_tokens_doubt_is_that_of_its_whole_distribution() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32)) + 5
    told = first_token(logits, np.array([1.0, 2.0], np.float32))
    assert told.logprob == pytest.approx(math.log(0.6), abs=1e-6)
    assert told.margin == pytest.approx(math.log(2), abs=1e-6)
    expected = -sum(p * math.log(p) for p in (0.1, 0.6, 0.3))
    assert told.entropy == pytest.approx(expected, abs=1e-6)
    assert told.hidden == (1.0, 2.0)


def test_a_token_that_cannot_be_counts_for_nothing() -> None:
    told = first_token(np.array([0.0, -np.inf, 0.0], np.float32), None)
    assert told.entropy == pytest.approx(math.log(2))
    assert told.margin == 0
    assert told.hidden == ()
