"""The best token of each wanted row, found on the device: a greedy step reads back little else."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.kernels.base import F32
from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.layouts import padded
from isthmus.kernels.opencl.programs import Source
from isthmus.kernels.opencl.runtime import Device, Sized

_PARTS = 16
"""Parts of a row, each looked through by a work-group."""


class BestKernel:
    """`kernels/cl/best.cl` over the logits of up to `tokens` rows."""

    def __init__(self, device: Device, logits: Any, vocab: int, tokens: int) -> None:
        cpu = device.capabilities.kind is DeviceKind.CPU
        group, lanes = (1, 16) if cpu else (64, 2)
        share = padded(-(-vocab // _PARTS), group * lanes)
        self._device = device
        self._vocab = vocab
        self._parts = -(-vocab // share)
        self._found = device.zeros(tokens * self._parts * 2)
        defines = {
            "VOCAB": vocab,
            "STRIDE": padded(vocab),
            "SHARE": share,
            "WGS": group,
            "LANES": lanes,
        }
        arguments = (logits, self._found)
        self._launch = device.launch(Source("best.cl", defines), "best", arguments, (group, 1, 1))

    def launch(self, wanted: int) -> Sized:
        """The launch for so many rows."""
        return self._launch, (self._parts * self._launch.local[0], wanted, 1)

    def read(self, wanted: int) -> F32:
        """The largest logit of every row, all others without a chance. [wanted, vocab]"""
        found = np.empty((wanted, self._parts, 2), np.float32)
        self._device.read(self._found, found)
        rows = np.arange(wanted)
        first = found[:, :, 0].argmax(axis=1)  # of equals the first, and one that is no number
        tokens = found[:, :, 1].view(np.int32)[rows, first]
        logits = np.full((wanted, self._vocab), -np.inf, np.float32)
        logits[rows, np.minimum(tokens, self._vocab - 1)] = found[rows, first, 0]
        return logits
