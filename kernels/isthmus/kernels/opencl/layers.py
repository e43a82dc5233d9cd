"""Whole layers of one token in one launch, for a CPU: `kernels/cl/layers.cl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from isthmus.kernels.opencl.attention import AttentionKernels
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layouts import PackedWeight, padded
from isthmus.kernels.opencl.products import Norming, Part
from isthmus.kernels.opencl.programs import Source
from isthmus.kernels.opencl.runtime import Device, Launch, Sized

COUNTERS = 16
"""Numbers of a step that belong to a launch: it counts in two of a cache line."""
LAYER_OPS = 7
"""Operators of a layer."""
WEIGHTS = ("qkv", "output", "gate_up", "down")
_ENTRIES = 18
_ROWS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A layer on the device."""

    at: int
    """Where its operators begin in the graph."""
    index: int
    """Which of the model's layers it is."""
    weights: Mapping[str, tuple[PackedWeight, tuple[Part, ...]]]
    """By `WEIGHTS`."""
    bias: Any
    attention_norm: Norming
    mlp_norm: Norming

    @property
    def cols(self) -> int:
        """Columns of the longest input."""
        return max(padded(weight.cols) for weight, _ in self.weights.values())

    def source(self, device: Device, attention: AttentionKernels) -> Source | None:
        """The kernel that does it, or None where it takes several launches.

        It takes a CPU, where groups that have begun go on, and weights in undivided runs of 16
        rows.
        """
        limits = device.capabilities
        hidden = self.weights["qkv"][0].cols
        if (
            limits.kind is not DeviceKind.CPU
            or attention.pool(self.index) is None
            or int(attention.defines["HEAD_DIM"]) % _ROWS
            or 4 * (2 * self.cols + attention.local_floats) > limits.local_bytes
        ):
            return None
        defines = {
            **attention.defines,
            "BIAS": int(self.bias is not None),
            "WIDTH": hidden,
            "X_STRIDE": padded(hidden),
            "MOST_COLS": self.cols,
        }
        for name, (weight, parts) in self.weights.items():
            layout, form = weight.layout, weight.form
            if len(parts) > 1 or layout.block % _ROWS or layout.image:
                return None
            numbers = {
                "ROWS": parts[0].rows,
                "COLS": form.padded_cols,
                "BITS": form.bits,
                "GROUP": form.group,
                "SYMMETRIC": int(form.symmetric),
                "BLOCK": layout.block,
                # One for every core: smaller ones share better, but stream worse.
                "PIECES": min(parts[0].rows // _ROWS, limits.compute_units),
            }
            defines |= {f"{name.upper()}_{key}": value for key, value in numbers.items()}
        return Source("layers.cl", defines)


@dataclass(frozen=True, slots=True, eq=False)
class LayerBuffers:
    """What layers read and write, as layers.cl names it."""

    x: Any
    qkv: Any
    h: Any
    step: Any


def join_layers(
    device: Device, layers: Sequence[Layer], attention: AttentionKernels, buffers: LayerBuffers
) -> list[tuple[slice, Sized]]:
    """A launch for every run of layers that are alike, and the operators in whose place it goes."""

    def kind(place: int) -> tuple[object, ...]:
        layer = layers[place]
        eps = (layer.attention_norm.eps, layer.mlp_norm.eps, attention.norming(layer.index)[1])
        return layer.source(device, attention), eps, layer.at - place * LAYER_OPS

    joined: list[tuple[slice, Sized]] = []
    for (source, *_), places in groupby(range(len(layers)), kind):
        if isinstance(source, Source):
            run = [layers[place] for place in places]
            counters = COUNTERS * len(joined)
            launch = _prepare(device, source, run, attention, buffers, counters)
            which = slice(run[0].at, run[-1].at + LAYER_OPS)
            joined.append((which, (launch, (device.capabilities.compute_units, 1, 1))))
    return joined


def _prepare(
    device: Device,
    source: Source,
    layers: Sequence[Layer],
    attention: AttentionKernels,
    buffers: LayerBuffers,
    counters: int,
) -> Launch:
    """The launch of layers that are alike; `counters` of a step's counters lie before its own."""
    unused = buffers.step
    addresses = device.zeros(2 * _ENTRIES * len(layers))
    held: list[Any] = []
    for at, layer in enumerate(layers):
        codes = [
            buffer
            for _, (part,) in layer.weights.values()
            for buffer in (part.codes, part.scales, part.minimums)
        ]
        others = (
            unused if layer.bias is None else layer.bias,
            layer.attention_norm.weight,
            layer.mlp_norm.weight,
            attention.norming(layer.index)[0],
        )
        noted = (*codes, *others, *(attention.pool(layer.index) or ()))
        device.send(device.launch(source, "note", (*noted, addresses, at), (1, 1, 1)), (1, 1, 1))
        held += noted
    first = layers[0]
    arguments = (
        addresses,
        len(layers),
        first.attention_norm.eps,
        first.mlp_norm.eps,
        attention.norming(first.index)[1],
        buffers.x,
        buffers.qkv,
        attention.partial,
        buffers.h,
        buffers.step,
        counters,
    )
    launch = device.launch(source, "layers", arguments, (1, 1, 1))
    return Launch(launch.kernel, launch.local, (*launch.holds, *held))
