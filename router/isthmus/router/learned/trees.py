"""Boosted trees, evaluated by numpy: several heads in one set of flat arrays.

All trees take a step down at once, so that one row costs `depth` rounds of indexing whatever the
number of trees. A leaf points at itself, which lets short trees wait for long ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 256
"""Rows in one round: what bounds the memory of many."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Heads of boosted trees. A node sends `x[feature] <= threshold` left."""

    feature: NDArray[np.int16]
    """[nodes]"""
    threshold: NDArray[np.float32]
    """[nodes]"""
    left: NDArray[np.int32]
    """[nodes]: the index of a node; its own in a leaf."""
    right: NDArray[np.int32]
    """[nodes]"""
    value: NDArray[np.float32]
    """[nodes]: what a leaf adds."""
    roots: NDArray[np.int32]
    """[trees], the trees of each head side by side."""
    starts: NDArray[np.int32]
    """[heads]: the first tree of each head; no head is without a tree."""
    bias: NDArray[np.float32]
    """[heads]: what each head starts from."""
    depth: int
    """The longest way from a root to a leaf, in steps."""

    def check(self, features: int) -> None:
        """Raise `ValueError` unless every index stays inside and every number is finite."""
        nodes, trees = len(self.feature), len(self.roots)
        arrays = (self.threshold, self.left, self.right, self.value)
        if not nodes or any(len(array) != nodes for array in arrays):
            raise ValueError("the trees' arrays differ in length")
        within = (
            (self.feature, features), (self.left, nodes), (self.right, nodes),
            (self.roots, nodes), (self.starts, trees),
        )  # fmt: skip
        if any(array.size and (array.min() < 0 or array.max() >= end) for array, end in within):
            raise ValueError("a tree points outside")
        if not len(self.starts) or self.starts[0] != 0 or (np.diff(self.starts) < 1).any():
            raise ValueError("the trees' heads are out of order")
        if len(self.bias) != len(self.starts) or not 0 <= self.depth <= 64:
            raise ValueError("the trees' heads do not fit together")
        if not all(np.isfinite(array).all() for array in (self.threshold, self.value, self.bias)):
            raise ValueError("a tree holds a number that is not finite")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The value of each head for each row: [rows, features] to [rows, heads]."""
        parts = [self._some(x[at : at + ROWS_AT_ONCE]) for at in range(0, len(x), ROWS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.starts)), np.float32)

    def _some(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        flat, width = x.ravel(), np.int32(x.shape[1])
        offsets = (np.arange(len(x), dtype=np.int32) * width)[:, None]
        at = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        for _ in range(self.depth):
            low = flat[offsets + self.feature[at]] <= self.threshold[at]
            at = np.where(low, self.left[at], self.right[at])
        return np.add.reduceat(self.value[at], self.starts, axis=1) + self.bias


def forest(heads: Sequence[Any]) -> Forest:
    """The trees of fitted `HistGradientBoostingRegressor`s, one head each, for float32 rows.

    scikit-learn compares in float64. Each threshold is rounded down to float32 here, which changes
    no comparison with a float32 feature.
    """
    parts: list[Any] = []
    roots: list[int] = []
    starts: list[int] = []
    nodes = depth = 0
    for head in heads:
        starts.append(len(roots))
        for (predictor,) in head._predictors:
            parts.append(predictor.nodes)
            roots.append(nodes)
            nodes += len(predictor.nodes)
            depth = max(depth, int(predictor.nodes["depth"].max()))
    table = np.concatenate(parts)
    offsets = np.repeat(roots, [len(part) for part in parts])
    leaf, own = table["is_leaf"].astype(bool), np.arange(nodes)
    return Forest(
        feature=np.where(leaf, 0, table["feature_idx"]).astype(np.int16),
        threshold=np.where(leaf, 0, _down(table["num_threshold"])).astype(np.float32),
        left=np.where(leaf, own, table["left"] + offsets).astype(np.int32),
        right=np.where(leaf, own, table["right"] + offsets).astype(np.int32),
        value=np.where(leaf, table["value"], 0).astype(np.float32),
        roots=np.array(roots, np.int32),
        starts=np.array(starts, np.int32),
        bias=np.array(
            [float(np.ravel(head._baseline_prediction)[0]) for head in heads], np.float32
        ),
        depth=depth,
    )


def _down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 that is at most each value."""
    largest = np.finfo(np.float32).max
    rounded = np.clip(values, -largest, largest).astype(np.float32)
    below: NDArray[np.float32] = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > values, below, rounded)
