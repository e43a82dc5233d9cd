"""AutoAWQ's layout of a 4-bit linear layer ("gemm"), to the canonical form and back.

A layer of `rows` output and `cols` input features is three tensors: `qweight` [cols, rows / 8]
int32, `qzeros` [groups, rows / 8] int32 and `scales` [groups, rows] float16, with
`w = scales * (q - zeros)`. Nibble i of an int32, the lowest first, is output 8 n + `_ORDER[i]`
(the order that AutoAWQ's kernels unpack fastest). The last group may be short.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.kernels.base import F32, U8, QuantizedWeight

_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
PER_WORD = 8
"""Outputs in one int32."""
BITS = 4

Words = NDArray[np.int32]


def unpack(qweight: Words, qzeros: Words, scales: F32, group: int) -> QuantizedWeight:
    """The canonical form. Shapes as above; `scales` as float32."""
    codes = np.ascontiguousarray(_nibbles(qweight).T)
    zeros = _nibbles(qzeros).T.astype(np.float32)
    steps = np.ascontiguousarray(scales.T)
    return QuantizedWeight(BITS, group, codes, steps, -zeros * steps)


def pack(weight: QuantizedWeight) -> tuple[Words, Words, NDArray[np.float16]]:
    """`qweight`, `qzeros` and `scales` of a weight whose minimums are whole steps below zero.

    Raises ValueError for another form: AutoAWQ has no place for it.
    """
    steps = np.where(weight.scales == 0, 1, weight.scales)
    zeros = np.rint(-weight.minimums / steps)
    whole = np.allclose(-zeros * weight.scales, weight.minimums, rtol=1e-3, atol=1e-12)
    if weight.bits != BITS or weight.rows % PER_WORD or not whole or zeros.min() < 0:
        raise ValueError("only 4-bit weights with whole zero points fit, in multiples of 8 rows")
    halves = np.ascontiguousarray(weight.scales.T.astype(np.float16))
    return _words(weight.codes.T), _words(zeros.T.astype(np.uint8)), halves


def _nibbles(words: Words) -> U8:
    """[n, rows / 8] int32 -> [n, rows] uint8"""
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1, 4)
    # In a little-endian word the bytes come lowest first, and of each the low nibble.
    pairs = np.stack([raw & np.uint8(0x0F), raw >> np.uint8(4)], axis=-1)
    out = np.empty((len(words), raw.shape[1], PER_WORD), np.uint8)
    out[:, :, _ORDER] = pairs.reshape(len(words), -1, PER_WORD)
    return out.reshape(len(words), -1)


def _words(codes: U8) -> Words:
    """[n, rows] uint8 -> [n, rows / 8] int32"""
    ordered = codes.reshape(len(codes), -1, PER_WORD)[:, :, _ORDER]
    raw = ordered[:, :, 0::2] | (ordered[:, :, 1::2] << np.uint8(4))
    return np.ascontiguousarray(raw).reshape(len(codes), -1).view("<i4")
