"""The workload that was asked for: a trace as it is or resampled, ServeGen's clients, made up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from isthmus.core.errors import ConfigError
from isthmus.router.simulation.arrivals import DAY_S, Generated, Lengths
from isthmus.router.simulation.requests import Workload
from isthmus.router.simulation.servegen import SUFFIX, read_servegen
from isthmus.router.simulation.trace import Resampled, Trace, TraceError, read_trace

A_DAY = 10.0
"""Requests of a device a day, where nothing else tells."""
SWING = 0.6
MOST_HOURS = 1000
MOST_RPS = 100_000
"""Ten minutes of them are held in memory."""


class Arrivals(StrEnum):
    """How made-up requests arrive."""

    POISSON = "poisson"
    DIURNAL = "diurnal"
    BURSTY = "bursty"
    """The course of a day, with bursts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a workload is made from."""

    devices: int
    trace: Path | None = None
    arrivals: Arrivals | None = None
    """With a trace: only its lengths are used."""
    requests_per_day: float | None = None
    """A device's."""
    hours: float | None = None
    burst_factor: float = 5.0
    start_s: float = 0.0
    seed: int = 0


def open_workload(asked: Asked) -> Workload:
    """The workload. Raises `TraceError` and `ConfigError`."""
    workload = _workload(asked)
    if workload.hours > MOST_HOURS:
        raise ConfigError(
            f"the trace lasts {workload.hours:,.0f} hours: take at most {MOST_HOURS} of them",
            field="hours",
        )
    return workload


def _workload(asked: Asked) -> Workload:
    a_day = A_DAY if asked.requests_per_day is None else asked.requests_per_day
    mean_rps = asked.devices * a_day / DAY_S
    if mean_rps * asked.burst_factor > MOST_RPS:
        raise ConfigError(
            f"would be {mean_rps:,.0f} requests a second on average, and {asked.burst_factor:g} "
            f"times as many in a burst: more than {MOST_RPS:,}",
            field="requests_per_day",
        )
    if asked.trace is None:
        return _made_up(asked, mean_rps, Lengths())
    if SUFFIX in asked.trace.name:
        clients = read_servegen(asked.trace)
        if asked.hours is not None:
            rates = tuple(r for r in clients.rates if r.start_s < asked.hours * 3600)
            clients = replace(clients, rates=rates)
        if not clients.rates or not clients.mean_rps:
            raise TraceError(f"{asked.trace.name} has no arrivals in that time")
        return replace(clients, factor=mean_rps / clients.mean_rps)
    requests = read_trace(asked.trace)
    if asked.arrivals is not None:
        return _made_up(asked, mean_rps, Lengths.of(requests))
    if asked.hours is not None:
        requests = requests.take(slice(0, int((requests.arrival_s < asked.hours * 3600).sum())))
    if asked.requests_per_day is None:
        return Trace(requests)
    traced_rps = len(requests) / (Trace(requests).hours * 3600)
    return Resampled(requests, mean_rps / traced_rps)


def _made_up(asked: Asked, mean_rps: float, lengths: Lengths) -> Generated:
    arrivals = asked.arrivals or Arrivals.DIURNAL
    return Generated(
        mean_rps,
        24.0 if asked.hours is None else asked.hours,
        swing=0.0 if arrivals is Arrivals.POISSON else SWING,
        burst_factor=asked.burst_factor if arrivals is Arrivals.BURSTY else 1.0,
        start_s=asked.start_s,
        lengths=lengths,
        seed=asked.seed,
    )
