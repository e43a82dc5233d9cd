"""Fits what is known of one pair of models on questions that both have answered. Numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.features import NAMES
from isthmus.router.learned.general import General
from isthmus.router.learned.measures import measure
from isthmus.router.learned.pair import Calibration, Pair, inputs
from isthmus.router.learned.train import Rows

PENALTIES = (0.001, 0.003, 0.01, 0.03)
"""The strengths (C) that are tried; cross-validation picks one a tier."""
PARTS = 10
MAX_STEPS = 30


def fit_pair(
    general: General, rows: Rows, pair: Pair, provenance: Mapping[str, Any] | None = None
) -> Calibration:
    """The calibration of `pair` on `rows`: `weak` is how good the device's answers were.

    Its figures are of rows that were left out: questions of sources that stayed, whole sources.
    """
    seen = inputs(general.standard(rows.x), general.gain(rows.x, rows.found), rows.found)
    heads: list[NDArray[Any]] = []
    told: dict[str, Any] = {}
    splits = {"new_questions": _parts(len(rows)), "new_sources": rows.source}
    left_out: dict[str, list[NDArray[np.float64]]] = {name: [] for name in splits}
    for tier, quality in (("edge", rows.weak), ("cloud", rows.strong)):
        good = quality >= 0.5
        penalty, _, blind = choose(seen, good, rows.source)
        heads.append(_head(seen, good, penalty))
        told[tier] = {"good": round(float(good.mean()), 4), "C": penalty}
        told[tier]["log_loss"] = {"of_the_mean": round(blind, 4)}
        for name, groups in splits.items():
            left_out[name].append(held_out(seen, good, groups, penalty))
            told[tier]["log_loss"][name] = round(_loss(left_out[name][-1], good), 4)
    for name, (edge, cloud) in left_out.items():
        found = measure(cloud - edge, rows.strong - rows.weak)
        interval = [round(found.low, 4), round(found.high, 4)]
        told[f"apgr_{name}"] = {"apgr": round(found.apgr, 4), "interval": interval}
    told["rows"] = {str(s): int((rows.source == s).sum()) for s in np.unique(rows.source)}
    weights = np.stack(heads, axis=1).astype(np.float32)
    return Calibration(pair, weights, told | dict(provenance or {}))


def choose(
    seen: NDArray[np.float32], good: NDArray[np.bool_], source: NDArray[np.str_]
) -> tuple[float, float, float]:
    """The penalty with the least log loss on rows that were left out, its loss, the mean's.

    Half of the loss is of questions of sources that stayed, half of whole sources: a pair will be
    asked more of what was labelled, and other things.
    """
    splits = (_parts(len(good)), source)

    def loss(penalty: float) -> float:
        losses = (_loss(held_out(seen, good, groups, penalty), good) for groups in splits)
        return sum(losses) / len(splits)

    losses = {penalty: loss(penalty) for penalty in PENALTIES}
    best = min(losses, key=lambda penalty: losses[penalty])
    return best, losses[best], _loss(np.full(len(good), good.mean()), good)


def _parts(rows: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(rows) % PARTS


def held_out(
    seen: NDArray[np.float32], good: NDArray[np.bool_], group: NDArray[Any], penalty: float
) -> NDArray[np.float64]:
    """P(good) of each row by a head that was fitted without the row's group: [rows]."""
    p = np.full(len(good), good.mean())
    for name in np.unique(group):
        left = group == name
        if not left.all():
            logits = seen[left] @ _head(seen[~left], good[~left], penalty)
            p[left] = 1 / (1 + np.exp(-logits))
    return p


def _head(seen: NDArray[np.float32], good: NDArray[np.bool_], penalty: float) -> NDArray[Any]:
    """A logistic line; where all answers are alike, the share with one of each added."""
    weights = np.zeros(seen.shape[1])
    one = len(NAMES)
    if good.all() or not good.any():
        weights[one] = np.log((good.sum() + 1) / ((~good).sum() + 1))
        return weights
    line = logistic(seen.astype(np.float64), good.astype(np.float64), penalty)
    weights[:] = line[:-1]
    weights[one] += line[-1]
    return weights


def logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """The weights w and the intercept, last, that make |w|^2 / 2 + strength * log loss least.

    x: [rows, D], y: 0 or 1. By Newton's method, with steps halved where they overshoot: the sum is
    convex, so there is one answer, scikit-learn's with `C` for strength.
    """
    x = np.column_stack([x, np.ones(len(x))])
    damping = np.append(np.ones(x.shape[1] - 1), 0.0)

    def height(w: NDArray[np.float64]) -> float:
        logits = x @ w
        log_loss = np.logaddexp(0, logits).sum() - y @ logits
        return float(damping @ w**2 / 2 + strength * log_loss)

    w = np.zeros(x.shape[1])
    low = height(w)
    for _ in range(MAX_STEPS):
        p = 0.5 * (1 + np.tanh(x @ w / 2))
        slope = damping * w + strength * ((p - y) @ x)
        bend = strength * (x.T @ (x * (p * (1 - p))[:, None])) + np.diag(damping + 1e-12)
        step, size = np.linalg.solve(bend, slope), 1.0
        while (found := height(w - size * step)) > low and size > 1e-4:
            size /= 2
        w = w - size * step
        if low - found < 1e-9 * max(1.0, low):
            break
        low = found
    return w


def _loss(p: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(good, np.log(p), np.log(1 - p))))
