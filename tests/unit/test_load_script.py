"""The loader's arithmetic: which tokens are missing, when orders come, how long answers took."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cloud.load import script
from isthmus.cloud.load.base import poisson, standing
from isthmus.cloud.load.histogram import Histogram
from isthmus.cloud.load.script import Flaws


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        ("m-1 1 2 3", Flaws()),
        ("m-1 1 3", Flaws(lost=1)),
        ("m-1 1 2", Flaws(lost=1)),
        ("m-1 1 2 2 3", Flaws(doubled=1)),
        ("m-1 1 2 3 1 2 3", Flaws(doubled=3)),
        ("m-1 1 m-2 3", Flaws(lost=1, strange=1)),
        ("m-1 2 1 3", Flaws(strange=1)),
        ("", Flaws(lost=4, strange=1)),
    ],
)
def test_every_token_that_is_lost_doubled_or_strange_is_found(heard: str, found: Flaws) -> None:
    assert script.flaws("m-1", 4, heard) == found


def test_an_answer_that_its_caller_left_may_end_early_but_not_repeat() -> None:
    assert not script.flaws("m-1", 4, "m-1 1", whole=False)
    assert script.flaws("m-1", 4, "m-1 1 1", whole=False) == Flaws(doubled=1)


@given(st.integers(0, 30), st.integers(0, 400), st.integers(1, 40))
def test_the_rest_of_an_answer_cut_anywhere_completes_it(number: int, cut: int, more: int) -> None:
    mark = f"m-{number}"
    said = script.text(mark, 40)[:cut]
    whole = said + "".join(script.rest(mark, said, more))
    assert script.text(mark, 100).startswith(whole)
    assert len(whole) > len(said)


def test_another_answers_start_cannot_be_gone_on_from() -> None:
    with pytest.raises(ValueError, match="not the start"):
        list(script.rest("m-1", "m-2 1", 3))


def test_quantiles_are_within_a_hundredth_of_those_of_the_sorted_values() -> None:
    chance = random.Random(3)
    values = [chance.lognormvariate(-5, 2) for _ in range(5_000)]
    first, second = Histogram(), Histogram()
    for number, value in enumerate(values):
        (first if number % 2 else second).record(value)
    first.add(second)
    values.sort()
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = values[int(share * len(values)) - 1]
        assert first.quantile_s(share) == pytest.approx(exact, rel=0.01, abs=1e-6)
    assert first.max_s == values[-1]
    assert Histogram().quantile_s(0.5) == 0.0


def test_arrivals_are_a_poisson_process_and_the_same_for_the_same_seed() -> None:
    orders = list(poisson(20.0, requests=4_000, tokens=5, from_s=3.0, cancel_share=0.25, seed=1))
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(orders)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert orders[0].at_s > 3.0
    assert mean == pytest.approx(1 / 20, rel=0.05)
    assert variance**0.5 == pytest.approx(mean, rel=0.1)  # as an exponential distribution has it
    assert sum(order.cancel_after is not None for order in orders) == pytest.approx(1_000, rel=0.1)
    assert orders == list(
        poisson(20.0, requests=4_000, tokens=5, from_s=3.0, cancel_share=0.25, seed=1)
    )
    assert len({order.mark for order in orders}) == 4_000


def test_a_standing_load_is_at_every_place_of_its_answers_and_not_counted() -> None:
    orders = list(standing(200, tokens=200, over_s=2.0))
    assert [order.tokens for order in orders] == list(range(1, 201))
    assert not any(order.counted for order in orders)
