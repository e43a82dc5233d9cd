"""Fits what is known of one pair of models on questions that both have answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.router.general import General
from isthmus.router.pair import Calibration, Pair, inputs
from isthmus.router.train import Rows

PENALTIES = (0.001, 0.003, 0.01, 0.03)
"""The strengths (C) that are tried; cross-validation over whole sources picks one a tier."""


def fit_pair(
    general: General, rows: Rows, pair: Pair, provenance: Mapping[str, Any] | None = None
) -> Calibration:
    """The calibration of `pair` on `rows`: `weak` is how good the device's answers were."""
    seen = inputs(general.standard(rows.x), general.gain(rows.x, rows.found))
    heads, told = [], {}
    for name, good in (("edge", rows.weak), ("cloud", rows.strong)):
        penalty, loss, blind = choose(seen, good >= 0.5, rows.source)
        heads.append(_head(seen, good >= 0.5, penalty))
        told[name] = {
            "good": round(float(good.mean()), 4),
            "log_loss": round(loss, 4),
            "log_loss_of_the_mean": round(blind, 4),
            "C": penalty,
        }
    counts = {str(s): int((rows.source == s).sum()) for s in np.unique(rows.source)}
    known = {"rows": len(rows), "sources": counts, **told, **(provenance or {})}
    return Calibration(pair, np.stack(heads, axis=1).astype(np.float32), known)


def choose(
    seen: NDArray[np.float32], good: NDArray[np.bool_], source: NDArray[np.str_]
) -> tuple[float, float, float]:
    """The penalty with the least log loss on sources that were left out, its loss, the mean's."""
    losses = {c: _loss(held_out(seen, good, source, c), good) for c in PENALTIES}
    best = min(losses, key=lambda c: losses[c])
    share = np.full(len(good), good.mean())
    return best, losses[best], _loss(share, good)


def held_out(
    seen: NDArray[np.float32], good: NDArray[np.bool_], source: NDArray[np.str_], penalty: float
) -> NDArray[np.float64]:
    """P(good) of each row by a head that was fitted without the row's source: [rows]."""
    p = np.full(len(good), good.mean())
    for name in np.unique(source):
        left = source == name
        if not left.all():
            logits = seen[left] @ _head(seen[~left], good[~left], penalty)
            p[left] = 1 / (1 + np.exp(-logits))
    return p


def _head(seen: NDArray[np.float32], good: NDArray[np.bool_], penalty: float) -> NDArray[Any]:
    """A logistic line; where all answers are alike, the share with one of each added."""
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros(seen.shape[1])
    one = seen.shape[1] - 2
    if good.all() or not good.any():
        weights[one] = np.log((good.sum() + 1) / ((~good).sum() + 1))
        return weights
    line = LogisticRegression(C=penalty, max_iter=500).fit(seen, good)
    weights[:] = line.coef_[0]
    weights[one] += line.intercept_[0]
    return weights


def _loss(p: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(good, np.log(p), np.log(1 - p))))
