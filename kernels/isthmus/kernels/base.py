"""What a backend is: pack weights once, plan a graph once, run the plan for every step.

The graph is a flat tuple of fused operators, about six a layer. Each operator reads and writes a
few activation buffers that the plan owns; their shapes are written `[tokens, width]`, where
`tokens` is the number of tokens in the batch at hand:

    x      [tokens, hidden]   the residual stream
    n      [tokens, hidden]   the normed input of the next product
    qkv    [tokens, (heads + 2 * kv_heads) * head_dim]
    a      [tokens, heads * head_dim]   what attention found
    h      [tokens, ffn]      the gated hidden layer

The key/value cache is paged: a pool of blocks of `block_tokens` positions, shared by all layers
and sequences. A sequence's block table says which blocks hold its positions, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """A matrix in the one canonical form: `w[r, c] = scales[r, g] * codes[r, c] + minimums[r, g]`.

    `g = c // group`. `bits` is 4, 6 or 8 (the codes are below `2**bits`); `group` is 16, 32, 64 or
    128, and the last group of a row may be short.
    """

    bits: int
    group: int
    codes: U8
    """[rows, cols]"""
    scales: F32
    """[rows, ceil(cols / group)]"""
    minimums: F32
    """[rows, ceil(cols / group)]"""

    @property
    def rows(self) -> int:
        """Output features."""
        return int(self.codes.shape[0])

    @property
    def cols(self) -> int:
        """Input features."""
        return int(self.codes.shape[1])

    def dequantize(self) -> F32:
        """The matrix. [rows, cols] float32"""
        rows, cols = self.codes.shape
        missing = -cols % self.group
        codes = np.pad(self.codes, ((0, 0), (0, missing))) if missing else self.codes
        grouped = codes.reshape(rows, -1, self.group) * self.scales[:, :, None]
        grouped += self.minimums[:, :, None]
        whole: F32 = grouped.reshape(rows, -1)
        return np.ascontiguousarray(whole[:, :cols]) if missing else whole

    @staticmethod
    def quantize8(matrix: F32) -> QuantizedWeight:
        """A dense matrix in 8 bits, groups of 32, symmetric. matrix: [rows, cols]

        The error is at most 1/254 of a group's largest value.
        """
        rows, cols = matrix.shape
        padded = np.zeros((rows, cols + -cols % 32), np.float32)
        padded[:, :cols] = matrix
        grouped = padded.reshape(rows, -1, 32)
        scales = (np.abs(grouped).max(axis=2) / 127).astype(np.float32)
        steps = np.rint(grouped / np.where(scales == 0, 1, scales)[:, :, None]) + 128
        codes = steps.astype(np.uint8).reshape(rows, -1)[:, :cols]
        return QuantizedWeight(8, 32, codes, scales, -128 * scales)

    @staticmethod
    def stack(weights: Sequence[QuantizedWeight]) -> QuantizedWeight:
        """One matrix of all rows, in order. A mix of forms is brought to 8 bits (`quantize8`)."""
        if len(weights) == 1:
            return weights[0]
        if len({(w.bits, w.group) for w in weights}) != 1:
            return QuantizedWeight.quantize8(np.concatenate([w.dequantize() for w in weights]))
        return QuantizedWeight(
            bits=weights[0].bits,
            group=weights[0].group,
            codes=np.concatenate([w.codes for w in weights]),
            scales=np.concatenate([w.scales for w in weights]),
            minimums=np.concatenate([w.minimums for w in weights]),
        )

    def part(self, first: int, last: int) -> QuantizedWeight:
        """The rows from `first` up to `last`, as far as there are any. Nothing is copied."""
        rows = slice(first, last)
        return QuantizedWeight(
            self.bits, self.group, self.codes[rows], self.scales[rows], self.minimums[rows]
        )

    def scaled(self, factor: float) -> QuantizedWeight:
        """The matrix times `factor`, in the same codes."""
        scale = np.float32(factor)
        return QuantizedWeight(
            self.bits, self.group, self.codes, self.scales * scale, self.minimums * scale
        )

    def take(self, rows: I32) -> QuantizedWeight:
        """The rows named, in that order. rows: [n]"""
        return QuantizedWeight(
            self.bits, self.group, self.codes[rows], self.scales[rows], self.minimums[rows]
        )


class Packed(Protocol):
    """A weight in a backend's own layout, its only resident copy."""

    def state(self) -> tuple[dict[str, int], U8]:
        """What `Backend.restore` needs to make it again: a few numbers, and the bytes."""
        ...

    @property
    def rows(self) -> int: ...

    @property
    def cols(self) -> int: ...

    @property
    def nbytes(self) -> int: ...


class RopeStyle(StrEnum):
    """Which two values of a head turn together."""

    INTERLEAVED = "interleaved"
    """(0, 1), (2, 3), …: GGUF's order for llama."""
    HALVES = "halves"
    """(0, d/2), (1, d/2 + 1), …: qwen2's."""


@dataclass(frozen=True, slots=True, eq=False)
class Embed:
    """`x = table[token]`"""

    table: Packed


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """`n = x / rms(x) * weight`; weight: [hidden]"""

    weight: F32
    eps: float


@dataclass(frozen=True, slots=True, eq=False)
class QKV:
    """`qkv = n @ weight.T + bias`; bias: [rows] or None"""

    weight: Packed
    bias: F32 | None


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """Turn q and k by their positions, write k and v to the pool, `a = softmax(q k / √d) v`.

    With `q_norm` and `k_norm` ([head_dim] each) every head of q and k is normed before it is
    turned, like `Norm` does. Pair i turns by `rope_base ** (-2 i / d) / rope_factors[i]` a
    position; without `rope_factors` ([head_dim / 2]) by the first term alone.
    """

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_base: float
    rope_style: RopeStyle
    rope_factors: F32 | None = None
    q_norm: F32 | None = None
    k_norm: F32 | None = None
    norm_eps: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """`x += a @ weight.T`"""

    weight: Packed


@dataclass(frozen=True, slots=True, eq=False)
class GatedMLP:
    """`g, u = n @ gate_up.T; h = silu(g) * u`; gate_up: [2 * ffn, hidden], rows g0 u0 g1 u1 … .

    The rows alternate so that a pair comes out of one tile and `g` and `u` never reach memory.
    """

    gate_up: Packed


@dataclass(frozen=True, slots=True, eq=False)
class Down:
    """`x += h @ weight.T`"""

    weight: Packed


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """`logits = n @ weight.T`, for the rows that the batch wants."""

    weight: Packed


Op = Embed | Norm | QKV | Attention | Output | GatedMLP | Down | Head


class KVType(StrEnum):
    """How keys and values are kept."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    """Groups of 32 along the head, symmetric, one scale in half precision each."""
    INT8_GROUP8 = "int8-group8"
    """The same in groups of 8."""

    @property
    def bits(self) -> float:
        """Bits of a value, its share of a scale included."""
        return {"float32": 32, "float16": 16, "int8": 8.5, "int8-group8": 10}[self]

    @property
    def group(self) -> int | None:
        """Values along the head that share a scale; None where there are no scales."""
        return {"int8": 32, "int8-group8": 8}.get(self)

    @property
    def value_bytes(self) -> int:
        """Bytes of a value without its scale."""
        return {"float32": 4, "float16": 2, "int8": 1, "int8-group8": 1}[self]


BLOCK_TOKENS = 32
"""Positions in a block of the pool, unless a test wants small ones."""


@dataclass(frozen=True, slots=True)
class KVShape:
    """The pool: how many blocks, how many positions in each, and the form of a value."""

    blocks: int
    block_tokens: int = BLOCK_TOKENS
    dtype: KVType = KVType.FLOAT32

    @classmethod
    def for_tokens(cls, tokens: int, dtype: KVType = KVType.FLOAT32) -> KVShape:
        """A pool with room for `tokens` positions."""
        return cls(-(-tokens // BLOCK_TOKENS), dtype=dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The tokens of one step; those of a sequence stand in the order of their positions."""

    tokens: I32
    """[tokens]"""
    positions: I32
    """[tokens] position of each in its sequence"""
    sequence: I32
    """[tokens] row of `block_tables`"""
    block_tables: I32
    """[sequences, blocks] pool blocks of each sequence, in order; unused entries are -1"""
    rows: I32
    """[wanted] indices into `tokens` whose logits are wanted"""
    greedy: bool = False
    """Of each wanted row only the largest logit has to be right; the others are anything below."""
    capture: bool = False
    """Whether the normed final hidden state of the wanted rows is wanted too."""

    @classmethod
    def of_one(
        cls,
        tokens: Sequence[int] | I32,
        blocks: Sequence[int] | I32,
        *,
        first: int = 0,
        wanted: int | None = None,
        greedy: bool = False,
    ) -> Batch:
        """Tokens of one sequence, at positions from `first` on, of which the last `wanted` want
        logits; None: all do. blocks: [blocks] of the pool
        """
        count = len(tokens)
        index = np.arange(count, dtype=np.int32)
        return cls(
            tokens=np.asarray(tokens, np.int32),
            positions=index + np.int32(first),
            sequence=np.zeros(count, np.int32),
            block_tables=np.asarray(blocks, np.int32)[None],
            rows=index if wanted is None else index[count - wanted :],
            greedy=greedy,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step yields."""

    logits: F32
    """[wanted, vocab]"""
    hidden: F32 | None = None
    """[wanted, hidden], when captured"""
    weight_bytes: int | None = None
    """Bytes of weights that were read for it; None: nobody counts them."""


class Plan(Protocol):
    """A graph made ready for one device, with its activation buffers and its KV pool."""

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        ...

    def run(self, batch: Batch) -> Step:
        """Run one step. Not reentrant: one thread at a time."""
        ...

    def copy_block(self, source: int, target: int) -> None:
        """Copy the keys and values of a block of the pool, in all layers."""
        ...

    def read_block(self, block: int) -> F16:
        """The keys and values of a block of the pool, for another plan.

        [layers, 2, kv_heads, block_tokens, head_dim], keys first. Positions that were never
        written may hold anything.
        """
        ...

    def write_block(self, block: int, values: F16) -> None:
        """Put into a block what another plan's `read_block` gave."""
        ...

    def close(self) -> None:
        """Free buffers and threads. Running a closed plan is an error."""
        ...


class Backend(Protocol):
    """A device's way of computing: packs weights into its layout, plans graphs over them."""

    @property
    def name(self) -> str:
        """The name in the registry."""
        ...

    @property
    def device(self) -> str:
        """What it runs on, for people: instruction set or device name."""
        ...

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        ...

    @property
    def may_hang(self) -> bool:
        """Whether it waits for a driver, whose answer may never come."""
        ...

    @property
    def kv_types(self) -> tuple[KVType, ...]:
        """The forms in which it can keep keys and values."""
        ...

    @property
    def driver(self) -> str:
        """The version of what computes, driver included: a new one may be faster or slower."""
        ...

    @property
    def layout(self) -> str | None:
        """The name and version of its packed layout, when packed weights may be kept on disk."""
        ...

    def pack(self, weight: QuantizedWeight) -> Packed:
        """Repack one weight."""
        ...

    def restore(self, state: dict[str, int], data: U8) -> Packed:
        """A weight from what `Packed.state` gave, without copying `data`."""
        ...

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> Plan:
        """Make `ops` ready to run for batches of up to `max_tokens` tokens."""
        ...
