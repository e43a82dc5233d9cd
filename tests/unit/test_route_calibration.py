"""A promised share becomes a threshold that keeps it on prompts that were not seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.errors import ConfigError, InvalidRequest
from isthmus.router.calibrate import Goal, Promise, calibrate

SHARE_20 = Promise(Goal.MAX_CLOUD_SHARE, 0.2)
QUALITY_90 = Promise(Goal.MIN_QUALITY_SHARE, 0.9)


def pairs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with what each tier has right; a higher score is a likelier gain."""
    scores = rng.random(n)
    edge = (rng.random(n) > 0.2 + 0.7 * scores).astype(float)
    cloud = (rng.random(n) > 0.15).astype(float)
    return scores, edge, cloud


def test_the_promised_share_holds_in_expectation_on_prompts_that_were_not_seen() -> None:
    rng = np.random.default_rng(7)
    shares = [
        (rng.random(1000) >= calibrate(rng.random(60), SHARE_20).score).mean() for _ in range(400)
    ]
    assert 0.17 < np.mean(shares) <= 0.205


def test_the_promised_quality_holds_in_expectation_on_prompts_that_were_not_seen() -> None:
    rng = np.random.default_rng(8)
    surplus = []
    for _ in range(300):
        scores, edge, cloud = pairs(rng, 200)
        score = calibrate(scores, QUALITY_90, edge=edge, cloud=cloud).score
        scores, edge, cloud = pairs(rng, 1000)
        routed = np.where(scores >= score, cloud, edge)
        surplus.append(routed.mean() - 0.9 * cloud.mean())
    assert np.mean(surplus) > 0


def test_a_useless_score_costs_escalations_and_not_the_promise() -> None:
    rng = np.random.default_rng(9)
    scores, edge, cloud = pairs(rng, 2000)
    sorted_out = calibrate(scores, QUALITY_90, edge=edge, cloud=cloud)
    blind = calibrate(rng.random(2000), QUALITY_90, edge=edge, cloud=cloud)
    assert blind.cloud_share > sorted_out.cloud_share + 0.1
    assert blind.quality_share is not None
    assert blind.quality_share >= 0.9


def test_nothing_needs_to_be_escalated_when_the_device_is_as_good() -> None:
    scores = np.linspace(0, 1, 100)
    found = calibrate(scores, QUALITY_90, edge=np.ones(100), cloud=np.ones(100))
    assert found.cloud_share == 0.0
    assert found.quality_share == 1.0


def test_equal_scores_are_escalated_together_or_not_at_all() -> None:
    assert calibrate(np.ones(100), SHARE_20).cloud_share == 0.0


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=20, max_size=80),
    st.floats(0.1, 0.9),
)
def test_the_share_is_never_exceeded_on_the_prompts_themselves(
    scores: list[float], share: float
) -> None:
    found = calibrate(np.array(scores), Promise(Goal.MAX_CLOUD_SHARE, share))
    assert found.cloud_share <= share


@given(st.integers(0, 10_000), st.floats(0.5, 0.95))
def test_a_higher_promise_never_escalates_less(seed: int, share: float) -> None:
    scores, edge, cloud = pairs(np.random.default_rng(seed), 300)
    low = calibrate(scores, Promise(Goal.MIN_QUALITY_SHARE, share - 0.1), edge=edge, cloud=cloud)
    high = calibrate(scores, Promise(Goal.MIN_QUALITY_SHARE, share), edge=edge, cloud=cloud)
    assert high.score <= low.score


def test_too_few_prompts_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(InvalidRequest, match=r"3 prompts .*: 4 would do") as error:
        calibrate(np.array([0.1, 0.2, 0.3]), SHARE_20)
    assert error.value.field == "prompts"
    assert calibrate(np.arange(4.0), SHARE_20).cloud_share == 0.0
    with pytest.raises(InvalidRequest, match="about 9 would do"):
        calibrate(np.arange(8.0), QUALITY_90, edge=np.zeros(8), cloud=np.ones(8))
    assert calibrate(np.arange(9.0), QUALITY_90, edge=np.zeros(9), cloud=np.ones(9)).score == (
        -math.inf
    )


def test_a_promise_of_quality_needs_graded_prompts() -> None:
    with pytest.raises(InvalidRequest, match="isthmus route label"):
        calibrate(np.arange(100.0), QUALITY_90)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.2, math.nan])
def test_a_share_outside_of_its_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(ConfigError) as error:
        Promise(Goal.MAX_CLOUD_SHARE, value)
    assert error.value.field == "router.max_cloud_share"


@pytest.mark.parametrize("scores", [[], [0.1, math.nan]])
def test_scores_that_are_none_are_refused(scores: list[float]) -> None:
    with pytest.raises(InvalidRequest):
        calibrate(np.array(scores), SHARE_20)
