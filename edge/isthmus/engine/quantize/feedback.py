"""Rounding with error feedback (GPTQ: Frantar et al., arXiv 2210.17323).

Columns are rounded in order. What one lost, those after it make up for, as far as the inputs go
together in the calibration text; rounding each weight to nearest makes up for nothing.
"""

from __future__ import annotations

import numpy as np

from isthmus.engine.quantize.threads import each
from isthmus.kernels.base import F32, U8, QuantizedWeight
from isthmus.kernels.quantize import round_to_nearest

_DAMPING = 0.1
"""Part of the mean input's power that is added to each. The paper's 0.01 is for 40 times as much
text; with some thousand tokens it fits the text's chance correlations."""
_SPAN = 2048
"""Columns that make up for each other at most: what it costs grows with the cube."""
_BLOCK = 32
"""Columns that are rounded before those after the block hear of it."""
_ROWS = 1024
"""Rows that are worked on at a time: few enough to stay in the processor's cache."""


def factors(inputs: F32, group: int) -> list[F32]:
    """How columns make up for each other, for each span of columns. inputs: [tokens, cols]

    Each is the upper Cholesky factor of the inverse of the inputs' second moments.
    """
    cols = inputs.shape[1]
    found: list[F32] = []
    for span in _spans(cols, group):
        part = inputs[:, span]
        moments = (part.T @ part).astype(np.float64) / len(part)
        diagonal = np.diag_indices(len(moments))
        moments[diagonal] += _DAMPING * moments[diagonal].mean() + 1e-12
        found.append(np.linalg.cholesky(np.linalg.inv(moments)).T.astype(np.float32))
    return found


def round_with_feedback(matrix: F32, factors: list[F32], group: int) -> QuantizedWeight:
    """A matrix [rows, cols] in 4 bits. `factors` are of its inputs and for the same group."""
    spans = _spans(matrix.shape[1], group)

    def some_rows(rows: F32) -> QuantizedWeight:
        parts = [_span(rows[:, s].T, f, group) for s, f in zip(spans, factors, strict=True)]
        return QuantizedWeight(
            4,
            group,
            np.ascontiguousarray(np.concatenate([part.codes for part in parts], axis=1)),
            np.concatenate([part.scales for part in parts], axis=1),
            np.concatenate([part.minimums for part in parts], axis=1),
        )

    found = each(some_rows, np.array_split(matrix, -(-len(matrix) // _ROWS)))
    return QuantizedWeight(
        4,
        group,
        np.concatenate([part.codes for part in found]),
        np.concatenate([part.scales for part in found]),
        np.concatenate([part.minimums for part in found]),
    )


def _spans(cols: int, group: int) -> list[slice]:
    """Whole groups of columns, about equally many in each span."""
    width = -(-cols // -(-cols // _SPAN))
    width = -(-width // group) * group
    return [slice(first, min(first + width, cols)) for first in range(0, cols, width)]


def _span(columns: F32, factor: F32, group: int) -> QuantizedWeight:
    """columns: [cols, rows]; the result is [rows, cols] again."""
    left = np.array(columns, order="C")
    cols, rows = left.shape
    codes: U8 = np.empty((cols, rows), np.uint8)
    scales, minimums = [], []
    for start in range(0, cols, group):
        stop = min(start + group, cols)
        plain = round_to_nearest(np.ascontiguousarray(left[start:stop].T), group=group)
        step, minimum = plain.scales[:, 0], plain.minimums[:, 0]
        scales.append(plain.scales)
        minimums.append(plain.minimums)
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            errors = np.empty((last - first, rows), np.float32)
            for column in range(first, last):
                code = np.clip(np.rint((left[column] - minimum) / step), 0, 15)
                codes[column] = code
                error = (left[column] - (code * step + minimum)) / factor[column, column]
                left[column + 1 : last] -= factor[column, column + 1 : last, None] * error
                errors[column - first] = error
            left[last:] -= factor[first:last, last:].T @ errors
    return QuantizedWeight(4, group, codes.T, np.hstack(scales), np.hstack(minimums))
