"""Attention on the device: its pool of keys and values, and its launches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from isthmus.kernels.base import F16, F32, Attention, KVShape, KVType, RopeStyle
from isthmus.kernels.opencl import blocks
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layouts import padded
from isthmus.kernels.opencl.programs import Source
from isthmus.kernels.opencl.runtime import Device, Launch, Sized
from isthmus.kernels.opencl.step import Shape

_MOST_PARTS = 16
_PART_BLOCKS = 8
"""Blocks of a part: fewer are not worth joining."""
_BUSY_PART_BLOCKS = 64
"""The same where the heads alone occupy a CPU: the launch that joins costs more than idle cores."""
_FORMS = {KVType.FLOAT32: 0, KVType.FLOAT16: 1, KVType.INT8: 2, KVType.INT8_GROUP8: 2}


class AttentionKernels:
    """The pool of all layers, and the kernels that work on it."""

    def __init__(self, device: Device, op: Attention, kv: KVShape, max_tokens: int) -> None:
        if kv.block_tokens % 16:
            raise ValueError(f"blocks hold a multiple of 16 tokens, not {kv.block_tokens}")
        self._device = device
        self._op = op
        self._kv = kv
        self._held: list[F32] = []
        self._pools: dict[int, list[tuple[int, Any, Any]]] = {}
        self._normings: dict[int, tuple[Any, float]] = {}
        self._cpu = device.capabilities.kind is DeviceKind.CPU
        group = kv.dtype.group or op.head_dim
        groups = -(-op.head_dim // group)
        codes = kv.block_tokens * op.head_dim * kv.dtype.value_bytes
        self._head_bytes = codes + 2 * kv.block_tokens * groups * (kv.dtype.group is not None)
        most = device.capabilities.allocation_bytes // (kv.blocks * self._head_bytes)
        self._pool_heads = max(1, min(op.kv_heads, most))
        """Heads of k and v in one buffer."""
        busy = self._cpu and op.kv_heads >= device.capabilities.compute_units
        self._part_blocks = _BUSY_PART_BLOCKS if busy else _PART_BLOCKS
        self._group = 1 if self._cpu else 32
        share = -(-op.head_dim // self._group)
        dim_lanes = _power_of_two_below(min(16, share, group))
        while op.head_dim % dim_lanes:
            dim_lanes //= 2
        self._source = Source(
            "attention.cl",
            {
                "HEADS": op.heads,
                "KV_HEADS": op.kv_heads,
                "HEAD_DIM": op.head_dim,
                "BLOCK_TOKENS": kv.block_tokens,
                "QKV_STRIDE": padded((op.heads + 2 * op.kv_heads) * op.head_dim),
                "A_STRIDE": padded(op.heads * op.head_dim),
                "ROPE_HALVES": int(op.rope_style is RopeStyle.HALVES),
                "QK_NORM": int(op.q_norm is not None),
                "KV": _FORMS[kv.dtype],
                "KV_GROUP": group,
                "WGS": self._group,
                "MOST_PARTS": _MOST_PARTS,
                "POSITION_LANES": 16 if self._cpu else 1,
                "DIM_LANES": dim_lanes,
            },
        )
        self._few = max(1, min(max_tokens, 4 * device.capabilities.compute_units // op.kv_heads))
        partial = self._few * op.heads * _MOST_PARTS * (op.head_dim + 2)
        self.partial = device.zeros(partial)
        """What heads have found in parts of the context: `partial` in attention.h."""

    @property
    def defines(self) -> Mapping[str, int | float]:
        """The defines of attention.h, but for which heads are in a pool."""
        return self._source.defines

    @property
    def local_floats(self) -> int:
        """The room that a group of `attend` has in local memory, in floats."""
        op, tokens = self._op, self._kv.block_tokens
        scales = tokens * -(-op.head_dim // (self._kv.dtype.group or op.head_dim))
        return op.heads // op.kv_heads * (op.head_dim + tokens) + op.head_dim + scales

    def pool(self, layer: int) -> tuple[Any, Any] | None:
        """The keys and the values of a layer where all heads of each are in one buffer."""
        pools = self._pools[layer]
        return pools[0][1:] if len(pools) == 1 else None

    def norming(self, layer: int) -> tuple[Any, float]:
        """What the heads of q and k are normed by, where they are."""
        return self._normings[layer]

    def parts(self, tokens: int, last_position: int, *, joined: bool) -> int:
        """In how many parts the context of a step is worth splitting.

        `joined` where no launch of its own joins them again.
        """
        if tokens > self._few:
            return 1
        blocks = last_position // self._kv.block_tokens + 1
        return min(_MOST_PARTS, -(-blocks // (_PART_BLOCKS if joined else self._part_blocks)))

    def prepare(self, op: Attention, qkv: Any, a: Any, step: Any) -> Callable[[Shape], list[Sized]]:
        """The launches of one layer."""
        norms = self._norms(op)
        norming = (step if norms is None else norms, float(op.norm_eps))
        local = (self._group, 1, 1)
        stores, attends, fused = [], [], []
        pools = []
        for first in range(0, op.kv_heads, self._pool_heads):
            heads = min(self._pool_heads, op.kv_heads - first)
            size = self._kv.blocks * heads * self._head_bytes
            keys, values = self._device.room(size), self._device.room(size)
            pools.append((heads, keys, values))
            defines = {"FIRST_HEAD": first, "POOL_HEADS": heads}
            arguments = (qkv, keys, values, a, self.partial, step, *norming)
            kept = (qkv, keys, values, step, *norming)
            items = heads * local[0]
            stores.append((self._launch("store", kept, defines), items))
            attends.append((self._launch("attend", arguments, defines), items))
            fused.append((self._launch("attend", arguments, {**defines, "FUSED": 1}), items))
        self._pools[op.layer], self._normings[op.layer] = pools, norming
        combine = self._launch("combine", (self.partial, a, step), {})

        def make(shape: Shape) -> list[Sized]:
            first = [] if shape.fused else [(one, (n, shape.tokens, 1)) for one, n in stores]
            chosen = fused if shape.fused else attends
            found = [(one, (n, shape.tokens, shape.parts)) for one, n in chosen]
            joined: list[Sized] = [(combine, (op.heads * local[0], shape.tokens, 1))]
            return first + found + (joined if shape.parts > 1 else [])

        return make

    def _norms(self, op: Attention) -> Any:
        """What the heads of q and k are normed by, one after the other; None where they are not."""
        if op.q_norm is None or op.k_norm is None:
            return None
        both = np.concatenate([op.q_norm, op.k_norm])
        self._held.append(both)  # the device may read it in place
        return self._device.constant(both)

    def _launch(self, name: str, arguments: tuple[Any, ...], defines: dict[str, int]) -> Launch:
        source = Source(self._source.file, {**self._source.defines, **defines})
        return self._device.launch(source, name, arguments, (self._group, 1, 1))

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool in all layers."""
        for pools in self._pools.values():
            for heads, keys, values in pools:
                size = heads * self._head_bytes
                self._device.copy(keys, source * size, target * size, size)
                self._device.copy(values, source * size, target * size, size)

    def read_block(self, block: int) -> F16:
        """A block in the form that all backends share."""
        layers = []
        for _, pools in sorted(self._pools.items()):
            raw = np.empty((2, self._op.kv_heads, self._head_bytes), np.uint8)
            first = 0
            for heads, *pair in pools:
                for of_pair, buffer in zip(raw, pair, strict=True):
                    part = of_pair[first : first + heads]
                    self._device.read(buffer, part, offset=block * part.nbytes)
                first += heads
            layers.append(
                [
                    blocks.unpack(part, self._kv, head_dim=self._op.head_dim, keys=at == 0)
                    for at, part in enumerate(raw)
                ]
            )
        return np.asarray(layers, np.float16)

    def write_block(self, block: int, values: F16) -> None:
        """Take a block in the form that all backends share."""
        for (_, pools), layer in zip(sorted(self._pools.items()), values, strict=True):
            raw = [blocks.pack(layer[at], self._kv, keys=at == 0) for at in range(2)]
            first = 0
            for heads, *pair in pools:
                for of_pair, buffer in zip(raw, pair, strict=True):
                    part = of_pair[first : first + heads]
                    self._device.write(buffer, part, offset=block * part.nbytes)
                first += heads
            self._device.finish()  # `raw` has to stay until then

    def close(self) -> None:
        """Let the pool go."""
        self._pools.clear()
        self._normings.clear()
        self._held.clear()


def _power_of_two_below(most: int) -> int:
    return 1 << (most.bit_length() - 1)
