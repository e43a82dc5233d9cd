"""The measures of routing, against the reference script's definitions worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.router.learned.measures import apgr, auroc, cpt, difference, measure, pgr

GAIN = np.array([1.0, 0.0, 1.0, 0.0])


def test_a_perfect_order_recovers_everything_first() -> None:
    score = np.array([4.0, 1, 3, 2])
    assert pgr(score, GAIN).tolist() == [0, 0.5, 1, 1, 1]
    assert apgr(score, GAIN) == pytest.approx(0.75)
    assert (cpt(score, GAIN, 0.5), cpt(score, GAIN, 0.8)) == (25, 50)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_a_constant_score_is_a_random_order(gains: list[float]) -> None:
    gain = np.array(gains)
    told = apgr(np.zeros(len(gain)), gain)
    assert np.isnan(told) if gain.sum() == 0 else told == pytest.approx(0.5)


def test_equal_scores_share_evenly() -> None:
    assert pgr(np.array([1.0, 1, 0, 0]), GAIN).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_a_share_that_is_never_recovered_takes_all() -> None:
    assert cpt(np.array([1.0, 2]), np.array([1.0, -0.5]), 1.5) == 100


def test_an_interval_holds_its_figure_and_a_better_order_is_told_from_a_worse_one() -> None:
    rng = np.random.default_rng(1)
    gain = (rng.random(400) < 0.5).astype(float)
    good, noise = gain + rng.normal(size=400), rng.normal(size=400)
    told = measure(good, gain, resamples=100)
    assert told.low < told.apgr < told.high
    better, low, _ = difference(good, noise, gain, resamples=100)
    assert better > low > 0


def test_auroc_counts_pairs_in_order() -> None:
    label = np.array([True, False, True, False])
    assert auroc(np.array([3.0, 1, 2, 2]), label) == pytest.approx(3.5 / 4)
    assert np.isnan(auroc(np.array([1.0, 2]), np.array([True, True])))
