"""How a weight lies in memory: one order for all algorithms, in blocks of 1 to 128 rows.

    codes      [rows / block][words][block] uint32, the first column in the lowest bits of a word
    scales     [rows / block][groups][block] float16
    minimums   as scales; not there for a symmetric weight

`block` is 1 for the k-contiguous kernels (rows one after the other), 4 for the K8N4 ones (a texel
of four words is 8 columns by 4 rows), 16 or more for the n-contiguous ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.kernels.base import F32, U8, QuantizedWeight

_ALIGNMENT = 64
_ROW_MULTIPLE = 16
STRIDE_MULTIPLE = 128
"""Widths of activations are padded to this, so that no kernel has to look at an edge."""


def padded(width: int, multiple: int = STRIDE_MULTIPLE) -> int:
    """`width` rounded up."""
    return width + -width % multiple


@dataclass(frozen=True, slots=True)
class Layout:
    """An order of the words, and whether they are read as an image."""

    block: int
    image: bool = False

    def __str__(self) -> str:
        return f"{self.block}{'.img' if self.image else ''}"


@dataclass(frozen=True, slots=True)
class WeightForm:
    """What a kernel has to know of a weight when it is compiled."""

    rows: int
    cols: int
    bits: int
    """4 or 8"""
    group: int
    symmetric: bool

    @property
    def padded_cols(self) -> int:
        """Columns in whole groups."""
        return padded(self.cols, self.group)

    @property
    def words(self) -> int:
        """Words of a row."""
        return self.padded_cols * self.bits // 32

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return self.padded_cols // self.group

    def padded_rows(self, block: int) -> int:
        """Rows in whole blocks."""
        return padded(self.rows, max(block, _ROW_MULTIPLE))

    @property
    def defines(self) -> dict[str, int]:
        """The defines of product.h."""
        return {
            "COLS": self.padded_cols,
            "BITS": self.bits,
            "GROUP": self.group,
            "SYMMETRIC": int(self.symmetric),
        }


@dataclass(frozen=True, slots=True, eq=False)
class PackedWeight:
    """A weight in one of the orders, on the host; a plan puts it on the device."""

    form: WeightForm
    layout: Layout
    data: U8
    """[bytes] codes, scales and minimums, each aligned"""

    @property
    def rows(self) -> int:
        """Output features."""
        return self.form.rows

    @property
    def cols(self) -> int:
        """Input features."""
        return self.form.cols

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.data.nbytes

    @property
    def padded_rows(self) -> int:
        """Rows with the padding of the last block."""
        return self.form.padded_rows(self.layout.block)

    def state(self) -> tuple[dict[str, int], U8]:
        """What `OpenCLBackend.restore` needs."""
        form, layout = self.form, self.layout
        numbers = {
            "rows": form.rows,
            "cols": form.cols,
            "bits": form.bits,
            "group": form.group,
            "symmetric": int(form.symmetric),
            "block": layout.block,
            "image": int(layout.image),
        }
        return numbers, self.data

    def arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.float16], NDArray[np.float16]]:
        """Codes [blocks, words, block], scales and minimums [blocks, groups, block]."""
        block, blocks = self.layout.block, self.padded_rows // self.layout.block
        words, groups = self.form.words, self.form.groups
        at = 4 * blocks * words * block
        codes = self.data[:at].view(np.uint32).reshape(blocks, words, block)
        size = 2 * blocks * groups * block
        at = padded(at, _ALIGNMENT)
        scales = self.data[at : at + size].view(np.float16).reshape(blocks, groups, block)
        at = padded(at + size, _ALIGNMENT)
        kept = blocks * (not self.form.symmetric)
        minimums = self.data[at : at + size * (kept > 0)].view(np.float16)
        return codes, scales, minimums.reshape(kept, groups, block)


def restore(state: dict[str, int], data: U8) -> PackedWeight:
    """A weight from `PackedWeight.state`."""
    form = WeightForm(
        state["rows"], state["cols"], state["bits"], state["group"], bool(state["symmetric"])
    )
    return PackedWeight(form, Layout(state["block"], bool(state["image"])), data)


def form_of(weight: QuantizedWeight) -> WeightForm:
    """The form in which `pack` keeps a weight: 6 bits become 8."""
    centre = 1 << (weight.bits - 1)
    symmetric = bool(np.array_equal(weight.minimums, -centre * weight.scales))
    bits = 4 if weight.bits == 4 else 8
    return WeightForm(weight.rows, weight.cols, bits, weight.group, symmetric)


def pack(weight: QuantizedWeight, layout: Layout) -> PackedWeight:
    """Bring a weight into an order. Scales and minimums are rounded to half precision."""
    form = form_of(weight)
    rows = form.padded_rows(layout.block)
    codes = np.zeros((rows, form.padded_cols), np.uint8)
    codes[: form.rows, : form.cols] = weight.codes
    if form.bits == 4:
        codes = np.bitwise_or(codes[:, 0::2], codes[:, 1::2] << 4, dtype=np.uint8)
    elif form.symmetric and weight.bits == 6:
        codes[: form.rows, : form.cols] += 128 - 32  # the same centre for all symmetric 8-bit codes
    parts = [_blocked(codes.view(np.uint32), layout.block)]
    parts.append(_blocked(_half(weight.scales, rows), layout.block))
    if not form.symmetric:
        parts.append(_blocked(_half(weight.minimums, rows), layout.block))
    data = np.zeros(sum(padded(part.nbytes, _ALIGNMENT) for part in parts), np.uint8)
    at = 0
    for part in parts:
        data[at : at + part.nbytes] = part.view(np.uint8).reshape(-1)
        at += padded(part.nbytes, _ALIGNMENT)
    return PackedWeight(form, layout, data)


def _half(values: F32, rows: int) -> NDArray[np.float16]:
    out = np.zeros((rows, values.shape[1]), np.float16)
    out[: values.shape[0]] = values
    return out


def _blocked(values: NDArray[np.generic], block: int) -> NDArray[np.generic]:
    """[rows, width] to [rows / block, width, block]"""
    rows, width = values.shape
    return np.ascontiguousarray(values.reshape(rows // block, block, width).transpose(0, 2, 1))
