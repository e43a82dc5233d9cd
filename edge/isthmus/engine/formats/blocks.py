"""GGUF's tensor types, turned into the one canonical form without loss.

The layouts are those of ggml's `block_*` structures (ggml-common.h). Every canonical value equals
what `gguf.quants.dequantize` gives, bit for bit; unquantized matrices are the exception: they are
rounded to 8 bits in groups of 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.engine.errors import ModelDamaged
from isthmus.kernels.base import F32, U8, QuantizedWeight

_CHUNK_VALUES = 1 << 22
"""Values converted at a time, so that temporaries stay small beside the result."""

Parts = tuple[U8, F32, F32]
"""codes [blocks, block], scales and minimums [blocks, block / group]"""


@dataclass(frozen=True, slots=True)
class TensorType:
    """How one GGUF type lays out `block` values in `block_bytes` bytes."""

    name: str
    block: int
    block_bytes: int
    bits: int
    group: int
    unpack: Callable[[U8], Parts]
    """blocks: [blocks, block_bytes] uint8 -> `Parts`"""

    def row_bytes(self, cols: int) -> int:
        """Bytes of one row of `cols` values; `cols` must be a multiple of `block`."""
        return cols // self.block * self.block_bytes


def _half(raw: U8) -> F32:
    """raw: [blocks, 2] -> [blocks, 1] float32"""
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _nibbles(raw: U8) -> U8:
    """All low nibbles, then all high ones. raw: [..., n] -> [..., 2 n]"""
    return np.concatenate([raw & np.uint8(0x0F), raw >> np.uint8(4)], axis=-1)


def _q4_0(blocks: U8) -> Parts:
    scale = _half(blocks[:, :2])
    return _nibbles(blocks[:, 2:]), scale, -8 * scale


def _q4_1(blocks: U8) -> Parts:
    return _nibbles(blocks[:, 4:]), _half(blocks[:, :2]), _half(blocks[:, 2:4])


def _q8_0(blocks: U8) -> Parts:
    scale = _half(blocks[:, :2])
    # Flipping the top bit adds 128 to a two's complement byte.
    return blocks[:, 2:] ^ np.uint8(0x80), scale, -128 * scale


def _q4_k(blocks: U8) -> Parts:
    count = len(blocks)
    low, middle, high = np.split(blocks[:, 4:16], 3, axis=-1)
    scale = np.concatenate([low & 0x3F, (high & 0x0F) | ((low >> 2) & 0x30)], axis=-1)
    minimum = np.concatenate([middle & 0x3F, (high >> 4) | ((middle >> 2) & 0x30)], axis=-1)
    codes = _nibbles(blocks[:, 16:].reshape(count, 4, 32)).reshape(count, 256)
    return codes, _half(blocks[:, :2]) * scale, -(_half(blocks[:, 2:4]) * minimum)


def _q6_k(blocks: U8) -> Parts:
    count = len(blocks)
    low = _nibbles(blocks[:, :128].reshape(count, 2, 64)).reshape(count, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8).reshape(1, 1, 4, 1)
    high = (blocks[:, 128:192].reshape(count, 2, 1, 32) >> shifts) & np.uint8(0x03)
    codes = (low | (high << np.uint8(4))).reshape(count, 256)
    scale = _half(blocks[:, 208:]) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return codes, scale, -32 * scale


def _rounded(values: F32) -> Parts:
    """Round to 8 bits. values: [groups, 32] float32"""
    minimum = values.min(axis=-1, keepdims=True)
    scale = (values.max(axis=-1, keepdims=True) - minimum) / np.float32(255)
    # A constant group has no step: its codes are zero and its minimum says all.
    codes = np.rint((values - minimum) / np.where(scale > 0, scale, 1))
    return np.clip(codes, 0, 255).astype(np.uint8), scale, minimum


def _floats(raw: U8, name: str) -> F32:
    """raw: [n, bytes] of type `name` -> [n, values] float32"""
    if name == "F32":
        return raw.view(np.float32)
    if name == "F16":
        return raw.view(np.float16).astype(np.float32)
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _unquantized(name: str, value_bytes: int) -> TensorType:
    return TensorType(
        name, 32, 32 * value_bytes, 8, 32, lambda blocks: _rounded(_floats(blocks, name))
    )


TENSOR_TYPES = {
    kind.name: kind
    for kind in (
        _unquantized("F32", 4),
        _unquantized("F16", 2),
        _unquantized("BF16", 2),
        TensorType("Q4_0", 32, 18, 4, 32, _q4_0),
        TensorType("Q4_1", 32, 20, 4, 32, _q4_1),
        TensorType("Q8_0", 32, 34, 8, 32, _q8_0),
        TensorType("Q4_K", 256, 144, 4, 32, _q4_k),
        TensorType("Q6_K", 256, 210, 6, 16, _q6_k),
    )
}
VECTOR_TYPES = {"F32": 4, "F16": 2, "BF16": 2}
"""Types that norms and biases come in, with the bytes of one value."""


def matrix(name: str, kind: TensorType, raw: NDArray[np.uint8], rows: int) -> QuantizedWeight:
    """A whole tensor in the canonical form.

    `name` is the tensor's, for errors; raw: [rows * row_bytes] uint8. Raises `ModelDamaged` when
    a scale is not finite.
    """
    stored = raw.reshape(rows, -1)
    cols = stored.shape[1] // kind.block_bytes * kind.block
    groups = cols // kind.group
    codes = np.empty((rows, cols), dtype=np.uint8)
    scales = np.empty((rows, groups), dtype=np.float32)
    minimums = np.empty((rows, groups), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // cols)
    # Broken files hold NaN and infinity; they are found below, and need no warning here.
    with np.errstate(all="ignore"):
        for first in range(0, rows, step):
            part = slice(first, min(first + step, rows))
            blocks = np.ascontiguousarray(stored[part]).reshape(-1, kind.block_bytes)
            chunk = kind.unpack(blocks)
            codes[part] = chunk[0].reshape(-1, cols)
            scales[part] = chunk[1].reshape(-1, groups)
            minimums[part] = chunk[2].reshape(-1, groups)
    if not (np.isfinite(scales).all() and np.isfinite(minimums).all()):
        raise ModelDamaged(
            f"tensor {name!r} holds values that are not finite; pull the model again"
        )
    return QuantizedWeight(
        bits=kind.bits, group=kind.group, codes=codes, scales=scales, minimums=minimums
    )


def vector(name: str, type_name: str, raw: NDArray[np.uint8]) -> F32:
    """A norm's weight or a bias. raw: [bytes] uint8 -> [width] float32. Raises `ModelDamaged`."""
    values = _floats(np.array(raw).reshape(1, -1), type_name).reshape(-1)
    if not np.isfinite(values).all():
        raise ModelDamaged(
            f"tensor {name!r} holds values that are not finite; pull the model again"
        )
    return values
