"""How good an order of escalation is, as the RouteLLM paper (arXiv 2406.18665) measures it.

With a share a of the requests in the cloud, those with the highest scores, PGR(a) is the part of
the quality between the device alone and the cloud alone that is recovered. APGR is its mean over
all shares, and a random order has 0.5; CPT(x) is the smallest share, in per cent, with PGR(a) >= x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """One order's figures over some rows."""

    rows: int
    apgr: float
    low: float
    high: float
    """95% interval of APGR, by bootstrap over the rows"""
    cpt50: float
    cpt80: float


def pgr(score: F64, gain: F64) -> F64:
    """PGR at each number of requests in the cloud; equal scores share evenly. [rows + 1]

    score, gain: [rows]; a gain is the cloud's quality less the device's. NaN where the sum of all
    gains is 0: there is nothing to recover.
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    first = np.r_[True, ranked[1:] != ranked[:-1]]
    starts = np.flatnonzero(first)
    counts = np.diff(np.r_[starts, len(ranked)])
    means = np.add.reduceat(gain[order], starts) / counts if len(starts) else np.empty(0)
    recovered = np.r_[0.0, np.cumsum(np.repeat(means, counts))]
    total = recovered[-1]
    return recovered / total if abs(total) > 1e-9 else np.full(len(recovered), np.nan)


def apgr(score: F64, gain: F64) -> float:
    """The mean of PGR over all shares. score, gain: [rows]"""
    curve = pgr(score, gain)
    return float(np.trapezoid(curve, np.linspace(0, 1, len(curve))))


def cpt(score: F64, gain: F64, x: float) -> float:
    """The smallest share in the cloud, in per cent, that recovers `x`. score, gain: [rows]"""
    curve = pgr(score, gain)
    reached = np.flatnonzero(curve >= x)
    return 100.0 * float(reached[0]) / (len(curve) - 1) if len(reached) else 100.0


def measure(score: F64, gain: F64, *, resamples: int = RESAMPLES) -> Measured:
    """All figures of one order. score, gain: [rows], at least one"""
    low, high = np.nanpercentile(
        [apgr(score[at], gain[at]) for at in _resampled(len(gain), resamples)], [2.5, 97.5]
    )
    return Measured(
        len(gain),
        apgr(score, gain),
        float(low),
        float(high),
        cpt(score, gain, 0.5),
        cpt(score, gain, 0.8),
    )


def difference(
    score: F64, other: F64, gain: F64, *, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """APGR of `score` less that of `other`, with its 95% interval by paired bootstrap."""
    low, high = np.nanpercentile(
        [
            apgr(score[at], gain[at]) - apgr(other[at], gain[at])
            for at in _resampled(len(gain), resamples)
        ],
        [2.5, 97.5],
    )
    return apgr(score, gain) - apgr(other, gain), float(low), float(high)


def auroc(score: F64, label: NDArray[np.bool_]) -> float:
    """P(a positive row scores above a negative one), equal ones counting half; NaN without both."""
    positives, negatives = int(label.sum()), int((~label).sum())
    if not positives or not negatives:
        return float("nan")
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    above = ranks[label].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _resampled(rows: int, times: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, rows, rows) for _ in range(times)]
