"""A graph as a flat list of prepared launches, replayed for each step.

Everything that changes from step to step lies in one device buffer; a step is one write, the
launches, and one read: of a greedy step's best tokens, of all logits otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isthmus.kernels.base import (
    F16,
    F32,
    QKV,
    Attention,
    Batch,
    Down,
    Embed,
    GatedMLP,
    Head,
    KVShape,
    Norm,
    Op,
    Output,
    Packed,
    Step,
)
from isthmus.kernels.checks import check_batch
from isthmus.kernels.errors import InvalidResult
from isthmus.kernels.opencl import step as steps
from isthmus.kernels.opencl.attention import AttentionKernels
from isthmus.kernels.opencl.best import BestKernel
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layers import (
    COUNTERS,
    LAYER_OPS,
    WEIGHTS,
    Layer,
    LayerBuffers,
    join_layers,
)
from isthmus.kernels.opencl.layouts import padded
from isthmus.kernels.opencl.products import (
    Epilogue,
    Norming,
    Operand,
    padded_vector,
)
from isthmus.kernels.opencl.programs import Source
from isthmus.kernels.opencl.refusals import Refusals
from isthmus.kernels.opencl.runtime import Device, Launch, Size
from isthmus.kernels.opencl.variants import TILES, Choices, Variant
from isthmus.kernels.opencl.weights import Placed, Weights

_MOST_KEPT = 64
"""Lists of launches kept: one for each size of a step."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the launches of a step depend on."""

    tokens: int
    wanted: int
    fused: bool
    """No token sees another of the step."""
    parts: int
    """Parts of the context that are attended to apart."""
    capture: bool
    greedy: bool
    """The best token of a row is all that is asked for."""


Sized = tuple[Launch, Size]
Make = Callable[[Shape], list[Sized]]


@dataclass(slots=True)
class _Buffers:
    """The activations, named as in `kernels.base`, with what is bound to them."""

    x: Any
    n: Any
    qkv: Any
    a: Any
    h: Any
    logits: Any
    step: Any
    held: list[Any] = field(default_factory=list)


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
        self._weights = Weights(device, choices, refusals or Refusals(None, device.capabilities))
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
        self._buffers: _Buffers | None = self._allocate(ops, attention[0], max_tokens)
        self._best = BestKernel(device, self._open.logits, self._vocab, max_tokens)
        before = (None, *ops[:-1])
        self._makes = [self._prepare(op, last) for op, last in zip(ops, before, strict=True)]
        self._joined = self._join_layers(ops)
        self._lists: dict[Shape, list[Sized]] = {}
        device.finish()

    @property
    def max_tokens(self) -> int:
        """The most tokens that one batch may hold."""
        return self._max_tokens

    def _allocate(self, ops: Sequence[Op], attention: Attention, max_tokens: int) -> _Buffers:
        tokens = padded(max_tokens, max(TILES))
        qkv = next(op.weight.rows for op in ops if isinstance(op, QKV))
        ffn = next(op.gate_up.rows // 2 for op in ops if isinstance(op, GatedMLP))
        widths = (self._hidden, self._hidden, qkv, attention.heads * attention.head_dim, ffn)
        device = self._device
        counters = COUNTERS * sum(isinstance(op, Attention) for op in ops)
        numbers = steps.capacity(max_tokens, self._kv.blocks, attention.head_dim, counters)
        x, n, qkv_out, a, h = (device.zeros(tokens * padded(width)) for width in widths)
        logits = device.zeros(tokens * padded(self._vocab))
        return _Buffers(x, n, qkv_out, a, h, logits, device.zeros(numbers))

    def _prepare(self, op: Op, last: Op | None) -> Make:
        buffers = self._open
        match op:
            case Embed():
                return self._embed(op.table)
            case Norm():
                return _nothing  # the product that follows sees to it
            case QKV():
                bias = None if op.bias is None else self._vector(op.bias)
                return self._normed(op.weight, last, buffers.qkv, op.weight.rows, bias=bias)
            case Attention():
                return self._attention.prepare(op, buffers.qkv, buffers.a, buffers.step)
            case Output():
                return self._residual(op.weight, buffers.a)
            case GatedMLP():
                ffn = op.gate_up.rows // 2
                return self._normed(op.gate_up, last, buffers.h, ffn, Epilogue.SWIGLU)
            case Down():
                return self._residual(op.weight, buffers.h)
            case Head():
                return self._head(op, last)

    def _join_layers(self, ops: Sequence[Op]) -> int:
        """Let one token go through as many layers as it can in a launch; how many launches."""
        buffers = self._open
        found = (self._layer(at, ops[at : at + LAYER_OPS]) for at in range(len(ops)))
        layers = [layer for layer in found if layer is not None]
        shared = LayerBuffers(buffers.x, buffers.qkv, buffers.h, buffers.step)
        joined = join_layers(self._device, layers, self._attention, shared)
        for which, sized in reversed(joined):
            self._makes[which] = [_for_one_token(sized, self._makes[which])]
        return len(joined)

    def _layer(self, at: int, ops: Sequence[Op]) -> Layer | None:
        """The layer of these operators, the first being the graph's `at`-th, if they are one."""
        match ops:
            case [
                Norm() as before_qkv,
                QKV() as qkv,
                Attention() as attention,
                Output() as output,
                Norm() as before_mlp,
                GatedMLP() as mlp,
                Down() as down,
            ]:
                packed = (qkv.weight, output.weight, mlp.gate_up, down.weight)
                placed = [self._weights.placed(weight) for weight in packed]
                weights = [(one.weight, one.parts) for one in placed]
                return Layer(
                    at=at,
                    index=attention.layer,
                    weights=dict(zip(WEIGHTS, weights, strict=True)),
                    bias=None if qkv.bias is None else self._vector(qkv.bias),
                    attention_norm=Norming(self._vector(before_qkv.weight), before_qkv.eps),
                    mlp_norm=Norming(self._vector(before_mlp.weight), before_mlp.eps),
                )
        return None

    def _embed(self, table: Packed) -> Make:
        placed = self._weights.placed(table)
        weight, buffers = placed.weight, self._open
        defines = {
            **weight.form.defines,
            "BLOCK": weight.layout.block,
            "IMAGE": int(weight.layout.image),
            "WIDTH": weight.cols,
            "OUT_STRIDE": padded(weight.cols),
        }
        source = Source("embed.cl", defines)
        launches = []
        for part in placed.parts:
            weights = (part.codes, part.scales, part.minimums)
            unused = buffers.step
            rows = (part.row0, part.rows)
            arguments = (*weights, unused, unused, buffers.x, buffers.step, 0, *rows, unused, 0.0)
            launches.append(self._device.launch(source, "embed", arguments, (1, 1, 1)))
        words = weight.form.words
        return lambda shape: [(launch, (words, shape.tokens, 1)) for launch in launches]

    def _norm(self, norming: Norming, *, gather: bool) -> Launch:
        buffers = self._open
        cpu = self._device.capabilities.kind is DeviceKind.CPU
        group = 1 if cpu else 64
        defines = {
            "WIDTH": self._hidden,
            "STRIDE": padded(self._hidden),
            "GATHER": int(gather),
            "WGS": group,
            "LANES": 16 if cpu else 2,
        }
        arguments = (buffers.x, norming.weight, buffers.n, buffers.step, norming.eps)
        source = Source("norm.cl", defines)
        return self._device.launch(source, "norm", arguments, (group, 1, 1))

    def _normed(
        self,
        packed: Packed,
        last: Op | None,
        out: Any,
        width: int,
        epilogue: Epilogue = Epilogue.STORE,
        *,
        bias: Any = None,
        wanted: bool = False,
    ) -> Make:
        """A norm and the product that reads it: for one token in one launch, where it can."""
        if not isinstance(last, Norm):
            raise TypeError("a product of the normed stream has to follow a norm")
        buffers = self._open
        counter = int(steps.Entry.WANTED if wanted else steps.Entry.TOKENS)
        norming = Norming(self._vector(last.weight), last.eps)
        norm = self._norm(norming, gather=wanted)
        plain = Operand(buffers.n, out, width, buffers.step, counter, bias, epilogue)
        placed = self._weights.placed(packed)
        fuses = self._weights.norms(placed)
        one = replace(plain, x=buffers.x, norm=norming) if fuses else plain
        product = self._product(placed, plain, one)

        def make(shape: Shape) -> list[Sized]:
            count = shape.wanted if wanted else shape.tokens
            apart = count > 1 or not fuses or (wanted and shape.capture)
            size = (norm.local[0], count, 1)
            return ([(norm, size)] if apart and count else []) + product(shape)

        return make

    def _product(self, placed: Placed, operand: Operand, one: Operand | None = None) -> Make:
        """The launches of a product; with one token as `one` says.

        A tile is prepared when a step first has its size: most are never seen by a conversation.
        """
        wanted = operand.counter == steps.Entry.WANTED
        ready: dict[int, tuple[Variant, list[tuple[Launch, int]]]] = {}

        def make(shape: Shape) -> list[Sized]:
            count = shape.wanted if wanted else shape.tokens
            if not count:
                return []
            tile = next((tile for tile in TILES if tile >= count), TILES[-1])
            if tile not in ready:
                to = operand if tile > 1 or one is None else one
                ready[tile] = self._weights.product(placed, to, tile)
            variant, launches = ready[tile]
            down = -(-count // variant.tokens)
            return [
                (launch, (across, down * launch.local[1], launch.local[2]))
                for launch, across in launches
            ]

        return make

    def _residual(self, packed: Packed, x: Any) -> Make:
        """A product that is added to the residual stream."""
        buffers = self._open
        counter = int(steps.Entry.TOKENS)
        operand = Operand(x, buffers.x, self._hidden, buffers.step, counter, None, Epilogue.ADD)
        return self._product(self._weights.placed(packed), operand)

    def _head(self, op: Head, last: Op | None) -> Make:
        """The logits, and in a greedy step the best of each row."""
        product = self._normed(op.weight, last, self._open.logits, self._vocab, wanted=True)

        def make(shape: Shape) -> list[Sized]:
            best = [self._best.launch(shape.wanted)] if shape.greedy and shape.wanted else []
            return product(shape) + best

        return make

    def _vector(self, values: F32) -> Any:
        """A vector on the device, padded with zeros."""
        data = padded_vector(values)
        self._open.held.append(data)
        return self._device.constant(data)

    @property
    def _open(self) -> _Buffers:
        if self._buffers is None:
            raise RuntimeError("the plan is closed")
        return self._buffers

    def run(self, batch: Batch) -> Step:
        """Run one step. Raises `BackendLost` when the device fails."""
        buffers = self._open
        check_batch(batch, kv=self._kv, max_tokens=self._max_tokens, vocab=self._vocab)
        shape = self._shape(batch)
        counters = COUNTERS * self._joined if shape.tokens == 1 else 0
        numbers = steps.encode(
            batch, self._frequencies, self._kv.block_tokens, shape.parts, counters
        )
        device = self._device
        device.write(buffers.step, numbers)
        device.submit(self._launches(shape))
        if shape.greedy and shape.wanted:
            logits = self._best.read(shape.wanted)
        else:
            logits = self._rows(buffers.logits, shape.wanted, self._vocab)
        hidden = self._rows(buffers.n, shape.wanted, self._hidden) if batch.capture else None
        if logits.size and not np.isfinite(logits.max()):
            raise InvalidResult("the OpenCL device returned logits that are no numbers")
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
        self._check_block(block)
        return self._attention.read_block(block)

    def write_block(self, block: int, values: F16) -> None:
        """Take a block in the form that all backends share."""
        self._check_block(block)
        self._attention.write_block(block, values)

    def _check_block(self, block: int) -> None:
        if not 0 <= block < self._kv.blocks:
            raise ValueError(f"block {block} must be in the pool of {self._kv.blocks}")

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block of the pool in all layers."""
        if not (0 <= source < self._kv.blocks and 0 <= target < self._kv.blocks):
            raise ValueError(
                f"blocks {source} and {target} must be in the pool of {self._kv.blocks}"
            )
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


def _for_one_token(joined: Sized, several: Sequence[Make]) -> Make:
    """One launch for one token, several for more."""

    def make(shape: Shape) -> list[Sized]:
        if shape.tokens == 1:
            return [joined]
        return [sized for one in several for sized in one(shape)]

    return make


def _nothing(_shape: Shape) -> list[Sized]:
    return []
