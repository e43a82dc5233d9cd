"""Float matrices into few bits: scales in half precision, zero points that are whole steps."""

from __future__ import annotations

import numpy as np

from isthmus.kernels.base import F32, QuantizedWeight

_SMALLEST_SCALE = 1e-6
"""Still a number in half precision."""


def round_to_nearest(matrix: F32, *, group: int, bits: int = 4) -> QuantizedWeight:
    """Each value to the nearest of the `2**bits` steps that span its group's range.

    matrix: [rows, cols]; a last group that is short counts as filled up with zeros. The range
    always holds zero.
    """
    rows, cols = matrix.shape
    grouped = in_groups(matrix, group)
    low = np.minimum(grouped.min(axis=2), 0)
    high = np.maximum(grouped.max(axis=2), 0)
    scales, zeros = steps_over(low, high, bits)
    codes = grouped * (1 / scales)[:, :, None]
    np.rint(codes, out=codes)
    codes += zeros[:, :, None]
    np.clip(codes, 0, (1 << bits) - 1, out=codes)
    flat = codes.astype(np.uint8).reshape(rows, -1)[:, :cols]
    return QuantizedWeight(bits, group, np.ascontiguousarray(flat), scales, -zeros * scales)


def steps_over(low: F32, high: F32, bits: int = 4) -> tuple[F32, F32]:
    """The step and the code of zero of ranges from `low`, at most 0, to `high`, at least 0.

    Steps are numbers in half precision and codes of zero are whole, as AutoAWQ stores them.
    """
    most = (1 << bits) - 1
    steps = np.maximum((high - low) / most, _SMALLEST_SCALE)
    scales: F32 = steps.astype(np.float16).astype(np.float32)
    zeros: F32 = np.clip(np.rint(-low / scales), 0, most).astype(np.float32)
    return scales, zeros


def in_groups(matrix: F32, group: int) -> F32:
    """[rows, cols] -> [rows, groups, group], filled up with zeros"""
    rows, cols = matrix.shape
    missing = -cols % group
    padded = np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix
    return padded.reshape(rows, -1, group)
