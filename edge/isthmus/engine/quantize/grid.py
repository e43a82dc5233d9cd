"""The steps of each group of weights: spanning its range, or less where that rounds better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.kernels.base import F32
from isthmus.kernels.quantize import in_groups, steps_over

_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Parts of its range that a group's steps may span. What lies outside is cut off, and everything
inside is rounded more finely (the clipping of AWQ's section 3.2)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that a matrix may hold: `steps * (code - zeros)`, codes 0 to 15."""

    steps: F32
    """[rows, groups]"""
    zeros: F32
    """Whole numbers. [rows, groups]"""


def best_grid(matrix: F32, importance: F32, group: int) -> Grid:
    """The grid with the least squared error of rounding, weighted by the column's importance.

    matrix: [rows, cols], importance: [rows or 1, cols]
    """
    grouped = in_groups(matrix, group)
    weights = in_groups(importance, group)
    low = np.minimum(grouped.min(axis=2), 0)
    high = np.maximum(grouped.max(axis=2), 0)
    least = np.full(low.shape, np.inf, np.float32)
    steps, zeros = np.empty_like(low), np.empty_like(low)
    for shrink in _SHRINKS:
        step, zero = steps_over(low * np.float32(shrink), high * np.float32(shrink))
        off = grouped * (1 / step)[:, :, None]
        off -= np.clip(np.rint(off), -zero[:, :, None], 15 - zero[:, :, None])
        off *= off
        off *= weights
        error: F32 = step * step * off.sum(axis=2)
        better = error < least
        least = np.where(better, error, least)
        steps, zeros = np.where(better, step, steps), np.where(better, zero, zeros)
    return Grid(steps, zeros)
