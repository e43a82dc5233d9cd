"""The circuit breaker, on a clock of its own."""

from __future__ import annotations

import pytest

from isthmus.edge.breaker import BreakerState, CircuitBreaker


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(failures=3, open_s=10, clock=clock)


def fail(breaker, times):
    for _ in range(times):
        assert breaker.try_acquire()
        breaker.fail()


def test_it_opens_after_so_many_failures_in_a_row(breaker):
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.try_acquire()
    assert breaker.retry_after_s == 10


def test_a_success_in_between_starts_the_count_again(breaker):
    fail(breaker, 2)
    assert breaker.try_acquire()
    breaker.succeed()
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_after_the_pause_one_trial_at_a_time_passes(breaker, clock):
    fail(breaker, 3)
    clock.now_s += 10
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.try_acquire()
    assert not breaker.try_acquire()


def test_a_trial_that_succeeds_closes_it(breaker, clock):
    fail(breaker, 3)
    clock.now_s += 10
    assert breaker.try_acquire()
    breaker.succeed()
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_a_trial_that_fails_opens_it_for_another_pause(breaker, clock):
    fail(breaker, 3)
    clock.now_s += 10
    fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    clock.now_s += 9.9
    assert breaker.state is BreakerState.OPEN
    clock.now_s += 0.1
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_trial_whose_caller_left_decides_nothing(breaker, clock):
    fail(breaker, 3)
    clock.now_s += 10
    assert breaker.try_acquire()
    breaker.release()
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.try_acquire()


@pytest.mark.parametrize("settings", [{"failures": 0}, {"open_s": -1}])
def test_senseless_settings_are_refused(settings):
    with pytest.raises(ValueError, match="failures"):
        CircuitBreaker(**settings)
