"""What is learnt of one pair of models from its own labels: a few hundred rows, numpy alone.

Two logistic regressions with ridge penalty, P(edge is right) and P(cloud is right), on the hand
features and on hashed pieces of the prompt (`vector_of`). The penalty is chosen by cross-validation
within the rows that it is fitted on.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isthmus.router.features import features
from isthmus.router.question import parse

F64 = NDArray[np.float64]

_BINS = 256
_PENALTIES = tuple(10.0**power for power in np.arange(1, 5.1, 0.5))
_NEWTON_STEPS = 12
_PIECE = re.compile(r"[a-z]+|\d|[\u3400-\u9fff]|[^\sa-z\d]")


@dataclass(frozen=True, slots=True)
class PairHead:
    """The two regressions. Made by `fit`."""

    mean: F64
    scale: F64
    edge: F64
    """[features + 1], the last one the intercept"""
    cloud: F64

    def rate(self, prompts: Sequence[str]) -> tuple[F64, F64]:
        """P(edge is right) and P(cloud is right) for each prompt."""
        x = (table(prompts) - self.mean) / self.scale
        return _probability(x, self.edge), _probability(x, self.cloud)

    def score(self, prompts: Sequence[str]) -> F64:
        """What the cloud is expected to gain: higher means escalate."""
        edge, cloud = self.rate(prompts)
        return cloud - edge


def fit(prompts: Sequence[str], edge: F64, cloud: F64) -> PairHead:
    """Learn from who was right (0 or 1) on each prompt."""
    x = table(prompts)
    mean, scale = x.mean(0), x.std(0)
    # What (almost) never varies here says nothing, and would say anything elsewhere.
    scale = np.where(scale > 1e-3, scale, np.inf)
    return PairHead(mean, scale, *_regressions((x - mean) / scale, (edge, cloud)))


def table(prompts: Sequence[str]) -> F64:
    """The features of each prompt. [prompts, features]"""
    return np.stack([vector_of(prompt) for prompt in prompts])


def vector_of(prompt: str) -> F64:
    """Hand features, and how often each bin of hashed words and pairs of words occurs (log)."""
    counts = np.zeros(_BINS)
    question = parse(prompt)
    pieces = _PIECE.findall(question.text.lower())
    for piece in (*pieces, *map(" ".join, pairwise(pieces))):
        counts[zlib.crc32(piece.encode("utf-8", "surrogatepass")) % _BINS] += 1
    length = max(1.0, float(np.sqrt(len(pieces))))
    return np.concatenate([features(question).astype(np.float64), np.log1p(counts) / length])


def _regressions(x: F64, targets: Sequence[F64]) -> list[F64]:
    """Ridge regressions on the same rows. The intercept is not penalised.

    All penalties' leave-one-out errors come from one decomposition (Golub, Heath and Wahba 1979);
    the left-out predictions of the best one are what the probability is scaled on, so that it is
    not surer than it should be.
    """
    centre = x - x.mean(0)
    squares, axes = np.linalg.eigh(centre.T @ centre)
    squares = np.maximum(squares, 0.0)
    on_axes = centre @ axes
    found = []
    for y in targets:
        centred = y - y.mean()
        projected = on_axes.T @ centred
        best: tuple[float, F64, F64] | None = None
        for penalty in _PENALTIES:
            leverage = np.minimum((on_axes**2) @ (1 / (squares + penalty)) + 1 / len(y), 0.99)
            fitted = on_axes @ (projected / (squares + penalty))
            left_out = y - (centred - fitted) / (1 - leverage)
            error = float(((y - left_out) ** 2).mean())
            if best is None or error < best[0]:
                best = error, left_out, axes @ (projected / (squares + penalty))
        assert best is not None
        _, left_out, weights = best
        slope, offset = _platt(left_out, y)
        at_zero = y.mean() - float(x.mean(0) @ weights)
        found.append(np.append(slope * weights, slope * at_zero + offset))
    return found


def _platt(scores: F64, y: F64) -> tuple[float, float]:
    """Slope and offset of the logistic curve through `scores` (Platt 1999), by Newton's method.

    Scores that order nothing, or the wrong way round, get a flat curve at the mean.
    """
    smoothed = (y * len(y) + 0.5) / (len(y) + 1.0)  # never quite 0 or 1
    mean, spread = float(scores.mean()), float(scores.std())
    flat = 0.0, float(np.log(smoothed.mean() / (1 - smoothed.mean())))
    if spread < 1e-9 or np.corrcoef(scores, y)[0, 1] <= 0:
        return flat
    x = np.stack([(scores - mean) / spread, np.ones(len(y))], axis=1)
    weights = np.array(flat)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.eye(2)
        weights = weights + np.linalg.solve(hessian, x.T @ (smoothed - p) - weights * (1, 0))
    slope = float(weights[0]) / spread
    return slope, float(weights[1]) - slope * mean


def _probability(x: F64, weights: F64) -> F64:
    probability: F64 = 1 / (1 + np.exp(-np.clip(x @ weights[:-1] + weights[-1], -30, 30)))
    return probability
