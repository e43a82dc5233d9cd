"""Made-up arrivals and round trips have the statistics that they are said to have."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.router.simulation.arrivals import Generated, Lengths
from isthmus.router.simulation.histogram import Histogram
from isthmus.router.simulation.networks import draw_kinds, draw_round_trips_ms
from isthmus.router.simulation.requests import Requests
from isthmus.router.simulation.scenario import NETWORKS


def all_of(workload: Generated, seed: int = 0) -> Requests:
    return workload.between(0.0, workload.hours * 3600, np.random.default_rng(seed))


def per_minute(workload: Generated, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    minutes = int(workload.hours * 60)
    arrival = all_of(workload, seed).arrival_s
    return np.histogram(arrival, minutes, (0, minutes * 60))[0]


def test_poisson_arrivals_have_the_rate_and_a_dispersion_of_one() -> None:
    workload = Generated(mean_rps=20.0, hours=24)
    counts = per_minute(workload)
    assert counts.mean() == pytest.approx(1200, rel=0.01)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)
    assert workload.dispersion() == 1.0


def test_the_day_swings_around_its_mean_with_its_peak_where_it_was_put() -> None:
    counts = per_minute(Generated(mean_rps=20.0, hours=24, swing=0.6, peak_s=20 * 3600.0))
    hours = counts.reshape(24, 60).mean(axis=1) / 60
    assert hours.mean() == pytest.approx(20.0, rel=0.02)
    assert hours[19:21].mean() == pytest.approx(32.0, rel=0.03)
    assert hours[7:9].mean() == pytest.approx(8.0, rel=0.05)


def test_a_run_that_starts_at_noon_has_the_rate_of_noon() -> None:
    noon = Generated(mean_rps=20.0, hours=1, swing=0.6, start_s=12 * 3600.0)
    midnight = Generated(mean_rps=20.0, hours=13, swing=0.6)
    at_noon = float(midnight.rate_rps(np.array([12 * 3600.0]))[0])
    assert float(noon.rate_rps(np.zeros(1))[0]) == pytest.approx(at_noon)


def test_bursts_keep_the_mean_and_have_the_dispersion_of_their_markov_chain() -> None:
    seeds = range(6)
    workloads = [Generated(2.0, hours=100, burst_factor=6.0, seed=seed) for seed in seeds]
    counts = np.concatenate([per_minute(one, seed) for seed, one in enumerate(workloads)])
    assert counts.mean() == pytest.approx(120, rel=0.03)
    assert workloads[0].dispersion() > 10
    assert counts.var() / counts.mean() == pytest.approx(workloads[0].dispersion(), rel=0.15)


def test_the_same_seed_gives_the_same_requests_and_another_one_others() -> None:
    workload = Generated(5.0, hours=1)
    first, again, other = all_of(workload, 1), all_of(workload, 1), all_of(workload, 2)
    assert first.arrival_s.tolist() == again.arrival_s.tolist()
    assert first.prompt_tokens.tolist() == again.prompt_tokens.tolist()
    assert first.arrival_s.tolist() != other.arrival_s.tolist()


def test_lengths_have_the_quantiles_of_the_trace_that_they_were_taken_from() -> None:
    rng = np.random.default_rng(0)
    traced = all_of(Generated(50.0, hours=1))
    prompts, answers = Lengths.of(traced).draw(100_000, rng)
    for share in (0.1, 0.5, 0.9, 0.95):
        assert np.quantile(prompts, share) == pytest.approx(
            np.quantile(traced.prompt_tokens, share), rel=0.05
        )
        assert np.quantile(answers, share) == pytest.approx(
            np.quantile(traced.answer_tokens, share), rel=0.05
        )


def test_round_trips_have_the_percentiles_that_were_measured() -> None:
    rng = np.random.default_rng(0)
    for index, network in enumerate(NETWORKS):
        trips = draw_round_trips_ms(NETWORKS, np.full(200_000, index), rng)
        assert np.percentile(trips, [50, 90, 99]) == pytest.approx(network.rtt_ms, rel=0.05)
        assert trips.min() > 0


def test_kinds_are_drawn_in_their_shares() -> None:
    drawn = draw_kinds([5, 3, 2], 100_000, np.random.default_rng(0))
    assert np.bincount(drawn) / 1e5 == pytest.approx([0.5, 0.3, 0.2], abs=0.01)


def test_a_histograms_percentiles_are_right_to_one_percent() -> None:
    values = np.random.default_rng(0).lognormal(5, 2, 50_000)
    histogram = Histogram(2)
    histogram.add(np.zeros(len(values), np.int64), values)
    for percent in (1, 50, 95, 99.9):
        assert histogram.percentile(percent) == pytest.approx(
            np.percentile(values, percent, method="inverted_cdf"), rel=0.011
        )
    assert (histogram.count(slice(1, 2)), histogram.percentile(50, slice(1, 2))) == (0, None)
    assert histogram.count() == len(values)
