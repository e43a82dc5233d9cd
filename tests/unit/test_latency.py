"""Predictions of time: learned from what was measured, unknown until then."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.router.latency import MEMORY_S, Line, Prediction, Tail, TierLatency


def test_nothing_is_known_of_a_tier_that_never_answered() -> None:
    assert TierLatency().predict(new_tokens=100, waiting=3) == Prediction()


def test_a_time_to_the_first_token_is_a_constant_and_so_much_for_each_new_token() -> None:
    tier = TierLatency()
    for tokens in (10, 500, 60, 900, 200) * 5:
        tier.observe(new_tokens=tokens, ttft_ms=30 + 2 * tokens, tpot_ms=8)
    predicted = tier.predict(new_tokens=400)
    assert predicted.ttft_p50_ms == pytest.approx(830)
    assert predicted.prefill_ms_per_token == pytest.approx(2)
    assert predicted.tpot_p50_ms == pytest.approx(8)
    cached = tier.predict(new_tokens=0)
    assert cached.ttft_p50_ms == pytest.approx(30)


def test_prompts_of_one_length_say_what_such_a_prompt_takes() -> None:
    tier = TierLatency()
    for _ in range(3):
        tier.observe(new_tokens=100, ttft_ms=50, tpot_ms=None)
    assert tier.predict(new_tokens=100).ttft_p50_ms == pytest.approx(50)
    assert tier.predict(new_tokens=100).tpot_p50_ms is None
    # What shorter and longer ones take is not promised to be better than it may be.
    assert tier.predict(new_tokens=10).ttft_p50_ms == pytest.approx(50)
    assert tier.predict(new_tokens=200).ttft_p50_ms == pytest.approx(100)
    assert tier.predict(new_tokens=10).prefill_ms_per_token is None


def test_those_who_wait_in_line_are_waited_for() -> None:
    tier = TierLatency()
    tier.observe(new_tokens=100, ttft_ms=50, tpot_ms=10, service_ms=2000)
    alone = tier.predict(new_tokens=100).ttft_p50_ms
    behind_four = tier.predict(new_tokens=100, waiting=4, at_once=2).ttft_p50_ms
    assert alone is not None
    assert behind_four == pytest.approx(alone + 2 * 2000)


def test_waiting_in_line_and_the_round_trip_are_not_taken_for_the_tiers_own_time() -> None:
    tier = TierLatency()
    tier.rtt.observe(40)
    tier.observe(new_tokens=100, ttft_ms=40 + 300 + 50, tpot_ms=10, queue_ms=300)
    assert tier.predict(new_tokens=100).ttft_p50_ms == pytest.approx(40 + 50)
    tier.rtt.observe(400)
    slower_net = tier.predict(new_tokens=100).ttft_p50_ms
    assert slower_net is not None
    assert slower_net > 100


def test_the_tail_is_that_of_the_latest_values() -> None:
    rng = random.Random(1)
    tail = Tail()
    for _ in range(3000):
        tail.observe(100 * math.exp(rng.gauss(0, 0.5)))
    assert tail.p50 == pytest.approx(100, rel=0.35)
    assert tail.p95 == pytest.approx(100 * math.exp(1.645 * 0.5), rel=0.5)
    for _ in range(60):
        tail.observe(1000)
    assert tail.p50 == pytest.approx(1000, rel=0.01)


def test_how_often_the_predicted_tail_is_passed_is_about_one_in_twenty() -> None:
    rng = random.Random(2)
    tier, late, asked = TierLatency(), 0, 4000
    for turn in range(asked + 100):
        tokens = rng.randint(20, 2000)
        took = (20 + 0.8 * tokens) * math.exp(rng.gauss(0, 0.4))
        predicted = tier.predict(new_tokens=tokens).ttft_p95_ms
        if turn >= 100 and predicted is not None:
            late += took > predicted
        tier.observe(new_tokens=tokens, ttft_ms=took, tpot_ms=10)
    assert 0.02 < late / asked < 0.12


def test_one_measurement_has_a_tail_already() -> None:
    tier = TierLatency()
    tier.observe(new_tokens=100, ttft_ms=100, tpot_ms=10)
    predicted = tier.predict(new_tokens=100)
    assert predicted.ttft_p95_ms is not None
    assert predicted.ttft_p95_ms > 150


def test_a_tier_that_was_slow_and_not_asked_since_is_given_another_chance() -> None:
    now = [0.0]
    tier = TierLatency(clock=lambda: now[0])
    tier.rtt.observe(900)
    tier.observe(new_tokens=100, ttft_ms=60_000, tpot_ms=900)
    now[0] = MEMORY_S
    assert tier.predict(new_tokens=100).ttft_p50_ms == pytest.approx(60_000)
    now[0] = MEMORY_S + 1
    assert tier.predict(new_tokens=100) == Prediction()
    tier.observe(new_tokens=100, ttft_ms=50, tpot_ms=10)
    assert tier.predict(new_tokens=100).ttft_p50_ms == pytest.approx(50)


def test_one_hiccup_bends_no_line_but_a_change_that_stays_does() -> None:
    tier = TierLatency()
    for _ in range(10):
        for tokens in (50, 500):
            tier.observe(new_tokens=tokens, ttft_ms=2.0 * tokens, tpot_ms=None)
    tail = tier.predict(new_tokens=300).ttft_p95_ms
    tier.observe(new_tokens=500, ttft_ms=60_000, tpot_ms=None)
    after = tier.predict(new_tokens=300)
    assert after.ttft_p50_ms == pytest.approx(600, rel=0.25)
    assert tail is not None
    assert after.ttft_p95_ms is not None
    assert after.ttft_p95_ms > 1.2 * tail
    for _ in range(25):
        for tokens in (50, 500):
            tier.observe(new_tokens=tokens, ttft_ms=20.0 * tokens, tpot_ms=None)
    assert tier.predict(new_tokens=300).ttft_p50_ms == pytest.approx(6000, rel=0.1)


VALUES = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30)


@given(VALUES, st.integers(0, 10**6))
def test_no_measurement_makes_a_prediction_negative_or_no_number(
    values: list[float], tokens: int
) -> None:
    tier = TierLatency()
    for value in values:
        tier.rtt.observe(value)
        tier.observe(new_tokens=tokens, ttft_ms=value, tpot_ms=value, service_ms=value)
    found = tier.predict(new_tokens=tokens, waiting=2)
    p50, p95 = found.ttft_p50_ms, found.ttft_p95_ms
    assert (p50 is None) == (p95 is None)
    if p50 is not None and p95 is not None and math.isfinite(p95):
        assert 0 < p50 <= p95 * (1 + 1e-9)
    assert found.tpot_p50_ms is None or found.tpot_p50_ms > 0


@given(st.lists(st.tuples(st.integers(0, 10**5), st.floats(0.01, 1e6)), min_size=1, max_size=40))
def test_more_tokens_never_take_less_time(points: list[tuple[int, float]]) -> None:
    line = Line()
    for x, y in points:
        line.observe(x, y)
    heights = [line.at(x) for x in (0, 10, 1000, 10**5)]
    assert all(height is not None and height >= 0 for height in heights)
    assert heights == sorted(heights)  # type: ignore[type-var]


def test_a_race_that_was_lost_teaches_that_it_took_longer() -> None:
    tier = TierLatency()
    for _ in range(5):
        tier.observe(new_tokens=100, ttft_ms=50, tpot_ms=10)
    tier.observe_at_least(new_tokens=100, ttft_ms=30)
    assert tier.predict(new_tokens=100).ttft_p50_ms == pytest.approx(50)
    tier.observe_at_least(new_tokens=100, ttft_ms=500)
    slower = tier.predict(new_tokens=100).ttft_p50_ms
    assert slower is not None
    assert slower > 55
    unknown = TierLatency()
    unknown.observe_at_least(new_tokens=100, ttft_ms=500)
    assert unknown.predict(new_tokens=100) == Prediction()
