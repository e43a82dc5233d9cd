"""The native CPU backend: integer products of quantized inputs and weights (C++, kernels/native).

A step is one call without the GIL. `tiled_weights` tells how weights lie, `tiled_blocks` how keys
and values do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from isthmus.kernels.base import (
    F16,
    F32,
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
from isthmus.kernels.compiled import _native
from isthmus.kernels.tiled_blocks import pack_block, unpack_block
from isthmus.kernels.tiled_weights import PackedTiles, pack_weight

_MAX_HEAD = 256
_BLOCK_TOKENS = 32
_KV_TYPES = {KVType.FLOAT32: 0, KVType.FLOAT16: 1, KVType.INT8: 2}
VERIFIED = frozenset({"avx512vnni", "avx2", "scalar"})
"""Instruction sets that this project's tests ran on processors that have them. NEON's were run
under emulation alone (scripts/test_neon.sh)."""
_KINDS = {Embed: 0, Norm: 1, QKV: 2, Attention: 3, Output: 4, GatedMLP: 5, Down: 6, Head: 7}


def default_threads() -> int:
    """One thread a physical core that this process may use: decoding is bound by memory."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    topology = "/sys/devices/system/cpu/cpu{}/topology/core_cpus_list"
    with contextlib.suppress(OSError):
        if cores := {Path(topology.format(cpu)).read_text() for cpu in allowed}:
            return len(cores)
    import psutil  # 1 MB and 16 ms, for systems that do not list them there

    physical = psutil.cpu_count(logical=False) or 1
    return max(1, min(physical, len(allowed) or physical))


def runnable_sets() -> tuple[str, ...]:
    """The instruction sets that this CPU can run, best first; `scalar` is always the last."""
    return tuple(_native.runnable_kernels().split(","))


class NativeBackend:
    """Packs and plans for this CPU. `isa` of None takes the best verified one that it can run.

    Others are for those who tested them first (`isthmus.kernels.instruction_sets`).

    `activation_bits` of 16 follows the reference closely; 8 is the usual choice elsewhere, half
    the work and a visible error (docs/adr/0002-activation-precision.md).
    """

    name = "native"
    kv_types = tuple(_KV_TYPES)
    on_cpu = True
    may_hang = False
    layout = "tiles8.3"

    def __init__(
        self, *, threads: int | None = None, isa: str | None = None, activation_bits: int = 16
    ) -> None:
        runnable = runnable_sets()
        if isa is not None and isa not in runnable:
            raise ValueError(f"isa {isa!r} cannot run on this CPU; it runs {', '.join(runnable)}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        if activation_bits not in (8, 16):
            raise ValueError(f"activation_bits must be 8 or 16, not {activation_bits}")
        self.isa = isa or next(name for name in runnable if name in VERIFIED)
        self.activation_bits = activation_bits
        self.threads = threads or default_threads()

    @property
    def driver(self) -> str:
        """The kernels come with the package."""
        return version("isthmus")

    @property
    def device(self) -> str:
        """Instruction set and threads."""
        return f"{self.isa}, {self.threads} threads"

    def pack(self, weight: QuantizedWeight) -> PackedTiles:
        """Repack one weight into tiles."""
        return pack_weight(weight)

    def restore(self, state: dict[str, int], data: U8) -> PackedTiles:
        """A weight from its state."""
        return PackedTiles(data, **state)

    def plan(self, ops: Sequence[Op], *, kv: KVShape, max_tokens: int) -> NativePlan:
        """Hand the operators to C++ and start the threads."""
        return NativePlan(ops, kv, max_tokens, self)


class NativePlan:
    """One graph on the native backend."""

    def __init__(
        self, ops: Sequence[Op], kv: KVShape, max_tokens: int, backend: NativeBackend
    ) -> None:
        builder = _native.Builder()
        for op in ops:
            _add(builder, op)
        if any(isinstance(op, Attention) and op.head_dim > _MAX_HEAD for op in ops):
            raise ValueError(f"the native backend's heads have at most {_MAX_HEAD} dimensions")
        if kv.dtype not in _KV_TYPES:
            kinds = ", ".join(_KV_TYPES)
            raise ValueError(f"the native backend keeps keys and values as {kinds}, not {kv.dtype}")
        if kv.block_tokens != _BLOCK_TOKENS:
            raise ValueError(f"the native backend's blocks hold {_BLOCK_TOKENS} tokens")
        self._kv = kv
        self._heads = next(op for op in ops if isinstance(op, Attention))
        self._max_tokens = max_tokens
        self._hidden = next(op.table.cols for op in ops if isinstance(op, Embed))
        self._vocab = next(op.weight.rows for op in ops if isinstance(op, Head))
        self._plan: _native.Plan | None = _native.Plan(
            builder,
            backend.isa,
            backend.threads,
            backend.activation_bits // 8,
            _KV_TYPES[kv.dtype],
            kv.blocks,
            max_tokens,
        )

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._max_tokens

    def run(self, batch: Batch) -> Step:
        """Run one step; the GIL is free meanwhile."""
        plan = self._open
        check_batch(batch, kv=self._kv, max_tokens=self._max_tokens, vocab=self._vocab)
        wanted = len(batch.rows)
        logits = np.empty((wanted, self._vocab), np.float32)
        hidden = np.empty((wanted, self._hidden), np.float32) if batch.capture else None
        read = plan.run(
            np.ascontiguousarray(batch.tokens, np.int32),
            np.ascontiguousarray(batch.positions, np.int32),
            np.ascontiguousarray(batch.sequence, np.int32),
            np.ascontiguousarray(batch.block_tables, np.int32),
            np.ascontiguousarray(batch.rows, np.int32),
            batch.greedy,
            logits,
            hidden,
        )
        return Step(logits, hidden, read)

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool in all layers."""
        check_blocks(source, target, kv=self._kv)
        self._open.copy_block(source, target)

    def read_block(self, block: int) -> F16:
        """A block in the form that all backends share."""
        check_blocks(block, kv=self._kv)
        plan = self._open
        raw = np.empty(plan.block_bytes, np.uint8)
        plan.read_block(block, raw)
        heads, width = self._heads.kv_heads, self._heads.head_dim
        return unpack_block(raw, self._kv.dtype, kv_heads=heads, head_dim=width)

    def write_block(self, block: int, values: F16) -> None:
        """Take a block in the form that all backends share."""
        check_blocks(block, kv=self._kv)
        plan = self._open
        raw = pack_block(values, self._kv.dtype)
        if raw.nbytes != plan.block_bytes:
            raise ValueError(f"a block of shape {values.shape} is of another model")
        plan.write_block(block, raw)

    @property
    def _open(self) -> _native.Plan:
        if self._plan is None:
            raise RuntimeError("the plan is closed")
        return self._plan

    def close(self) -> None:
        """Stop the threads and free the buffers."""
        self._plan = None


def _add(builder: _native.Builder, op: Op) -> None:
    kind = _KINDS[type(op)]
    match op:
        case Embed():
            builder.add(kind, op.table)
        case Norm():
            builder.add(kind, vector=_floats(op.weight), eps=op.eps)
        case QKV():
            builder.add(kind, op.weight, vector=_given(op.bias))
        case Attention():
            builder.add(
                kind,
                eps=op.norm_eps,
                layer=op.layer,
                heads=op.heads,
                kv_heads=op.kv_heads,
                head_dim=op.head_dim,
                rope_base=op.rope_base,
                rope_halves=op.rope_style is RopeStyle.HALVES,
                rope_factors=_given(op.rope_factors),
                q_norm=_given(op.q_norm),
                k_norm=_given(op.k_norm),
            )
        case Output() | Down() | Head():
            builder.add(kind, op.weight)
        case GatedMLP():
            builder.add(kind, op.gate_up)


def _floats(values: F32) -> F32:
    return np.ascontiguousarray(values, np.float32)


def _given(values: F32 | None) -> F32 | None:
    return None if values is None else _floats(values)
