"""What a run counts, by time of day: in memory that does not grow with the requests."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from isthmus.router.simulation.choice import REASONS
from isthmus.router.simulation.histogram import Histogram
from isthmus.router.simulation.requests import Flags, Floats, Ints

STEPS_S = (60.0, 300.0, 900.0, 3600.0)
MOST_ROWS = 400


class Tier(IntEnum):
    """Who answered."""

    EDGE = 0
    CLOUD = 1
    FELL_BACK = 2
    """Sent to the cloud, and finished on the device when the cloud or the network went."""


class Tally:
    """Counts and sums a stretch of time (`step_s`) a row, by when requests arrived."""

    def __init__(self, hours: float) -> None:
        seconds = hours * 3600
        self.step_s = next((s for s in STEPS_S if seconds / s <= MOST_ROWS), STEPS_S[-1])
        self.rows = max(1, int(np.ceil(seconds / self.step_s)))
        self.ttft_ms = [Histogram(self.rows) for _ in Tier]
        self.total_ms = [Histogram(self.rows) for _ in Tier]
        self.requests = np.zeros(self.rows)
        self.escalated = np.zeros(self.rows)
        self.unserved = np.zeros(self.rows)
        self.micro_usd = np.zeros(self.rows)
        self.device_j = np.zeros(self.rows)
        self.radio_j = np.zeros(self.rows)
        self.busy_gpu_s = np.zeros(self.rows)
        self.sequence_s = np.zeros(self.rows)
        """Seconds of sequences on GPUs."""
        self.good_answers = np.zeros(self.rows)
        """The sum of the qualities that were expected."""
        self.good_on_edge = np.zeros(self.rows)
        """What it had been with every answer from the device."""
        self.good_in_cloud = np.zeros(self.rows)
        self.reasons = np.zeros(len(REASONS), np.int64)
        self.prompt_tokens = 0
        """In the cloud, as the next."""
        self.cached_tokens = 0

    def row(self, time_s: Floats) -> Ints:
        """The row of each time."""
        return np.minimum((time_s / self.step_s).astype(np.int64), self.rows - 1)

    def add(self, column: Floats, row: Ints, amount: Floats | Ints | Flags | float = 1.0) -> None:
        """Add to a column, row by row."""
        np.add.at(column, row, amount)

    def answered(self, tier: Tier, row: Ints, ttft_ms: Floats, total_ms: Floats) -> None:
        """Note how long answers took."""
        self.ttft_ms[tier].add(row, ttft_ms)
        self.total_ms[tier].add(row, total_ms)

    def percentile(
        self, what: list[Histogram], percent: float, rows: slice, tiers: tuple[Tier, ...]
    ) -> float | None:
        """Of several tiers together."""
        both = Histogram(1)
        for tier in tiers:
            both.counts[0] += what[tier].counts[rows].sum(axis=0)
        return both.percentile(percent)
