"""Whole fleets: nothing is lost, queues are the devices' own, outages hurt as they should."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from isthmus.core.errors import ConfigError
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.presets import Preset
from isthmus.router.simulation.arrivals import Generated, Lengths
from isthmus.router.simulation.capacity import Slo, busiest_hour, size_cloud
from isthmus.router.simulation.choice import REASONS
from isthmus.router.simulation.devices import Devices, one_by_one
from isthmus.router.simulation.fleet import Run, simulate
from isthmus.router.simulation.flight import Flight
from isthmus.router.simulation.outages import Outage, Part, parse_outage
from isthmus.router.simulation.prefix import PrefixCache
from isthmus.router.simulation.report import report
from isthmus.router.simulation.requests import Requests
from isthmus.router.simulation.scenario import DeviceKind, Network, Scenario
from isthmus.router.simulation.tally import Tier
from isthmus.router.simulation.trace import Trace

PLUGGED = DeviceKind("box", 1.0, 1000.0, 50.0, 0.2, 0.01)
FLAT = Network("flat", 1.0, (50.0, 50.0, 50.0), 1.0)
SMALL = Scenario(devices=(PLUGGED,), networks=(FLAT,))
HOUR = Generated(mean_rps=2.0, hours=1.0, lengths=Lengths((0, 1), (50, 500), (20, 100)))


def traced(*rows: tuple[float, int, int, float, int]) -> Trace:
    """Time, prompt, answer, difficulty and device of each."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Trace(Requests(columns[0].astype(np.float64), *columns[1:]))


def totals(run: Run) -> dict[str, int]:
    answers = {tier.name: run.tally.ttft_ms[tier].count() for tier in Tier}
    return answers | {"requests": int(run.tally.requests.sum())}


def reasons(run: Run) -> set[str]:
    return {REASONS[i].value for i in np.flatnonzero(run.tally.reasons)}


@pytest.mark.parametrize("preset", [Preset.SAVER, Preset.BALANCED, Preset.BEST, Preset.OFFLINE])
def test_every_request_is_answered_once_or_counted_as_unanswered(preset: Preset) -> None:
    scenario = replace(SMALL, router=RouterConfig(preset=preset), private_share=0.1)
    run = simulate(scenario, HOUR, devices=300, gpus=1)
    count = totals(run)
    assert count["EDGE"] + count["CLOUD"] + run.tally.unserved.sum() == count["requests"]
    assert run.tally.escalated.sum() == count["CLOUD"]
    assert (count["CLOUD"] == 0) == (preset is Preset.OFFLINE)
    assert "privacy_local_only" in reasons(run)


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    outages = (Outage(Part.CLOUD, 900.0, 600.0),)
    first, again, other = (
        report(simulate(SMALL, HOUR, devices=50, gpus=1, seed=s, outages=outages), None, 0.0, None)
        for s in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_device_answers_one_request_after_the_other() -> None:
    offline = replace(SMALL, router=RouterConfig(preset=Preset.OFFLINE))
    workload = traced((0.0, 1000, 51, 0.0, 0), (0.5, 1000, 51, 0.0, 0), (0.5, 1000, 51, 0.0, 1))
    run = simulate(offline, workload, devices=2, gpus=1)
    first = run.tally.ttft_ms[Tier.EDGE]
    # 1 s of prefill and 1 s of decoding each: the second waits for 1.5 s.
    assert first.percentile(100) == pytest.approx(2500, rel=0.01)
    assert first.percentile(1) == pytest.approx(1000, rel=0.01)
    assert first.mean() == pytest.approx((1000 + 2500 + 1000) / 3)
    assert run.tally.device_j.sum() == pytest.approx(3 * (1000 * 0.01 + 51 * 0.2))


def test_the_cloud_takes_a_round_trip_its_prefill_and_its_steps() -> None:
    best = replace(SMALL, router=RouterConfig(preset=Preset.BEST))
    run = simulate(best, traced((0.0, 2460, 101, 1.0, 0)), devices=1, gpus=1)
    gpu = SMALL.gpu
    assert run.tally.ttft_ms[Tier.CLOUD].mean() == pytest.approx(50 + 100, rel=1e-6)
    steps_ms = 100 * (gpu.step_ms + gpu.sequence_ms)
    assert run.tally.total_ms[Tier.CLOUD].mean() == pytest.approx(150 + steps_ms, rel=1e-6)
    assert run.tally.micro_usd.sum() == round(2460 * 0.05 + 101 * 0.08)
    assert run.tally.radio_j.sum() == 1.0


def test_an_hour_without_the_cloud_falls_back_to_the_device_and_recovers() -> None:
    outage = Outage(Part.CLOUD, 1200.0, 1200.0)
    usual = simulate(SMALL, HOUR, devices=300, gpus=1)
    failed = simulate(SMALL, HOUR, devices=300, gpus=1, outages=(outage,))
    count = totals(failed)
    assert count["EDGE"] + count["CLOUD"] + count["FELL_BACK"] == count["requests"]
    assert count["FELL_BACK"] > 5
    assert "breaker_open" in reasons(failed)
    told = report(usual, None, 0.0, failed)["outages"][0]
    during, after = told["during"], told["hour_after"]
    assert during["with"]["escalated_share"] < 0.02 < during["without"]["escalated_share"]
    assert during["with"]["expected_quality"] < during["without"]["expected_quality"]
    assert after["with"]["escalated_share"] == pytest.approx(
        after["without"]["escalated_share"], rel=0.05
    )
    assert 0 <= told["recovered_after_s"] < 600


def test_what_only_the_cloud_can_read_is_not_answered_without_it() -> None:
    small = replace(SMALL, devices=(replace(PLUGGED, context_tokens=256),))
    outage = Outage(Part.NETWORK, 0.0, 3600.0)
    run = simulate(small, HOUR, devices=300, gpus=1, outages=(outage,))
    assert run.tally.unserved.sum() > 500
    assert {"cloud_offline"} <= reasons(run)
    usual = simulate(small, HOUR, devices=300, gpus=1)
    assert usual.tally.unserved.sum() == 0
    assert "context_too_long_for_edge" in reasons(usual)


def test_one_network_that_fails_leaves_the_others_alone() -> None:
    networks = (replace(FLAT, name="a", share=0.5), replace(FLAT, name="b", share=0.5))
    both = replace(SMALL, networks=networks, router=RouterConfig(preset=Preset.BEST))
    run = simulate(
        both, HOUR, devices=300, gpus=1, outages=(Outage(Part.NETWORK, 60.0, 3500.0, "a"),)
    )
    usual = simulate(both, HOUR, devices=300, gpus=1)
    assert run.tally.escalated.sum() == pytest.approx(usual.tally.escalated.sum() / 2, rel=0.1)


def test_a_cloud_that_loses_gpus_goes_on_and_answers_later() -> None:
    heavy = Generated(mean_rps=8.0, hours=0.5)
    best = replace(SMALL, router=RouterConfig(preset=Preset.BEST))
    half = (Outage(Part.CLOUD, 600.0, 600.0, gpus_left=0.5),)
    usual = simulate(best, heavy, devices=1000, gpus=2)
    failed = simulate(best, heavy, devices=1000, gpus=2, outages=half)
    assert 0 < totals(failed)["FELL_BACK"] < 100
    rows = slice(10, 20)
    later = [run.tally.total_ms[Tier.CLOUD].mean(rows) for run in (usual, failed)]
    assert later[0] is not None
    assert later[1] is not None
    assert later[1] > 1.2 * later[0]


def test_outages_that_overlap_last_as_long_as_the_last_of_them() -> None:
    best = replace(SMALL, router=RouterConfig(preset=Preset.BEST))
    both = (Outage(Part.CLOUD, 600.0, 1200.0), Outage(Part.CLOUD, 1200.0, 1800.0))
    run = simulate(best, HOUR, devices=300, gpus=1, outages=both)
    sent = run.tally.ttft_ms[Tier.CLOUD].counts.sum(axis=1)
    assert not sent[10:50].any()
    assert sent[:9].all()
    assert sent[51:].all()


def test_a_budget_of_a_day_is_kept_and_that_of_the_next_is_paced() -> None:
    limits = BudgetLimits(day_usd=Decimal("0.0001"))
    config = RouterConfig(preset=Preset.BEST, answer_tokens=100, budget=limits)
    late = Generated(0.55, hours=2.0, lengths=Lengths((0, 1), (200, 400), (50, 100)))
    scenario = replace(SMALL, router=config)
    run = simulate(scenario, late, devices=200, gpus=1, start_s=23 * 3600.0)
    assert "budget_spent" in reasons(run)
    old, new = (run.tally.micro_usd[rows].sum() for rows in np.split(np.arange(120), 2))
    # A call that is under way is not booked yet: at most one a device goes beyond.
    assert 0.5 * 200 * 100 < old <= 200 * (100 + 28)
    # The new day has just begun: what it may spend is paced.
    assert 0 < new < 0.6 * old


def test_a_phone_drains_through_the_day_and_is_charged_at_night() -> None:
    phone = replace(PLUGGED, battery_wh=10.0)
    devices = Devices(2, (phone,), BudgetLimits())
    noon, night = np.full(1, 12 * 3600.0), np.full(1, 2 * 3600.0)
    one = np.zeros(1, np.int64)
    before = devices.battery(one, noon)
    devices.drain(one, np.full(1, 3600.0))
    assert devices.battery(one, noon) == pytest.approx(before - 0.1, rel=1e-5)
    assert devices.battery(one + 1, noon) == pytest.approx(before)
    assert np.isnan(devices.battery(one, night)).all()
    assert devices.battery(one, noon) == pytest.approx(before)


def test_devices_come_in_their_shares_and_rows_one_by_one_for_each() -> None:
    kinds = tuple(replace(PLUGGED, share=share) for share in (1.0, 3.0))
    assert np.bincount(Devices(1000, kinds, BudgetLimits()).kind).tolist() == [250, 750]
    device = np.array([5, 3, 5, 5, 3])
    assert [turn.tolist() for turn in one_by_one(device)] == [[1, 0], [4, 2], [3]]


def test_prefixes_that_were_sent_before_need_not_be_computed_again() -> None:
    cache = PrefixCache(capacity_tokens=4 * 512)
    assert cache.cached_tokens([1, 2, 3]) == 0
    assert cache.cached_tokens([1, 2, 9]) == 2 * 512
    assert cache.cached_tokens([7, 8]) == 0
    assert cache.cached_tokens([3]) == 0
    best = replace(SMALL, router=RouterConfig(preset=Preset.BEST))
    rows = traced((0.0, 1024, 5, 1.0, 0), (9.0, 1100, 5, 1.0, 0)).requests
    blocked = Trace(replace(rows, blocks=((1, 2), (1, 2, 3))))
    run = simulate(best, blocked, devices=1, gpus=1)
    assert (run.tally.prompt_tokens, run.tally.cached_tokens) == (2124, 1024)


def test_the_ring_of_what_is_in_flight_grows_and_forgets_nothing_that_is_needed() -> None:
    flight = Flight(["x"], capacity=4)
    numbers = flight.add({"x": np.arange(3.0)}, [])
    flight.add({"x": np.arange(3.0, 9.0)}, numbers.tolist())
    assert flight.rows(np.arange(9))["x"].tolist() == list(range(9))
    flight.add({"x": np.arange(9.0, 14.0)}, [7, 8])
    assert flight.rows(np.arange(7, 14))["x"].tolist() == list(range(7, 14))
    assert flight.capacity == 16


def test_the_busiest_hour_is_where_most_tokens_arrive() -> None:
    seconds = np.r_[np.arange(0.0, 10_800.0, 60.0), np.arange(4300.0, 7100.0, 10.0)]
    day = traced(*((second, 100, 5, 0.5, 0) for second in np.sort(seconds)))
    assert busiest_hour(day, 0) == (3600.0, 7200.0)
    assert busiest_hour(HOUR, 0) == (0.0, 3600.0)


def test_the_cloud_is_as_large_as_the_promise_needs_in_the_busiest_hour() -> None:
    day = Generated(3.0, hours=2.0)
    best = replace(SMALL, router=RouterConfig(preset=Preset.BEST))
    assert busiest_hour(day, 0)[0] == pytest.approx(1800, abs=1800)
    sizing = size_cloud(best, day, Slo(300.0, 12.0, 0.95), devices=1000)
    kept = {gpus: min(shares) for gpus, *shares in sizing.tried}
    assert sizing.gpus > 1
    assert kept[sizing.gpus] >= 0.95 > kept[sizing.gpus - 1]
    looser = size_cloud(best, day, Slo(1000.0, 50.0, 0.95), devices=1000)
    assert looser.gpus < sizing.gpus


@pytest.mark.parametrize(
    ("slo", "field"), [(Slo(ttft_ms=40.0), "slo_ttft_ms"), (Slo(tpot_ms=5.0), "slo_tpot_ms")]
)
def test_a_promise_that_no_cloud_can_keep_is_told(slo: Slo, field: str) -> None:
    with pytest.raises(ConfigError, match="no number of GPUs") as caught:
        size_cloud(SMALL, HOUR, slo, devices=100)
    assert caught.value.field == field


def test_outages_are_written_as_they_are_said() -> None:
    assert parse_outage("cloud@13:00+1h") == Outage(Part.CLOUD, 46_800.0, 3600.0)
    assert parse_outage("cloud:0.5@0:10+90s") == Outage(Part.CLOUD, 600.0, 90.0, None, 0.5)
    assert parse_outage("network:5g@9:30+20m") == Outage(Part.NETWORK, 34_200.0, 1200.0, "5g")
    for wrong in ("cloud", "cloud@25+1h", "disk@1:00+1h", "cloud:2@1:00+1h", "cloud@1:00+0h"):
        with pytest.raises(ConfigError):
            parse_outage(wrong)
