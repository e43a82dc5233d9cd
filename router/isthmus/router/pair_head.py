"""What is learnt of one pair of models from its own labels: a few hundred rows, numpy alone.

P(the device's answer is right) and P(the cloud's is), from the hand features and hashed words.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from isthmus.router import ridge
from isthmus.router.features import features
from isthmus.router.question import parse
from isthmus.router.ridge import F64

_BINS = 256
_PIECE = re.compile(r"[a-z]+|\d|[\u3400-\u9fff]|[^\sa-z\d]")


@dataclass(frozen=True, slots=True)
class PairHead:
    """The weights of two logits. Made by `fit`."""

    weights: F64
    """[features + 1, 2]: the device, the cloud; the intercept last."""

    def rate(self, prompts: Sequence[str]) -> tuple[F64, F64]:
        """P(edge is right) and P(cloud is right) for each prompt."""
        logits = table(prompts) @ self.weights[:-1] + self.weights[-1]
        edge, cloud = 1 / (1 + np.exp(-np.clip(logits.T, -30, 30)))
        return edge, cloud

    def score(self, prompts: Sequence[str]) -> F64:
        """What the cloud is expected to gain: higher means escalate."""
        edge, cloud = self.rate(prompts)
        return cloud - edge


def fit(prompts: Sequence[str], edge: F64, cloud: F64) -> PairHead:
    """Learn from who was right (0 or 1) on each prompt."""
    return PairHead(ridge.fit(table(prompts), (edge, cloud)))


def table(prompts: Sequence[str]) -> F64:
    """The features of each prompt. [prompts, features]"""
    return np.stack([_vector_of(prompt) for prompt in prompts])


def _vector_of(prompt: str) -> F64:
    """Hand features, and how often each bin of hashed words and pairs of words occurs (log)."""
    counts = np.zeros(_BINS)
    question = parse(prompt)
    pieces = _PIECE.findall(question.text.lower())
    for piece in (*pieces, *map(" ".join, pairwise(pieces))):
        counts[zlib.crc32(piece.encode("utf-8", "surrogatepass")) % _BINS] += 1
    length = max(1.0, float(np.sqrt(len(pieces))))
    return np.concatenate([features(question).astype(np.float64), np.log1p(counts) / length])
