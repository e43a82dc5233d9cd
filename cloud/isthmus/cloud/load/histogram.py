"""Latencies in constant memory: a histogram whose buckets are within 1% of each value."""

from __future__ import annotations

import math
from collections import Counter

_BITS = 7
_HALF = 1 << _BITS


class Histogram:
    """Counts of microseconds: exact below 256, then 128 buckets each time the value doubles.

    The scheme of HdrHistogram (hdrhistogram.org), with two significant digits.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.max_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one value; what is below zero counts as zero."""
        micro = max(0, int(seconds * 1e6))
        shift = max(0, micro.bit_length() - _BITS - 1)
        self._counts[shift * _HALF + (micro >> shift)] += 1
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted."""
        self._counts.update(other._counts)
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)

    def quantile_s(self, share: float) -> float:
        """The value that `share` of all are not above (nearest rank), in seconds; 0 when empty."""
        left = max(1, math.ceil(share * self.count))
        for index in sorted(self._counts):
            left -= self._counts[index]
            if left <= 0:
                return _middle(index) / 1e6
        return 0.0

    def summary_ms(self) -> dict[str, float]:
        """p50, p90, p99 and the greatest value, in milliseconds."""
        shown = {f"p{share}": self.quantile_s(share / 100) * 1e3 for share in (50, 90, 99)}
        return {name: round(ms, 3) for name, ms in (shown | {"max": self.max_s * 1e3}).items()}


def _middle(index: int) -> float:
    shift = max(0, index // _HALF - 1)
    return ((index - shift * _HALF) << shift) + ((1 << shift) - 1) / 2
