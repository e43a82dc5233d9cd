"""What is known of one pair of models: the probability that each answers a question well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAIN_UNIT = 0.1
"""The general gain is counted in tenths: about its standard deviation, as features are."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models, each by the sha256 of its file, or by the name that a cloud gives it."""

    edge: str
    cloud: str


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Two logistic heads, fitted on questions that both models of `pair` answered."""

    pair: Pair
    weights: NDArray[np.float32]
    """[F + 2, 2]: of the standardised features, of one, and of the general gain; edge, cloud."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The questions, how many, when, and the figures that cross-validation gave."""

    def rate(self, z: NDArray[np.float32], gain: NDArray[np.float32]) -> NDArray[np.float32]:
        """P(good) of both tiers: `z` [rows, F + 1] and `gain` [rows], to [rows, 2]."""
        return sigmoid(inputs(z, gain) @ self.weights)


def inputs(z: NDArray[np.float32], gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the heads of a pair see: [rows, F + 2]."""
    return np.concatenate([z, gain[:, None] / np.float32(GAIN_UNIT)], axis=1)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-logits)), without overflow."""
    p: NDArray[np.float32] = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return p
