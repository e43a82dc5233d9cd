"""What published results of pairs of models say about a question: the gain of the larger one.

Questions come in kinds: the sources of the labelled rows, those that ask the same questions taken
together. Each kind has heads of its own for the gain, `strong - weak`, that the larger model of
its pair brought: trees and a line over the features, a line over n-grams. A question is rated by
all kinds, each as much as the question looks like it, together with heads fitted on all rows.
None of these pairs is the user's: the gain orders questions, it is no probability of the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.router.ngrams import Grams, weigh
from isthmus.router.trees import Forest

PARTS = ("kind_trees", "kind_line", "kind_ngrams", "all_trees", "all_ngrams")
"""What is blended, in the order of `General.blend`."""
CLIP = 5.0
"""How far from the mean a standardised feature counts, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class General:
    """The fitted heads. K kinds, F features; the last column of trees and n-grams is for all."""

    kinds: tuple[str, ...]
    mean: NDArray[np.float32]
    """[F]"""
    scale: NDArray[np.float32]
    """[F]: one over the standard deviation."""
    gate: NDArray[np.float32]
    """[F + 1, K]: the logit of each kind, the intercept last."""
    line: NDArray[np.float32]
    """[F + 1, K]"""
    trees: Forest
    """K + 1 heads."""
    ngrams: NDArray[np.int8]
    """[BINS, K + 1]: noughts for a kind with few rows."""
    ngram_scale: NDArray[np.float32]
    """[K + 1]: what a unit of an n-gram's weight is worth."""
    ngram_bias: NDArray[np.float32]
    """[K + 1]"""
    blend: NDArray[np.float32]
    """[PARTS]"""

    def standard(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised features with a one at the end: [rows, F] to [rows, F + 1]."""
        z = np.clip((x - self.mean) * self.scale, -CLIP, CLIP)
        return np.concatenate([z, np.ones((len(x), 1), np.float32)], axis=1)

    def parts(self, x: NDArray[np.float32], found: Sequence[Grams]) -> NDArray[np.float32]:
        """Each part's estimate of the gain: [rows, PARTS]."""
        z = self.standard(x)
        likeness = softmax(z @ self.gate)
        trees = self.trees(x)
        weighed = np.array([weigh(self.ngrams, one) for one in found], np.float32)
        grams = weighed.reshape(len(x), -1) * self.ngram_scale + self.ngram_bias
        own = [
            (likeness * each).sum(axis=1) for each in (trees[:, :-1], z @ self.line, grams[:, :-1])
        ]
        return np.stack([*own, trees[:, -1], grams[:, -1]], axis=1)

    def gain(self, x: NDArray[np.float32], found: Sequence[Grams]) -> NDArray[np.float32]:
        """The gain to expect of a larger model: [rows]."""
        return self.parts(x, found) @ self.blend


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row's exponentials over their sum: [rows, K]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return total
