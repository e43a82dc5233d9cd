"""Percentiles of millions of values in little memory: counts in bins that grow by one percent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isthmus.router.simulation.requests import Floats, Ints

LEAST = 1e-2
GROWTH = math.log(1.01)
BINS = int(math.log(1e10) / GROWTH) + 2


class Histogram:
    """One distribution a row. Values are positive; a percentile is right to one percent."""

    def __init__(self, rows: int) -> None:
        self.counts: NDArray[np.int32] = np.zeros((rows, BINS), np.int32)
        self.sums: Floats = np.zeros(rows)

    def add(self, row: Ints, value: Floats) -> None:
        """Count each value in its row."""
        # Written so that a value at or below the least one falls into the first bin.
        place = (np.log(np.maximum(value, LEAST) / LEAST) / GROWTH).astype(np.int64)
        np.add.at(self.counts, (row, np.minimum(place, BINS - 1)), 1)
        np.add.at(self.sums, row, value)

    def count(self, rows: slice | NDArray[np.bool_] = slice(None)) -> int:
        """How many values."""
        return int(self.counts[rows].sum())

    def mean(self, rows: slice | NDArray[np.bool_] = slice(None)) -> float | None:
        """Exact; None without values."""
        count = self.count(rows)
        return float(self.sums[rows].sum()) / count if count else None

    def percentile(
        self, percent: float, rows: slice | NDArray[np.bool_] = slice(None)
    ) -> float | None:
        """What `percent` of the values do not exceed; None without values."""
        counts = self.counts[rows].sum(axis=0)
        passed = np.cumsum(counts)
        if not passed[-1]:
            return None
        place = int(np.searchsorted(passed, max(1, math.ceil(passed[-1] * percent / 100))))
        return LEAST * math.exp(GROWTH * (place + 0.5))
