"""The native backend's weights: packed in tiles of 8 rows by one column block.

kernels/native/kernels.hpp draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from isthmus.kernels.base import (
    F32,
    U8,
    QuantizedWeight,
)

_ROWS = 8
_BLOCK = 32
_PART_VALUES = 1 << 20
"""Values packed at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedTiles:
    """A weight in tiles of 8 rows by one column block."""

    data: U8
    """[bytes] as kernels.hpp draws it"""
    rows: int
    cols: int
    bits: int
    """4 or 8"""
    block: int
    """columns that share a scale: 32, or 16 for finer 8-bit weights"""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.data.nbytes

    def state(self) -> tuple[dict[str, int], U8]:
        """What `NativeBackend.restore` needs."""
        shape = {"rows": self.rows, "cols": self.cols, "bits": self.bits, "block": self.block}
        return shape, self.data


def pack_weight(weight: QuantizedWeight) -> PackedTiles:
    """Repack a weight into tiles. Scales and minimums are rounded to half precision.

    4-bit weights in groups of 32 or more and symmetric ones in groups of 16 or more keep their
    codes; whatever else the canonical form allows is quantized again to symmetric 8 bits in
    groups of 32, which costs at most 1/254 of a group's largest value.
    """
    rows, cols = weight.rows, weight.cols
    if weight.bits == 4 and weight.group % _BLOCK == 0:
        return PackedTiles(_in_parts(weight, _pack4), rows, cols, 4, _BLOCK)
    centre = 1 << (weight.bits - 1)
    symmetric = np.array_equal(weight.minimums, -centre * weight.scales)
    # The AVX2 kernel moves the sign of an activation to the weight: -128 has no negative.
    if symmetric and (weight.bits < 8 or weight.codes.min(initial=1) > 0):
        block = min(weight.group, _BLOCK)
        pack8 = _pack_halved if block == _BLOCK else _pack8
        return PackedTiles(_in_parts(weight, pack8), rows, cols, 8, block)
    rounded = _in_parts(
        weight, lambda part: _pack_halved(QuantizedWeight.quantize8(part.dequantize()))
    )
    return PackedTiles(rounded, rows, cols, 8, _BLOCK)


Sections = tuple[U8, ...]
"""What follows each other in a packed weight, each [row blocks, …]"""


def _in_parts(weight: QuantizedWeight, pack_rows: Callable[[QuantizedWeight], Sections]) -> U8:
    """Pack some rows at a time, so that temporaries stay small beside the result. [bytes]"""
    count = -(-weight.rows // _ROWS)
    step = max(1, _PART_VALUES // (_ROWS * weight.cols))
    whole: U8 = np.empty(0, np.uint8)
    sections: list[U8] = []
    for first in range(0, count, step):
        last = min(first + step, count)
        parts = [
            part.reshape(last - first, -1)
            for part in pack_rows(weight.part(first * _ROWS, last * _ROWS))
        ]
        if not sections:
            ends = np.cumsum([0, *(count * part.shape[1] for part in parts)])
            whole = np.empty(ends[-1], np.uint8)
            sections = [whole[a:b].reshape(count, -1) for a, b in pairwise(ends)]
        for section, part in zip(sections, parts, strict=True):
            section[first:last] = part
    return whole


def _half_columns(values: F32, group: int, block: int, rows: int, blocks: int) -> U8:
    """Scales or minimums of every tile, as bytes. [row blocks, blocks, 16]"""
    spread = np.repeat(values, group // block, axis=1)
    half = np.zeros((rows, blocks), np.float16)
    width = min(blocks, spread.shape[1])
    half[: spread.shape[0], :width] = spread[:, :width]
    tiles = half.reshape(-1, _ROWS, blocks).transpose(0, 2, 1)
    return np.ascontiguousarray(tiles).view(np.uint8)


def _tiles(codes: U8, block: int) -> U8:
    """Codes in the order of a tile. [row blocks, blocks, block / 4, 8 rows, 4 columns]"""
    rows, cols = codes.shape
    split = codes.reshape(rows // _ROWS, _ROWS, cols // block, block // 4, 4)
    return split.transpose(0, 2, 3, 1, 4)


def _padded(codes: U8) -> U8:
    rows, cols = codes.shape
    out = np.zeros((-rows % _ROWS + rows, -cols % _BLOCK + cols), codes.dtype)
    out[:rows, :cols] = codes
    return out


def _nibbles(codes: U8) -> U8:
    """Codes below 16 of padded rows and columns, two in a byte. [row blocks, blocks, 128]"""
    tiles = _tiles(codes, _BLOCK)
    packed: U8 = tiles[:, :, :4] | (tiles[:, :, 4:] << np.uint8(4))
    return packed.reshape(packed.shape[0], packed.shape[1], 128)


def _pack4(weight: QuantizedWeight) -> Sections:
    """Tiles of 4 bits."""
    padded = _padded(weight.codes)
    rows, blocks = padded.shape[0], padded.shape[1] // _BLOCK
    halves = [
        _half_columns(values, weight.group, _BLOCK, rows, blocks)
        for values in (weight.scales, weight.minimums)
    ]
    return (np.concatenate([*halves, _nibbles(padded)], axis=2),)


def _pack8(weight: QuantizedWeight) -> Sections:
    """Tiles of 8 bits, 16 columns to a scale."""
    # As two's complement: unsigned numbers wrap.
    padded = _padded(weight.codes - np.uint8(1 << (weight.bits - 1)))
    rows, blocks = padded.shape[0], padded.shape[1] // 16
    tiles = _tiles(padded, 16).reshape(-1, blocks, _ROWS * 16)
    halves = _half_columns(weight.scales, weight.group, 16, rows, blocks)
    return (np.concatenate([halves, tiles], axis=2),)


def _pack_halved(weight: QuantizedWeight) -> Sections:
    """8 bits as a matrix of 4 bits that is near to it, and the low halves of its codes."""
    unsigned: U8 = weight.codes + np.uint8(128 - (1 << (weight.bits - 1)))
    high: U8 = unsigned >> np.uint8(4)
    low: U8 = unsigned & np.uint8(15)
    padded = _padded(high)
    rows, blocks = padded.shape[0], padded.shape[1] // _BLOCK
    scales = _half_columns(weight.scales, weight.group, _BLOCK, rows, blocks)
    tiles = np.concatenate([scales, _nibbles(padded)], axis=2)
    # The high half alone takes every low nibble for 7.5.
    missing = (low - np.float32(7.5)) * np.repeat(weight.scales, weight.group, axis=1)[
        :, : weight.cols
    ]
    residuals = np.zeros(rows, np.float32)
    residuals[: weight.rows] = np.sqrt((missing * missing).sum(axis=1))
    return tiles, _nibbles(_padded(low)), residuals.view(np.uint8).reshape(-1, 4 * _ROWS)
