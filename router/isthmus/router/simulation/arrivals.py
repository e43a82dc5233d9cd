"""Requests that are made up: Poisson arrivals, with the course of a day and with bursts.

The rate is `mean_rps` times the day's course times the state of the bursts. The course is
1 + a cos(2 pi (t - peak) / 24 h). Bursts are a Markov-modulated Poisson process of two states
(Fischer and Meier-Hellstern, 1993): now and then (`BURST_SHARE` of the time, `BURST_S` at a time
on average) the rate is `burst_factor` times what it is else, for all devices at once; a fleet's
own independent arrivals would be Poisson whatever each device does (Palm and Khintchine). The
mean stays what it was. How bursty that is, is told by `dispersion`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from isthmus.router.simulation.requests import Floats, Ints, Requests, Rng, no_requests, unknown

DAY_S = 86_400.0
BURST_S = 60.0
BURST_SHARE = 0.05
STEP_S = 60.0
"""The day's course is taken to be constant for so long."""

# Percentiles 0, 10, ... 90, 95, 99, 100 of prompts and answers in Azure's public trace of
# conversations, 2023 (github.com/Azure/AzurePublicDataset, CC-BY 4.0), `shares` beside them.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
CONVERSATION = (
    (
        2.0,
        207.0,
        387.0,
        403.0,
        703.0,
        1020.0,
        1071.0,
        1130.0,
        1315.0,
        2734.0,
        4083.0,
        4142.0,
        14050.0,
    ),
    (7.0, 54.0, 77.0, 91.0, 103.0, 129.0, 177.0, 384.0, 400.0, 424.0, 451.0, 601.0, 1000.0),
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Prompts' and answers' lengths in tokens by their quantiles; drawn independently."""

    shares: tuple[float, ...] = SHARES
    prompt_tokens: tuple[float, ...] = CONVERSATION[0]
    answer_tokens: tuple[float, ...] = CONVERSATION[1]

    @classmethod
    def of(cls, requests: Requests) -> Lengths:
        """The quantiles of a trace."""
        prompts = np.quantile(requests.prompt_tokens, SHARES).tolist()
        answers = np.quantile(requests.answer_tokens, SHARES).tolist()
        return cls(SHARES, tuple(prompts), tuple(answers))

    def draw(self, count: int, rng: Rng) -> tuple[Ints, Ints]:
        """`count` lengths of prompts and of answers."""
        prompts, answers = (
            np.maximum(1, np.interp(rng.random(count), self.shares, known).round())
            for known in (self.prompt_tokens, self.answer_tokens)
        )
        return prompts.astype(np.int64), answers.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Generated:
    """A made-up workload. The same numbers give the same rates; `between` draws the arrivals."""

    mean_rps: float
    hours: float = 24.0
    swing: float = 0.0
    """How far the rate rises above its mean at the peak of the day, 0 to 1."""
    burst_factor: float = 1.0
    peak_s: float = 20 * 3600.0
    start_s: float = 0.0
    """The time of day of the first second."""
    lengths: Lengths = field(default_factory=Lengths)
    seed: int = 0
    bursts: Floats = field(init=False)
    """Shape [bursts, 2]: from when to when."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bursts", self._draw_bursts())

    def between(self, start_s: float, end_s: float, rng: Rng) -> Requests:
        """The arrivals of that stretch."""
        edges = np.arange(start_s, end_s, STEP_S)
        flanks = self.bursts[(self.bursts > start_s) & (self.bursts < end_s)]
        edges = np.unique(np.concatenate((edges, flanks, [end_s])))
        width = np.diff(edges)
        counts = rng.poisson(self.rate_rps(edges[:-1] + width / 2) * width)
        total = int(counts.sum())
        if not total:
            return no_requests()
        step = np.repeat(np.arange(len(counts)), counts)
        arrival = np.sort(edges[step] + rng.random(total) * width[step])
        return Requests(arrival, *self.lengths.draw(total, rng), *unknown(total))

    def rate_rps(self, time_s: Floats) -> Floats:
        """The rate at these times."""
        phase = 2 * math.pi * (time_s + self.start_s - self.peak_s) / DAY_S
        rate = self.mean_rps * (1 + self.swing * np.cos(phase))
        quiet, burst = self.levels
        inside = np.searchsorted(self.bursts.ravel(), time_s, side="right") % 2 == 1
        return rate * np.where(inside, burst, quiet)

    @property
    def levels(self) -> tuple[float, float]:
        """What the rate is multiplied with outside of a burst and inside."""
        quiet = 1 / (1 + BURST_SHARE * (self.burst_factor - 1))
        return quiet, quiet * self.burst_factor

    def dispersion(self, window_s: float = 60.0) -> float:
        """Variance over mean of the counts in windows, at the mean rate: 1 is Poisson."""
        quiet, burst = self.levels
        variance = self.mean_rps**2 * BURST_SHARE * (1 - BURST_SHARE) * (burst - quiet) ** 2
        decay = 1 / BURST_S + BURST_SHARE / (1 - BURST_SHARE) / BURST_S
        reach = decay * window_s
        memory = 1 - (1 - math.exp(-reach)) / reach
        return 1 + 2 * variance / (self.mean_rps * decay) * memory

    def _draw_bursts(self) -> Floats:
        if self.burst_factor == 1.0:
            return np.zeros((0, 2))
        rng = np.random.default_rng((self.seed, 1))
        gap_s = BURST_S * (1 - BURST_SHARE) / BURST_SHARE
        count = int(2 * self.hours * 3600 / (gap_s + BURST_S)) + 50
        spans = np.stack((rng.exponential(gap_s, count), rng.exponential(BURST_S, count)), axis=1)
        return spans.ravel().cumsum().reshape(count, 2)
