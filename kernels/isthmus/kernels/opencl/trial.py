"""One product alone, for the tuner, the self-test and the tests."""

from __future__ import annotations

import numpy as np

from isthmus.kernels.base import F32, QuantizedWeight
from isthmus.kernels.opencl import layouts
from isthmus.kernels.opencl.layouts import PackedWeight, padded
from isthmus.kernels.opencl.products import (
    Epilogue,
    Norming,
    Operand,
    Part,
    padded_vector,
    place,
    prepare,
)
from isthmus.kernels.opencl.runtime import Device
from isthmus.kernels.opencl.step import HEADER, Entry
from isthmus.kernels.opencl.variants import Variant


class Trial:
    """`out = x @ weight.T` (and what `epilogue` says) by one variant, on one device.

    `parts` is the weight where it lies on the device already; it has to stay as long as the trial.
    Raises ValueError when the variant cannot be used for it, `BackendLost` when the device fails.
    """

    def __init__(
        self,
        device: Device,
        weight: QuantizedWeight | PackedWeight,
        variant: Variant,
        *,
        max_tokens: int,
        parts: tuple[Part, ...] | None = None,
        epilogue: Epilogue = Epilogue.STORE,
        bias: F32 | None = None,
        norm: tuple[F32, float] | None = None,
    ) -> None:
        self._device = device
        self._variant = variant
        self._packed = (
            weight if isinstance(weight, PackedWeight) else layouts.pack(weight, variant.layout)
        )
        self._width = weight.rows // 2 if epilogue is Epilogue.SWIGLU else weight.rows
        tokens = padded(max_tokens, variant.tokens)
        self._x = device.zeros(tokens * padded(weight.cols))
        self._out = device.zeros(tokens * padded(self._width))
        self._step = device.zeros(HEADER)
        self._held = [padded_vector(bias) if bias is not None else np.zeros(1, np.float32)]
        norming = None
        if norm is not None:
            self._held.append(padded_vector(norm[0]))
            norming = Norming(device.constant(self._held[-1]), norm[1])
        operand = Operand(
            x=self._x,
            out=self._out,
            out_width=self._width,
            step=self._step,
            counter=int(Entry.TOKENS),
            bias=device.constant(self._held[0]) if bias is not None else None,
            epilogue=epilogue,
            norm=norming,
        )
        placed = place(self._packed, device) if parts is None else parts
        self._launches = prepare(device, self._packed, placed, variant, operand)

    @property
    def weight_bytes(self) -> int:
        """What a pass over the weight reads."""
        return self._packed.nbytes

    def send(self, tokens: int) -> None:
        """Queue the product of `tokens` tokens that were written before."""
        down = -(-tokens // self._variant.tokens)
        self._device.submit(
            [
                (launch, (across, down * launch.local[1], launch.local[2]))
                for launch, across in self._launches
            ]
        )

    def run(self, x: F32, out: F32 | None = None) -> F32:
        """The product. x: [tokens, cols]; `out` [tokens, width] is what was there before."""
        tokens, cols = x.shape
        inputs = np.zeros((tokens, padded(cols)), np.float32)
        inputs[:, :cols] = x
        before = np.zeros((tokens, padded(self._width)), np.float32)
        if out is not None:
            before[:, : self._width] = out
        header = np.zeros(HEADER, np.int32)
        header[Entry.TOKENS] = tokens
        for buffer, data in ((self._x, inputs), (self._out, before), (self._step, header)):
            self._device.write(buffer, data)
        self.send(tokens)
        self._device.read(self._out, before)
        return before[:, : self._width]
