"""What is known of one pair of models: the probability that each answers a question well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.features import NAMES
from isthmus.router.learned.ngrams import HALF, Grams
from isthmus.router.learned.section import Section

SECTION = "pairs"
GAIN_UNIT = 0.1
"""The general gain is counted in tenths: about its standard deviation, as features are."""
WORD_BINS, WORD_UNIT = 256, 8.0
"""Hashed words: how many sums, and what brings them to about the features' spread."""
INPUTS = len(NAMES) + 2 + WORD_BINS
"""The standardised features, one, the general gain, the sums of words."""


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
    """[INPUTS, 2]: edge, cloud."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The questions, how many, when, and the figures that cross-validation gave."""

    def rate(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """P(good) of both tiers: `inputs` [rows, INPUTS] to [rows, 2]."""
        return sigmoid(seen @ self.weights)


def section(known: Sequence[Calibration]) -> Section:
    """What `read` reads."""
    says = [
        {"edge": one.pair.edge, "cloud": one.pair.cloud, "provenance": dict(one.provenance)}
        for one in known
    ]
    return Section({"pairs": says}, {f"weights{at}": one.weights for at, one in enumerate(known)})


def read(section: Section | None) -> tuple[Calibration, ...]:
    """The pairs of a trained file. Raises `ValueError` for a section that makes no sense."""
    if section is None:
        return ()
    try:
        known = tuple(
            Calibration(
                Pair(str(told["edge"]), str(told["cloud"])),
                section.arrays[f"weights{at}"],
                dict(told["provenance"]),
            )
            for at, told in enumerate(section.says["pairs"])
        )
    except (KeyError, TypeError, ValueError):
        raise ValueError("its pairs lack something") from None
    if any(one.weights.shape != (INPUTS, 2) for one in known):
        raise ValueError("the weights of a pair have the wrong shape")
    return known


def inputs(
    z: NDArray[np.float32], gain: NDArray[np.float32], found: Sequence[Grams]
) -> NDArray[np.float32]:
    """What the heads of a pair see: [rows, INPUTS].

    A few hundred labelled questions bear no weight for each word: `WORD_BINS` sums of words and
    pairs of words stand for them.
    """
    words = np.zeros((len(found), WORD_BINS), np.float32)
    for row, one in zip(words, found, strict=True):
        counts = np.bincount(one.words * WORD_BINS // HALF, minlength=WORD_BINS)
        row[:] = counts * (WORD_UNIT / max(1.0, one.words.size**0.5))
    return np.concatenate([z, gain[:, None] / np.float32(GAIN_UNIT), words], axis=1)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-logits)), without overflow."""
    p: NDArray[np.float32] = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return p
