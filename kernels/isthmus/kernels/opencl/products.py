"""A weight on a device, and its product with every number of tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.kernels.errors import OutOfDeviceMemory
from isthmus.kernels.opencl.layouts import Layout, PackedWeight, padded
from isthmus.kernels.opencl.programs import Source
from isthmus.kernels.opencl.variants import Variant

if TYPE_CHECKING:
    from isthmus.kernels.opencl.runtime import Device, Launch


class Epilogue(IntEnum):
    """What becomes of a result; the values are product.h's."""

    STORE = 0
    ADD = 1
    SWIGLU = 2


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows of a weight, small enough for one allocation."""

    row0: int
    rows: int
    codes: Any
    scales: Any
    minimums: Any


def place(weight: PackedWeight, device: Device) -> tuple[Part, ...]:
    """Put a weight on the device, in as many parts as its limits ask for."""
    codes, scales, minimums = weight.arrays()
    block = weight.layout.block
    blocks = codes.shape[0]
    limits = device.capabilities
    fits = limits.allocation_bytes // max(1, codes[0].nbytes)
    if weight.layout.image:
        fits = min(fits, limits.image_size[1])
    # A part begins at a multiple of 128 rows, so that its groups are whole.
    unit = max(1, 128 // block)
    share = max(unit, fits // unit * unit)
    parts = []
    for first in range(0, blocks, share):
        chosen = slice(first, min(first + share, blocks))
        here = codes[chosen]
        parts.append(
            Part(
                row0=first * block,
                rows=here.shape[0] * block,
                codes=device.image(here) if weight.layout.image else device.constant(here),
                scales=device.constant(scales[chosen]),
                minimums=device.constant(minimums[chosen]),
            )
        )
    return tuple(parts)


def place_somehow(
    weight: PackedWeight, device: Device
) -> tuple[PackedWeight, tuple[Part, ...], str | None]:
    """As `place`, but in buffers where the device refuses an image: how it lies then, and why."""
    try:
        return weight, place(weight, device), None
    except OutOfDeviceMemory as error:
        if not weight.layout.image:
            raise
        reason = str(error)
    buffered = replace(weight, layout=Layout(weight.layout.block))
    return buffered, place(buffered, device), reason


@dataclass(frozen=True, slots=True, eq=False)
class Norming:
    """A norm that a product does itself."""

    weight: Any
    """[padded(hidden)] float32"""
    eps: float


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """Where a product reads and writes."""

    x: Any
    """[tokens, padded(cols)] float32"""
    out: Any
    """[tokens, padded(out_width)] float32"""
    out_width: int
    step: Any
    counter: int
    """Where the number of tokens stands in `step`."""
    bias: Any = None
    epilogue: Epilogue = Epilogue.STORE
    norm: Norming | None = None
    """Where x is the residual stream of one token, to be normed on the way in."""


def prepare(
    device: Device,
    weight: PackedWeight,
    parts: tuple[Part, ...],
    variant: Variant,
    operand: Operand,
) -> list[tuple[Launch, int]]:
    """A launch for each part, with its number of work-items along the rows.

    Raises ValueError when the variant cannot be used for it.
    """
    paired = operand.epilogue is Epilogue.SWIGLU
    reason = variant.misfit(weight.form, device.capabilities, paired=paired)
    if variant.layout != weight.layout:
        reason = f"its weights lie in the order {weight.layout}"
    if reason is not None:
        raise ValueError(f"{variant} cannot be used here: {reason}")
    defines = {
        **weight.form.defines,
        **variant.defines,
        "X_STRIDE": padded(weight.cols),
        "OUT_STRIDE": padded(operand.out_width),
        "EPILOGUE": int(operand.epilogue),
        "BIAS": int(operand.bias is not None),
        "NORM": int(operand.norm is not None),
        "NORM_WIDTH": weight.cols,
    }
    source = Source(variant.algorithm.file, defines)
    bias = operand.step if operand.bias is None else operand.bias
    norm = Norming(operand.step, 0.0) if operand.norm is None else operand.norm
    x = device.texels(operand.x) if variant.tunables.get("x_image") else operand.x
    launches = []
    for part in parts:
        arguments = (
            part.codes,
            part.scales,
            part.minimums,
            x,
            bias,
            operand.out,
            operand.step,
            operand.counter,
            part.row0,
            part.rows,
            norm.weight,
            norm.eps,
        )
        launch = device.launch(source, "product", arguments, variant.local)
        launches.append((launch, variant.groups(part.rows) * variant.local[0]))
    return launches


def padded_vector(values: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    """A vector of floats with zeros up to the padded width."""
    out = np.zeros(padded(len(values)), np.float32)
    out[: len(values)] = values
    return out
