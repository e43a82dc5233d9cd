"""The reference: the graph in plain NumPy float32. Slow and short; it *is* the definition.

Every other backend is tested against this one, and this one against transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.kernels.base import (
    F16,
    F32,
    I32,
    QKV,
    U8,
    Attention,
    Batch,
    Down,
    Embed,
    GatedMLP,
    Head,
    KVShape,
    KVType,
    Norm,
    Op,
    Output,
    QuantizedWeight,
    RopeStyle,
    Step,
)
from isthmus.kernels.checks import check_batch, check_blocks


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A weight, dequantized. [rows, cols] float32"""

    values: F32

    @property
    def rows(self) -> int:
        """Output features."""
        return int(self.values.shape[0])

    @property
    def cols(self) -> int:
        """Input features."""
        return int(self.values.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.values.nbytes

    def state(self) -> tuple[dict[str, int], U8]:
        """What `NumpyBackend.restore` needs."""
        return {"cols": self.cols}, self.values.reshape(-1).view(np.uint8)


class NumpyBackend:
    """Runs anywhere."""

    name = "numpy"
    kv_types = tuple(KVType)
    on_cpu = True
    may_hang = False
    device = f"numpy {np.__version__}"
    driver = np.__version__
    layout = None

    def pack(self, weight: QuantizedWeight) -> Matrix:
        """Dequantize."""
        return Matrix(weight.dequantize())

    def restore(self, state: dict[str, int], data: U8) -> Matrix:
        """A weight from its state."""
        return Matrix(data.view(np.float32).reshape(-1, state["cols"]))

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> NumpyPlan:
        """Keep the operators, allocate the pool."""
        return NumpyPlan(ops, kv, max_tokens)


class NumpyPlan:
    """The graph as a loop over its operators."""

    def __init__(self, ops: Sequence[Op], kv: KVShape, max_tokens: int) -> None:
        self._ops = tuple(ops)
        self._kv = kv
        self._max_tokens = max_tokens
        self._vocab = next(op.weight.rows for op in ops if isinstance(op, Head))
        products = [op for op in ops if isinstance(op, QKV | Output | GatedMLP | Down | Head)]
        matrices = [op.gate_up if isinstance(op, GatedMLP) else op.weight for op in products]
        self._weight_bytes = sum(matrix.nbytes for matrix in matrices)
        attention = [op for op in ops if isinstance(op, Attention)]
        heads, width = attention[0].kv_heads, attention[0].head_dim
        shape = (len(attention), kv.blocks, kv.block_tokens, heads, width)
        self._keys = np.zeros(shape, np.float32)
        self._values = np.zeros(shape, np.float32)

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._max_tokens

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool in all layers."""
        check_blocks(source, target, kv=self._kv)
        self._keys[:, target] = self._keys[:, source]
        self._values[:, target] = self._values[:, source]

    def read_block(self, block: int) -> F16:
        """A block in the form that all backends share."""
        check_blocks(block, kv=self._kv)
        both = np.stack([self._keys[:, block], self._values[:, block]], axis=1)
        return both.swapaxes(2, 3).astype(np.float16)

    def write_block(self, block: int, values: F16) -> None:
        """Take a block in the form that all backends share."""
        check_blocks(block, kv=self._kv)
        tokens_first = values.astype(np.float32).swapaxes(2, 3)
        self._keys[:, block] = _stored(tokens_first[:, 0], self._kv.dtype)
        self._values[:, block] = _stored(tokens_first[:, 1], self._kv.dtype)

    def close(self) -> None:
        """Nothing to free beyond the arrays themselves."""

    def run(self, batch: Batch) -> Step:
        """Run one step."""
        check_batch(batch, kv=self._kv, max_tokens=self._max_tokens, vocab=self._vocab)
        x = n = qkv = a = h = logits = np.empty(0, np.float32)
        for op in self._ops:
            match op:
                case Embed(table=Matrix(values)):
                    x = values[batch.tokens]
                case Norm():
                    n = rms_norm(x, op.weight, op.eps)
                case QKV(weight=Matrix(values)):
                    qkv = n @ values.T
                    if op.bias is not None:
                        qkv = qkv + op.bias
                case Attention():
                    a = self._attend(op, qkv, batch)
                case Output(weight=Matrix(values)):
                    x = x + a @ values.T
                case GatedMLP(gate_up=Matrix(values)):
                    gate_up = n @ values.T
                    gate, up = gate_up[:, 0::2], gate_up[:, 1::2]
                    h = gate / (1 + np.exp(-gate)) * up
                case Down(weight=Matrix(values)):
                    x = x + h @ values.T
                case Head(weight=Matrix(values)):
                    logits = n[batch.rows] @ values.T
                case _:
                    raise TypeError(f"{type(op).__name__} holds a weight packed by another backend")
        return Step(logits, n[batch.rows] if batch.capture else None, self._weight_bytes)

    def _attend(self, op: Attention, qkv: F32, batch: Batch) -> F32:
        tokens, d = len(batch.tokens), op.head_dim
        q, k, v = np.split(qkv.reshape(tokens, -1, d), [op.heads, op.heads + op.kv_heads], axis=1)
        if op.q_norm is not None and op.k_norm is not None:
            q, k = rms_norm(q, op.q_norm, op.norm_eps), rms_norm(k, op.k_norm, op.norm_eps)
        q, k = rotate(q, batch.positions, op), rotate(k, batch.positions, op)
        size = self._kv.block_tokens
        blocks = batch.block_tables[batch.sequence, batch.positions // size]
        self._keys[op.layer, blocks, batch.positions % size] = _stored(k, self._kv.dtype)
        self._values[op.layer, blocks, batch.positions % size] = _stored(v, self._kv.dtype)
        out = np.empty((tokens, op.heads, d), np.float32)
        for t in range(tokens):
            seen = int(batch.positions[t]) + 1
            table = batch.block_tables[batch.sequence[t], : -(-seen // size)]
            keys = self._keys[op.layer, table].reshape(-1, op.kv_heads, d)[:seen]
            values = self._values[op.layer, table].reshape(-1, op.kv_heads, d)[:seen]
            for head in range(op.heads):
                shared = head * op.kv_heads // op.heads
                scores = keys[:, shared] @ q[t, head] / np.sqrt(np.float32(d))
                weights = np.exp(scores - scores.max())
                out[t, head] = weights @ values[:, shared] / weights.sum()
        return out.reshape(tokens, -1)


def _stored(values: F32, dtype: KVType) -> F32:
    """What is left of keys or values when they are kept as `dtype`. values: [tokens, heads, d]"""
    if dtype is KVType.FLOAT32:
        return values
    if dtype is KVType.FLOAT16:
        return values.astype(np.float16).astype(np.float32)
    size = dtype.group or values.shape[-1]
    kept = np.empty_like(values)
    for first in range(0, values.shape[-1], size):
        group = values[..., first : first + size]
        scale = np.abs(group).max(axis=-1, keepdims=True) / np.float32(127)
        codes = np.rint(group / np.where(scale == 0, 1, scale))
        kept[..., first : first + size] = codes * scale.astype(np.float16)
    return kept


def rms_norm(x: F32, weight: F32, eps: float) -> F32:
    """Root mean square norm of the last axis (arXiv 1910.07467). x: [..., width]"""
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    normed: F32 = x / np.sqrt(mean_square + np.float32(eps)) * weight
    return normed


def rotate(heads: F32, positions: I32, op: Attention) -> F32:
    """Turn each pair by its position (RoFormer, arXiv 2104.09864). heads: [tokens, heads, d]"""
    d = op.head_dim
    frequencies = op.rope_base ** (-np.arange(0, d, 2, dtype=np.float64) / d)
    if op.rope_factors is not None:
        frequencies /= op.rope_factors
    angles = positions[:, None] * frequencies
    cos = np.cos(angles).astype(np.float32)[:, None, :]
    sin = np.sin(angles).astype(np.float32)[:, None, :]
    if op.rope_style is RopeStyle.INTERLEAVED:
        first, second = slice(0, None, 2), slice(1, None, 2)
    else:
        first, second = slice(0, d // 2), slice(d // 2, None)
    a, b = heads[..., first], heads[..., second]
    out = np.empty_like(heads)
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out
