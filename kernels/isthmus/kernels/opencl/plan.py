"""A graph as a flat list of prepared launches, replayed for each step.

Everything that changes from step to step lies in one device buffer; a step is one write, the
launches, and one read: of a greedy step's best tokens, of all logits otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isthmus.kernels.base import (
    F16,
    F32,
    QKV,
    Attention,
    Batch,
    Embed,
    GatedMLP,
    Head,
    KVShape,
    Op,
    Step,
)
from isthmus.kernels.checks import check_batch, check_blocks, check_logits
from isthmus.kernels.opencl.attention import AttentionKernels
from isthmus.kernels.opencl.best import BestKernel
from isthmus.kernels.opencl.layers import (
    COUNTERS,
)
from isthmus.kernels.opencl.layouts import padded
from isthmus.kernels.opencl.operators import Buffers, Operators
from isthmus.kernels.opencl.refusals import Refusals
from isthmus.kernels.opencl.runtime import Device, Sized
from isthmus.kernels.opencl.step import Shape, capacity, encode
from isthmus.kernels.opencl.variants import TILES, Choices
from isthmus.kernels.opencl.weights import Weights

_MOST_KEPT = 64
"""Lists of launches kept: one for each size of a step."""


class OpenCLPlan:
    """One graph on an OpenCL device."""

    def __init__(
        self,
        ops: Sequence[Op],
        kv: KVShape,
        max_tokens: int,
        device: Device,
        choices: Choices,
        refusals: Refusals | None = None,
    ) -> None:
        """`refusals` keeps what the device refuses of the choices; None forgets it."""
        self._device = device
        self._kv = kv
        self._max_tokens = max_tokens
        self._hidden = next(op.table.cols for op in ops if isinstance(op, Embed))
        self._vocab = next(op.weight.rows for op in ops if isinstance(op, Head))
        attention = [op for op in ops if isinstance(op, Attention)]
        head_dim = attention[0].head_dim
        self._frequencies = np.power(
            attention[0].rope_base, -np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
        )
        if attention[0].rope_factors is not None:
            self._frequencies /= attention[0].rope_factors
        self._attention = AttentionKernels(device, attention[0], kv, max_tokens)
        buffers = self._allocate(ops, attention[0], max_tokens)
        self._buffers: Buffers | None = buffers
        self._best = BestKernel(device, buffers.logits, self._vocab, max_tokens)
        self._weights = Weights(device, choices, refusals or Refusals(None, device.capabilities))
        operators = Operators(device, self._weights, self._attention, self._best, buffers)
        self._makes, self._joined = operators.prepare(ops)
        self._lists: dict[Shape, list[Sized]] = {}
        device.finish()

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._max_tokens

    def _allocate(self, ops: Sequence[Op], attention: Attention, max_tokens: int) -> Buffers:
        tokens = padded(max_tokens, max(TILES))
        qkv = next(op.weight.rows for op in ops if isinstance(op, QKV))
        ffn = next(op.gate_up.rows // 2 for op in ops if isinstance(op, GatedMLP))
        widths = (self._hidden, self._hidden, qkv, attention.heads * attention.head_dim, ffn)
        device = self._device
        counters = COUNTERS * sum(isinstance(op, Attention) for op in ops)
        numbers = capacity(max_tokens, self._kv.blocks, attention.head_dim, counters)
        x, n, qkv_out, a, h = (device.zeros(tokens * padded(width)) for width in widths)
        logits = device.zeros(tokens * padded(self._vocab))
        return Buffers(x, n, qkv_out, a, h, logits, device.zeros(numbers))

    @property
    def _open(self) -> Buffers:
        if self._buffers is None:
            raise RuntimeError("the plan is closed")
        return self._buffers

    def run(self, batch: Batch) -> Step:
        """Run one step. Raises `BackendLost` when the device fails or computes no numbers."""
        buffers = self._open
        check_batch(batch, kv=self._kv, max_tokens=self._max_tokens, vocab=self._vocab)
        shape = self._shape(batch)
        counters = COUNTERS * self._joined if shape.tokens == 1 else 0
        numbers = encode(batch, self._frequencies, self._kv.block_tokens, shape.parts, counters)
        device = self._device
        device.write(buffers.step, numbers)
        device.submit(self._launches(shape))
        if shape.greedy and shape.wanted:
            logits = self._best.read(shape.wanted)
        else:
            logits = self._rows(buffers.logits, shape.wanted, self._vocab)
        hidden = self._rows(buffers.n, shape.wanted, self._hidden) if batch.capture else None
        check_logits(logits, "opencl")
        return Step(logits, hidden)

    def _rows(self, buffer: Any, rows: int, width: int) -> F32:
        out = np.empty((rows, padded(width)), np.float32)
        if rows:
            self._device.read(buffer, out)
        else:
            self._device.finish()
        return out[:, :width]

    def _shape(self, batch: Batch) -> Shape:
        tokens = len(batch.tokens)
        fused = tokens == 1 or bool((np.diff(batch.sequence) > 0).all())
        joined = tokens == 1 and self._joined > 0
        parts = self._attention.parts(tokens, int(batch.positions.max()), joined=joined)
        return Shape(tokens, len(batch.rows), fused, parts, batch.capture, batch.greedy)

    def _launches(self, shape: Shape) -> list[Sized]:
        known = self._lists.get(shape)
        if known is None:
            if len(self._lists) >= _MOST_KEPT:
                self._lists.clear()
            known = [sized for make in self._makes for sized in make(shape)]
            self._lists[shape] = known
        return known

    def read_block(self, block: int) -> F16:
        """A block in the form that all backends share."""
        check_blocks(block, kv=self._kv)
        return self._attention.read_block(block)

    def write_block(self, block: int, values: F16) -> None:
        """Take a block in the form that all backends share."""
        check_blocks(block, kv=self._kv)
        self._attention.write_block(block, values)

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool in all layers."""
        check_blocks(source, target, kv=self._kv)
        self._attention.copy_block(source, target)

    def close(self) -> None:
        """Free the buffers."""
        if self._buffers is None:
            return
        self._device.finish()
        self._buffers = None
        self._makes.clear()
        self._lists.clear()
        self._weights.clear()
        self._attention.close()
