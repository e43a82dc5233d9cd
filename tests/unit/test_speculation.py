"""Guessed tokens: the same answer, sooner where guesses are right, no later where they are not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tiny_qwen2
from isthmus.core.chat import Sampling
from isthmus.core.events import Delta, TokenLogprob
from isthmus.engine.engine import Engine
from isthmus.engine.pace import Pace
from isthmus.engine.prepared import load, pack_model
from isthmus.engine.speculation import Draft, MakeDrafter, PromptLookup
from isthmus.kernels.native import NativeBackend
from isthmus.kernels.numpy_ref import NumpyBackend
from scheduling import Bench

GREEDY = Sampling(temperature=0, ignore_eos=True)


def lookup(tokens: Sequence[int], most: int = 4) -> list[int]:
    return PromptLookup().propose(tokens, most).tokens


def test_what_followed_the_same_tokens_before_is_proposed() -> None:
    assert lookup([1, 2, 3, 4, 5, 9, 1, 2]) == [3, 4, 5, 9]
    assert lookup([1, 2, 3, 4, 5, 9, 1, 2], most=2) == [3, 4]


def test_nothing_is_proposed_after_a_token_that_is_new() -> None:
    assert lookup([1, 2, 3, 4, 2, 5]) == []
    assert lookup([1]) == []
    assert lookup([]) == []


def test_the_place_with_the_longest_common_past_is_taken() -> None:
    assert lookup([7, 1, 2, 30, 8, 1, 2, 40, 7, 1, 2], most=1) == [30]
    assert lookup([1, 2, 30, 8, 1, 40, 9, 1, 50, 1, 2], most=1) == [30]


def test_a_single_common_token_is_enough_for_a_guess() -> None:
    assert lookup([1, 2, 3, 9, 1], most=2) == [2, 3]


def test_a_repetition_up_to_the_last_token_goes_on() -> None:
    assert lookup([5, 1, 2, 3, 1, 2, 3], most=7) == [1, 2, 3, 1, 2, 3, 1]
    assert lookup([8, 8], most=3) == [8, 8, 8]


def test_the_longer_the_common_past_the_better_the_odds() -> None:
    short = PromptLookup().propose([1, 2, 3, 9, 1, 2], 4)
    long = PromptLookup().propose([5, 6, 7, 1, 2, 3, 5, 6, 7, 1, 2], 4)
    assert short.tokens[0] == long.tokens[0] == 3
    for draft in (short, long):
        odds = [PromptLookup.odds[kind] for kind in draft.kinds]
        assert odds == sorted(odds)
    assert PromptLookup.odds[short.kinds[0]] < PromptLookup.odds[long.kinds[0]]


def test_a_guess_is_less_likely_where_the_same_past_went_on_differently() -> None:
    disputed = PromptLookup().propose([1, 2, 30, 5, 1, 2, 40, 6, 1, 2], 2)
    agreed = PromptLookup().propose([1, 2, 40, 5, 1, 2, 40, 6, 1, 2], 2)
    assert disputed.tokens == [40, 6]
    assert PromptLookup.odds[disputed.kinds[0]] < PromptLookup.odds[agreed.kinds[0]]
    assert disputed.kinds[1] == agreed.kinds[1]


def test_the_latest_of_equal_places_is_taken() -> None:
    assert lookup([1, 2, 30, 5, 1, 2, 40, 6, 1, 2], most=1) == [40]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_a_lookup_that_grows_with_the_answer_finds_what_a_new_one_finds(
    tokens: list[int], most: int
) -> None:
    growing = PromptLookup()
    for end in range(len(tokens) + 1):
        proposed = growing.propose(tokens[:end], most).tokens
        assert proposed == lookup(tokens[:end], most)
        assert len(proposed) in (0, most)


class Oracle:
    """Proposes what a plan that counts upwards will say, or the contrary."""

    odds = (0.3,)

    def __init__(self, right: bool) -> None:
        self._right = right

    def propose(self, tokens: Sequence[int], most: int) -> Draft:
        guesses = [(tokens[-1] + i + 1 if self._right else 7) % 256 for i in range(most)]
        return Draft(guesses, [0] * most)


def test_right_guesses_make_an_answer_in_fewer_steps() -> None:
    bench = Bench(drafter=lambda: Oracle(right=True))
    answer = bench.ask([1, 2, 3], max_tokens=200)
    bench.finish()
    assert answer.tokens == [(1 + i) % 256 for i in range(203)]
    assert len(bench.plan.batches) < 40
    count = bench.scheduler.speculated
    assert count.proposed == count.accepted > 150


def test_wrong_guesses_are_given_up_before_they_cost_a_twentieth() -> None:
    plain, misled = Bench(), Bench(drafter=lambda: Oracle(right=False))
    for bench in (plain, misled):
        answer = bench.ask([100, 101], max_tokens=140)
        bench.finish()
        assert answer.tokens == [(100 + i) % 256 for i in range(142)]
    assert misled.plan.now_s < plain.plan.now_s / 0.95


def native_cost(tokens: int) -> float:
    """Of a native step, about: each further token of a sequence costs a quarter of the first."""
    return 0.002 * (1 + 0.25 * (tokens - 1))


def seconds(answer: list[int], prompt: list[int], drafter: MakeDrafter | None) -> float:
    """What it takes to write `answer` after `prompt`, once that is read."""
    said = [*prompt, *answer]
    bench = Bench(drafter=drafter, cost=native_cost, follow=lambda _, position: said[position + 1])
    asked = bench.ask(prompt, max_tokens=len(answer))
    while not asked.written:
        bench.step()
    began_s = bench.plan.now_s
    bench.finish()
    assert asked.tokens == said
    return bench.plan.now_s - began_s


@pytest.mark.parametrize("every", [10, 15, 30])
def test_an_edited_copy_of_the_prompt_takes_two_thirds_of_the_time_at_most(every: int) -> None:
    draw = np.random.default_rng(every)
    prompt = draw.integers(0, 200, 150).tolist()
    edited = [200 + i % 50 if i % every == 4 else token for i, token in enumerate(prompt)]
    assert seconds(edited, prompt, PromptLookup) < seconds(edited, prompt, None) / 1.5


@pytest.mark.parametrize("words", [8, 30, 200])
@pytest.mark.parametrize("length", [150, 1500])
def test_an_answer_with_nothing_to_copy_takes_a_twentieth_longer_at_most(
    words: int, length: int
) -> None:
    draw = np.random.default_rng(words)
    prompt, answer = (draw.integers(0, words, n).tolist() for n in (length, 110))
    assert seconds(answer, prompt, PromptLookup) < seconds(answer, prompt, None) / 0.95


class Fickle(Oracle):
    """Right in the first third of what it sees, wrong in the second, right again in the last."""

    def __init__(self) -> None:
        super().__init__(right=True)

    def propose(self, tokens: Sequence[int], most: int) -> Draft:
        self._right = not 300 <= len(tokens) < 600
        return super().propose(tokens, most)


def test_guessing_stops_where_it_fails_and_begins_again_where_it_pays() -> None:
    plain, bench = Bench(), Bench(drafter=Fickle)
    for each in (plain, bench):
        each.ask([0, 1], max_tokens=300)
        each.finish()
    assert bench.plan.now_s < plain.plan.now_s / 2
    answer = bench.ask([*range(250)] * 2, max_tokens=350)
    while len(answer.tokens) < 600:
        bench.step()
    assert answer.speculator is not None
    in_vain = answer.speculator.count.proposed
    assert in_vain < 20
    while len(answer.tokens) < 840:
        bench.step()
    assert answer.speculator.count.accepted > 150


def test_a_dear_row_is_not_bet_on() -> None:
    bench = Bench(drafter=lambda: Oracle(right=True), cost=lambda tokens: 0.01 * tokens)
    bench.ask([1, 2, 3], max_tokens=100)
    bench.finish()
    # The first bets are made at guessed costs; then the costs are known.
    assert bench.scheduler.speculated.proposed < 40


def test_a_guess_puts_nobody_off() -> None:
    bench = Bench(blocks=7, drafter=lambda: Oracle(right=True))
    asked = [bench.ask([20 * i, 20 * i + 1], max_tokens=12) for i in range(3)]
    bench.finish()
    assert all(len(answer.tokens) == 14 for answer in asked)
    assert sum(len(batch.tokens) - len(batch.rows) for batch in bench.plan.batches) == 3


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=40), min_size=1, max_size=5),
    st.integers(2, 6),
    st.integers(30, 80),
)
def test_answers_with_guesses_are_those_without(
    prompts: list[list[int]], period: int, blocks: int
) -> None:
    def follow(token: int, position: int) -> int:
        return (3 * token + (position % period == 0)) % 5

    written = []
    for drafter in (None, PromptLookup):
        bench = Bench(blocks=blocks, drafter=drafter, follow=follow)
        asked = [bench.ask(prompt, max_tokens=60) for prompt in prompts]
        bench.finish()
        written.append([answer.tokens for answer in asked])
    assert written[0] == written[1]


@pytest.fixture
def cheap_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that cost so little that guesses are fed whatever this machine is busy with."""

    def writing_s(self: Pace, rows: int, more: int) -> NDArray[np.float64]:
        return 1 + 0.1 * np.arange(rows, rows + more + 1)

    monkeypatch.setattr(Pace, "writing_s", writing_s)


async def collect(
    engine: Engine, prompt: str, sampling: Sampling, most: int
) -> tuple[list[int], list[TokenLogprob]]:
    token_ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    async for event in engine.complete(prompt, sampling, max_tokens=most):
        if isinstance(event, Delta):
            token_ids += event.token_ids
            logprobs += event.logprobs
    return token_ids, logprobs


@pytest.mark.usefixtures("cheap_rows")
@pytest.mark.parametrize("backend", ["native", "numpy"])
@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        replace(GREEDY, top_logprobs=2),
        replace(GREEDY, frequency_penalty=0.5, repetition_penalty=1.2),
        Sampling(temperature=0.3, seed=7, ignore_eos=True),
    ],
    ids=["greedy", "logprobs", "penalties", "sampled"],
)
async def test_the_tiny_model_says_the_same_with_and_without(
    backend: str, sampling: Sampling
) -> None:
    made = NativeBackend(threads=2) if backend == "native" else NumpyBackend()
    model = pack_model(tiny_qwen2.model(), made)
    results = []
    for speculation in (False, True):
        engine = Engine(model, made, speculation=speculation)
        prompts = ("abc abc abc abd", "to be or not to be", "x" * 40)
        results.append(await asyncio.gather(*(collect(engine, p, sampling, 120) for p in prompts)))
        # With penalties little is repeated, so little is found.
        if sampling.repetition_penalty == 1:
            assert (engine.speculated.proposed > 0) is speculation
        engine.close()
    tokens = [[ids for ids, _ in result] for result in results]
    assert tokens[0] == tokens[1]
    for (_, plain), (_, guessed) in zip(*results, strict=True):
        assert [e.logprob for e in plain] == pytest.approx([e.logprob for e in guessed], abs=1e-4)


@pytest.mark.usefixtures("cheap_rows")
async def test_the_small_model_says_the_same_and_its_guesses_are_used(model_path: object) -> None:
    backend = NativeBackend()
    model = load(model_path, backend)  # type: ignore[arg-type]
    prompt = "one red apple, two green pears, ten figs, " * 6
    answers = []
    for speculation in (False, True):
        engine = Engine(model, backend, context_tokens=512, speculation=speculation)
        answers.append((await collect(engine, prompt, GREEDY, 80))[0])
        proposed, accepted = engine.speculated.proposed, engine.speculated.accepted
        engine.close()
    assert answers[0] == answers[1]
    assert 20 < accepted <= proposed
