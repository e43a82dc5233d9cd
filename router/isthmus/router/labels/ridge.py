"""Probabilities from a few hundred labelled rows and about as many features, with numpy alone.

Ridge regression of 0 and 1, then a logistic curve through its left-out predictions, so that it is
no surer than it should be. The left-out predictions of all penalties come from one decomposition
(Golub, Heath and Wahba 1979, "Generalized Cross-Validation"): a thousand rows take a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_PENALTIES = tuple(10.0**power for power in np.arange(1, 5.1, 0.5))
_NEWTON_STEPS = 12
_LEAST_SPREAD = 1e-3
"""A column that varies less says nothing here, and would say anything elsewhere."""


def fit(x: F64, targets: Sequence[F64]) -> F64:
    """The weights of a logit for each target: [rows, D] and [rows] each, to [D + 1, targets].

    The last weight is the intercept. Targets are 0 or 1, or between.
    """
    scale = x.std(axis=0)
    scale = np.where(scale > _LEAST_SPREAD, scale, np.inf)
    mean = x.mean(axis=0)
    z = (x - mean) / scale
    squares, axes = np.linalg.eigh(z.T @ z)
    squares, on_axes = np.maximum(squares, 0.0), z @ axes
    found = []
    for y in targets:
        on_axis, left_out = _best(squares, on_axes, y)
        slope, offset = _platt(left_out, y)
        weights = slope * (axes @ on_axis) / scale
        intercept = slope * float(y.mean()) + offset - float(mean @ weights)
        found.append(np.append(weights, intercept))
    return np.stack(found, axis=1)


def _best(squares: F64, on_axes: F64, y: F64) -> tuple[F64, F64]:
    """Of the penalty with the least left-out error: weights on the axes, left-out predictions."""
    centred = y - y.mean()
    projected = on_axes.T @ centred
    tried = []
    for penalty in _PENALTIES:
        weights = projected / (squares + penalty)
        leverage = np.minimum((on_axes**2) @ (1 / (squares + penalty)) + 1 / len(y), 0.99)
        left_out = y - (centred - on_axes @ weights) / (1 - leverage)
        tried.append((float(((y - left_out) ** 2).mean()), weights, left_out))
    _, weights, left_out = min(tried, key=lambda one: one[0])
    return weights, left_out


def _platt(scores: F64, y: F64) -> tuple[float, float]:
    """Slope and offset of the logistic curve through `scores` (Platt 1999), by Newton's method.

    Scores that order nothing, or the wrong way round, get a flat curve at the mean.
    """
    smoothed = (y * len(y) + 0.5) / (len(y) + 1.0)  # never quite 0 or 1
    mean, spread = float(scores.mean()), float(scores.std())
    flat = 0.0, float(np.log(smoothed.mean() / (1 - smoothed.mean())))
    if spread < 1e-9 or y.std() < 1e-9 or np.corrcoef(scores, y)[0, 1] <= 0:
        return flat
    x = np.stack([(scores - mean) / spread, np.ones(len(y))], axis=1)
    weights = np.array(flat)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.eye(2)
        weights = weights + np.linalg.solve(hessian, x.T @ (smoothed - p) - weights * (1, 0))
    slope = float(weights[0]) / spread
    return slope, float(weights[1]) - slope * mean
