"""What published results of pairs of models say about a question: the gain of the larger one.

Heads fitted on all rows rate the gain, `strong - weak`, that the larger model of a pair brought:
trees over the features, and a line over n-grams. A kind of questions with rows enough has heads of
its own beside them, which count as much as a question looks like that kind. Those of a small kind
order its questions alone and say nothing of its mean: that is left to the heads of all rows, so
that what one small source teaches does not mislead about another (docs/routing.md). None of these
pairs is the user's: the gain orders questions, it is no probability of the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.features import NAMES
from isthmus.router.learned.ngrams import BINS, Grams, weigh
from isthmus.router.learned.section import Section
from isthmus.router.learned.trees import Forest

SECTION = "general"
_ARRAYS = ("mean", "scale", "gate", "line", "ngrams", "ngram_scale", "ngram_bias", "blend")
_TREES = ("feature", "threshold", "left", "right", "value", "roots", "starts", "bias")

PARTS = ("kind_trees", "kind_line", "kind_ngrams", "all_trees", "all_ngrams")
"""What is blended, in the order of `General.blend`."""
OWN_PARTS = 3
"""The first of them, which are fitted on a kind's own rows."""
CLIP = 5.0
"""How far from the mean a standardised feature counts, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class General:
    """The fitted heads. K kinds of their own, F features; the last column is for all others."""

    kinds: tuple[str, ...]
    mean: NDArray[np.float32]
    """[F]"""
    scale: NDArray[np.float32]
    """[F]: one over the standard deviation."""
    gate: NDArray[np.float32]
    """[F + 1, K + 1]: the logit of each kind and of all others, the intercept last."""
    line: NDArray[np.float32]
    """[F + 1, K]"""
    trees: Forest
    """K + 1 heads."""
    ngrams: NDArray[np.int8]
    """[BINS, K + 1]"""
    ngram_scale: NDArray[np.float32]
    """[K + 1]: what a unit of an n-gram's weight is worth."""
    ngram_bias: NDArray[np.float32]
    """[K + 1]"""
    blend: NDArray[np.float32]
    """[K + 1, PARTS]: for each kind, and last for all others, which have no parts of their own."""

    def standard(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardised features with a one at the end: [rows, F] to [rows, F + 1]."""
        z = np.clip((x - self.mean) * self.scale, -CLIP, CLIP)
        return np.concatenate([z, np.ones((len(x), 1), np.float32)], axis=1)

    def gain(self, x: NDArray[np.float32], found: Sequence[Grams]) -> NDArray[np.float32]:
        """The gain to expect of a larger model: [rows]. Kinds are weighed by likeness."""
        z = self.standard(x)
        likeness = softmax(z @ self.gate)
        trees = self.trees(x)
        weighed = np.array([weigh(self.ngrams, one) for one in found], np.float32)
        grams = weighed.reshape(len(x), -1) * self.ngram_scale + self.ngram_bias
        parts = (trees[:, :-1], z @ self.line, grams[:, :-1])
        counts = self.blend[:-1, :OWN_PARTS].T
        own = sum(count * part for count, part in zip(counts, parts, strict=True))
        both = np.stack([trees[:, -1], grams[:, -1]], axis=1)
        gain: NDArray[np.float32] = (likeness[:, :-1] * own).sum(axis=1)
        gain += (likeness @ self.blend[:, OWN_PARTS:] * both).sum(axis=1)
        return gain

    def section(self) -> Section:
        """What `of` reads."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"trees.{name}": getattr(self.trees, name) for name in _TREES}
        says = {"features": list(NAMES), "kinds": list(self.kinds), "depth": self.trees.depth}
        return Section(says, arrays)

    @classmethod
    def of(cls, section: Section) -> General:
        """The heads of a trained file. Raises `ValueError` for a section that makes no sense."""
        try:
            if tuple(section.says["features"]) != NAMES:
                raise ValueError("it was trained on other features: train it again")
            kinds, depth = tuple(map(str, section.says["kinds"])), int(section.says["depth"])
            read = {name: section.arrays[name] for name in _ARRAYS}
            trees = Forest(
                **{name: section.arrays[f"trees.{name}"] for name in _TREES}, depth=depth
            )
        except (KeyError, TypeError):
            raise ValueError("its general heads lack something") from None
        trees.check(len(NAMES))
        f, k = len(NAMES), len(kinds)
        shapes = {
            "mean": (f,), "scale": (f,), "gate": (f + 1, k + 1), "line": (f + 1, k),
            "ngrams": (BINS, k + 1), "ngram_scale": (k + 1,), "ngram_bias": (k + 1,),
            "blend": (k + 1, len(PARTS)),
        }  # fmt: skip
        wrong = any(read[name].shape != shape for name, shape in shapes.items())
        if wrong or trees.starts.shape != (k + 1,):
            raise ValueError("an array of its general heads has the wrong shape")
        return cls(kinds=kinds, trees=trees, **read)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row's exponentials over their sum: [rows, K]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return total
