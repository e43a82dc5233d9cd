"""The operators of a graph as launches over the same buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.kernels.base import (
    F32,
    QKV,
    Attention,
    Down,
    Embed,
    GatedMLP,
    Head,
    Norm,
    Op,
    Output,
    Packed,
)
from isthmus.kernels.opencl.attention import AttentionKernels
from isthmus.kernels.opencl.best import BestKernel
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layers import (
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
from isthmus.kernels.opencl.runtime import Device, Launch, Sized
from isthmus.kernels.opencl.step import Entry, Shape
from isthmus.kernels.opencl.variants import TILES, Variant
from isthmus.kernels.opencl.weights import Placed, Weights

Make = Callable[[Shape], list[Sized]]
"""The launches of an operator, or of several, for a step of some shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """The activations, named as in `kernels.base`, with what is bound to them."""

    x: Any
    n: Any
    qkv: Any
    a: Any
    h: Any
    logits: Any
    step: Any
    held: list[Any] = field(default_factory=list)


class Operators:
    """Prepares a graph's operators on a device; what they hold goes with the launches."""

    def __init__(
        self,
        device: Device,
        weights: Weights,
        attention: AttentionKernels,
        best: BestKernel,
        buffers: Buffers,
    ) -> None:
        self._device = device
        self._weights = weights
        self._attention = attention
        self._best = best
        self._buffers = buffers

    def prepare(self, ops: Sequence[Op]) -> tuple[list[Make], int]:
        """The launches of `ops`, and how many of them do whole layers of one token."""
        before = (None, *ops[:-1])
        makes = [self._prepare(op, last) for op, last in zip(ops, before, strict=True)]
        return makes, self._join_layers(ops, makes)

    def _prepare(self, op: Op, last: Op | None) -> Make:
        buffers = self._buffers
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

    def _join_layers(self, ops: Sequence[Op], makes: list[Make]) -> int:
        """Let one token go through as many layers as it can in a launch; how many launches."""
        buffers = self._buffers
        found = (self._layer(at, ops[at : at + LAYER_OPS]) for at in range(len(ops)))
        layers = [layer for layer in found if layer is not None]
        shared = LayerBuffers(buffers.x, buffers.qkv, buffers.h, buffers.step)
        joined = join_layers(self._device, layers, self._attention, shared)
        for which, sized in reversed(joined):
            makes[which] = [_for_one_token(sized, makes[which])]
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
        weight, buffers = placed.weight, self._buffers
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

    def _norm(self, norming: Norming, hidden: int, *, gather: bool) -> Launch:
        buffers = self._buffers
        cpu = self._device.capabilities.kind is DeviceKind.CPU
        group = 1 if cpu else 64
        defines = {
            "WIDTH": hidden,
            "STRIDE": padded(hidden),
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
        buffers = self._buffers
        counter = int(Entry.WANTED if wanted else Entry.TOKENS)
        norming = Norming(self._vector(last.weight), last.eps)
        norm = self._norm(norming, len(last.weight), gather=wanted)
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
        wanted = operand.counter == Entry.WANTED
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
        buffers = self._buffers
        counter = int(Entry.TOKENS)
        operand = Operand(x, buffers.x, packed.rows, buffers.step, counter, None, Epilogue.ADD)
        return self._product(self._weights.placed(packed), operand)

    def _head(self, op: Head, last: Op | None) -> Make:
        """The logits, and in a greedy step the best of each row."""
        product = self._normed(op.weight, last, self._buffers.logits, op.weight.rows, wanted=True)

        def make(shape: Shape) -> list[Sized]:
            best = [self._best.launch(shape.wanted)] if shape.greedy and shape.wanted else []
            return product(shape) + best

        return make

    def _vector(self, values: F32) -> Any:
        """A vector on the device, padded with zeros."""
        data = padded_vector(values)
        self._buffers.held.append(data)
        return self._device.constant(data)


def _for_one_token(joined: Sized, several: Sequence[Make]) -> Make:
    """One launch for one token, several for more."""

    def make(shape: Shape) -> list[Sized]:
        if shape.tokens == 1:
            return [joined]
        return [sized for one in several for sized in one(shape)]

    return make


def _nothing(_shape: Shape) -> list[Sized]:
    return []
