"""What a product's inputs have in common, summed up as they go by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from isthmus.kernels.base import F32

_SPAN = 2048
"""Columns that are looked at together at most: what that costs grows with the cube."""
_LARGEST_GROUP = 128


@dataclass(slots=True)
class Moments:
    """Second moments of inputs, and their mean size. It takes the same room for any text."""

    tokens: int = 0
    spans: list[slice] = field(default_factory=list)
    """About equally many columns in each, and whole groups."""
    products: list[F32] = field(default_factory=list)
    """For each span the sum over tokens of every input times every other. [span, span]"""
    sizes: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    """The sum over tokens of each input without its sign. [cols]"""

    @staticmethod
    def of(inputs: F32) -> Moments:
        """inputs: [tokens, cols]"""
        spans = _spans(inputs.shape[1])
        products = [inputs[:, span].T @ inputs[:, span] for span in spans]
        return Moments(len(inputs), spans, products, np.abs(inputs).sum(axis=0))

    def __add__(self, other: Moments) -> Moments:
        if not self.tokens or not other.tokens:
            return self if self.tokens else other
        products = [a + b for a, b in zip(self.products, other.products, strict=True)]
        return Moments(self.tokens + other.tokens, self.spans, products, self.sizes + other.sizes)

    def error(self, off: F32) -> F32:
        """How much power a matrix that is off by `off` adds to each output. [rows, cols] -> [rows]

        Inputs in different spans count as unrelated.
        """
        parts = [
            np.einsum("rc,rc->r", off[:, span] @ product, off[:, span])
            for span, product in zip(self.spans, self.products, strict=True)
        ]
        total: F32 = np.sum(parts, axis=0)
        return total


def _spans(cols: int) -> list[slice]:
    width = -(-cols // -(-cols // _SPAN))
    width = -(-width // _LARGEST_GROUP) * _LARGEST_GROUP
    return [slice(first, min(first + width, cols)) for first in range(0, cols, width)]
