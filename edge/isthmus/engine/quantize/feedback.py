"""Rounding with error feedback (GPTQ: Frantar et al., arXiv 2210.17323).

Columns are rounded one after another. What one lost, those after it make up for, as far as the
inputs go together in the calibration text; rounding each weight to nearest makes up for nothing.
The columns with the most powerful inputs come first, while all others can still make up for them,
so that the steps of all groups are chosen before the first column is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.engine.quantize.grid import Grid, best_grid
from isthmus.engine.quantize.moments import Moments
from isthmus.engine.quantize.threads import each
from isthmus.kernels.base import F32, U8, QuantizedWeight

_DAMPING = 0.3
"""Part of the mean input's power that is added to each. The paper's 0.01 is for 40 times as much
text; with some thousand tokens it fits the text's chance correlations."""
_BLOCK = 32
"""Columns that are rounded before those after the block hear of it."""
_ROWS = 1024
"""Rows that are worked on at a time: few enough to stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """How the columns of a matrix make up for each other."""

    power: F32
    """The damped mean square of each input. [cols]"""
    orders: list[NDArray[np.intp]]
    """The columns of each span in the order in which they are rounded."""
    factors: list[F32]
    """For each span the upper Cholesky factor of the inverse of its damped moments, in order."""


def feedback(moments: Moments) -> Feedback:
    """What the inputs' second moments say."""

    def of(seen: F32) -> tuple[NDArray[np.float64], NDArray[np.intp], F32]:
        damped = seen.astype(np.float64) / max(moments.tokens, 1)
        diagonal = np.diag_indices(len(damped))
        damped[diagonal] += _DAMPING * damped[diagonal].mean() + 1e-12
        order = np.argsort(-damped[diagonal], kind="stable")
        inverse = np.linalg.inv(damped[np.ix_(order, order)])
        return damped[diagonal], order, np.linalg.cholesky(inverse).T.astype(np.float32)

    found = each(of, moments.products)
    return Feedback(
        np.concatenate([power for power, _, _ in found]).astype(np.float32),
        [order + span.start for span, (_, order, _) in zip(moments.spans, found, strict=True)],
        [factor for _, _, factor in found],
    )


def round_with_feedback(
    matrix: F32, shared: Feedback, group: int, scales: F32 | None = None
) -> QuantizedWeight:
    """A matrix [rows, cols] in 4 bits; a last group that is short counts as filled up with zeros.

    scales: [rows or 1, cols], what the matrix was multiplied by and its inputs, of which `shared`
    was made, are yet to be divided by.
    """
    if scales is None:
        scales = np.ones((1, matrix.shape[1]), np.float32)
    everywhere = np.broadcast_to(scales, matrix.shape)

    def some_rows(part: slice) -> QuantizedWeight:
        own = scales if len(scales) == 1 else everywhere[part]
        importance: F32 = shared.power / (own * own)
        grid = best_grid(matrix[part], importance, group)
        codes = _codes(matrix[part], own, grid, shared, group)
        return QuantizedWeight(4, group, codes, grid.steps, -grid.zeros * grid.steps)

    parts = [slice(first, first + _ROWS) for first in range(0, len(matrix), _ROWS)]
    found = each(some_rows, parts)
    return QuantizedWeight(
        4,
        group,
        np.concatenate([part.codes for part in found]),
        np.concatenate([part.scales for part in found]),
        np.concatenate([part.minimums for part in found]),
    )


def _codes(matrix: F32, scales: F32, grid: Grid, shared: Feedback, group: int) -> U8:
    """matrix: [rows, cols], scales: [rows or 1, cols]"""
    rows, cols = matrix.shape
    codes: U8 = np.empty((cols, rows), np.uint8)
    steps, zeros = np.ascontiguousarray(grid.steps.T), np.ascontiguousarray(grid.zeros.T)
    for order, factor in zip(shared.orders, shared.factors, strict=True):
        left, scale = matrix.T[order], scales.T[order]
        for first in range(0, len(order), _BLOCK):
            last = min(first + _BLOCK, len(order))
            errors = np.empty((last - first, rows), np.float32)
            for i in range(first, last):
                step, zero = steps[order[i] // group], zeros[order[i] // group]
                code = np.clip(np.rint(left[i] / step) + zero, 0, 15)
                codes[order[i]] = code
                error = (left[i] - (code - zero) * step) / (factor[i, i] * scale[i])
                left[i + 1 : last] -= factor[i, i + 1 : last, None] * scale[i + 1 : last] * error
                errors[i - first] = error
            left[last:] -= (factor[first:last, last:].T @ errors) * scale[last:]
    return np.ascontiguousarray(codes.T)
