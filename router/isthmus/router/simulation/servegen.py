"""ServeGen's workloads: arrival rates of a service's clients, and quantiles of their lengths.

Rows of `*_rates.csv` are `client, t_s, rate_rps, cv, pattern, p1, p2`: how often a client called
in ten minutes, and the renewal process that its arrivals are (Gamma or Weibull with the shape
`p1`). Lines of `*_lengths.jsonl` are `{client, input_tokens, output_tokens}` with evenly spaced
quantiles. ServeGen: "Workload characterization and generation of LLM serving in production",
2025, arXiv 2505.09999. Its clients send thousands of requests a second, so a fleet takes a share:
`factor` scales every rate and leaves the shapes.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from isthmus.router.simulation.arrivals import Lengths
from isthmus.router.simulation.requests import Floats, Requests, Rng, no_requests, unknown
from isthmus.router.simulation.trace import TraceError

WINDOW_S = 600.0
SUFFIX = "_rates.csv"


class Rate(NamedTuple):
    """A client in one window."""

    start_s: float
    rate_rps: float
    pattern: str
    shape: float
    client: str


@dataclass(frozen=True, slots=True)
class ServeGen:
    """The clients of a service, each rate times `factor`."""

    rates: tuple[Rate, ...]
    """In order of time."""
    lengths: dict[str, Lengths]
    factor: float = 1.0

    @property
    def hours(self) -> float:
        """Up to the end of the last window."""
        return (self.rates[-1].start_s + WINDOW_S) / 3600

    @property
    def mean_rps(self) -> float:
        """All clients, over all the time."""
        total = math.fsum(rate.rate_rps for rate in self.rates)
        return total * WINDOW_S / (self.hours * 3600) * self.factor

    def between(self, start_s: float, end_s: float, rng: Rng) -> Requests:
        """Arrivals of that stretch: each client's own process, begun anew in each window."""
        starts = [rate.start_s for rate in self.rates]
        first, last = np.searchsorted(starts, (start_s - WINDOW_S, end_s))
        times, prompts, answers = [], [], []
        for rate in self.rates[first:last]:
            begin, end = max(start_s, rate.start_s), min(end_s, rate.start_s + WINDOW_S)
            arrival = self._renewals(rate, begin, end, rng)
            if len(arrival):
                drawn = self.lengths.get(rate.client, Lengths()).draw(len(arrival), rng)
                times.append(arrival)
                prompts.append(drawn[0])
                answers.append(drawn[1])
        if not times:
            return no_requests()
        time = np.concatenate(times)
        order = np.argsort(time, kind="stable")
        return Requests(
            time[order],
            np.concatenate(prompts)[order],
            np.concatenate(answers)[order],
            *unknown(len(time)),
        )

    def _renewals(self, rate: Rate, begin_s: float, end_s: float, rng: Rng) -> Floats:
        """The window's own count, spread over it by gaps of the client's shape.

        Rates were counted, so the count is known; gaps drawn one after the other would miss it
        by far where they vary by a factor of hundreds.
        """
        width = end_s - begin_s
        count = int(rate.rate_rps * self.factor * width + rng.random())
        if not count:
            return np.zeros(0)
        draw = rng.standard_gamma if rate.pattern == "Gamma" else rng.weibull
        gaps: Floats = np.asarray(draw(rate.shape, count + 1))
        passed = np.cumsum(gaps)
        if not passed[-1] > 0:
            return begin_s + np.sort(rng.random(count)) * width
        # The last gap ends beyond the window by as much as the first began before it.
        passed = (passed - rng.random() * gaps[0]) / passed[-1]
        arrival: Floats = begin_s + passed[:-1] * width
        return np.minimum(arrival, np.nextafter(end_s, begin_s))


def read_servegen(rates: Path) -> ServeGen:
    """The workload of `*_rates.csv[.gz]` with the `*_lengths.jsonl[.gz]` beside it."""
    name = rates.name.replace(SUFFIX, "_lengths.jsonl")
    lengths = rates.with_name(name)
    if not lengths.exists():
        raise TraceError(f"{rates.name} needs {name} beside it", field="client")
    try:
        with _open(rates) as lines:
            rows = sorted(_rates(lines, rates.name))
        with _open(lengths) as lines:
            by_client = dict(_lengths(lines, lengths.name))
    except (OSError, EOFError, UnicodeDecodeError):
        raise TraceError(f"cannot read {rates.name} and {lengths.name}: damaged?") from None
    if not rows:
        raise TraceError(f"{rates.name} holds no rate")
    return ServeGen(tuple(rows), by_client)


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt") if path.suffix == ".gz" else path.open()


def _rates(lines: IO[str], name: str) -> Iterator[Rate]:
    reader = csv.DictReader(lines)
    for row in reader:
        where = f"{name}, line {reader.line_num}"
        try:
            start_s, rate_rps, shape = (float(row[f]) for f in ("t_s", "rate_rps", "p1"))
            pattern, client = row["pattern"], row["client"]
        except (KeyError, TypeError, ValueError):
            raise TraceError(f"{where}: not client,t_s,rate_rps,cv,pattern,p1,p2") from None
        for field, value in (("t_s", start_s), ("rate_rps", rate_rps)):
            if not 0 <= value < 1e9:
                raise TraceError(f"{where}: not a number from 0 to 1e9", field=field)
        if not 0.005 <= shape < 1e3:
            raise TraceError(f"{where}: a shape is from 0.005 to 1000", field="p1")
        if pattern not in {"Gamma", "Weibull"}:
            raise TraceError(f"{where}: not Gamma or Weibull", field="pattern")
        yield Rate(start_s, rate_rps, pattern, shape, client)


def _lengths(lines: IO[str], name: str) -> Iterator[tuple[str, Lengths]]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            columns = [np.asarray(row[f], np.float64) for f in ("input_tokens", "output_tokens")]
            if any(c.ndim != 1 or len(c) < 2 or not (np.diff(c) >= 0).all() for c in columns):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise TraceError(
                f"{name}, line {number}: not {{client, input_tokens, output_tokens}} with "
                "quantiles that rise"
            ) from None
        shares = tuple(np.linspace(0, 1, len(columns[0])).tolist())
        if len(columns[1]) != len(shares):
            raise TraceError(f"{name}, line {number}: as many quantiles of both are needed")
        prompts, answers = (tuple(column.tolist()) for column in columns)
        yield str(row["client"]), Lengths(shares, prompts, answers)
