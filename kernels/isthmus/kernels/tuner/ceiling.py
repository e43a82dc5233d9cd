"""What a device can do at most: reading, copying, multiplying and adding."""

from __future__ import annotations

import time
from dataclasses import dataclass

from isthmus.kernels.opencl.capabilities import DeviceKind
from isthmus.kernels.opencl.programs import Source
from isthmus.kernels.opencl.runtime import Device, Launch

_MOST_BYTES = 256 << 20
_ROUNDS = 9
_EACH = 16
_CHAINS = 8
_MULTIPLY_ROUNDS = 4096


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best of some rounds of each."""

    read_gb_s: float
    copy_gb_s: float
    """Bytes read and bytes written, both counted."""
    multiply_gflop_s: float
    """A multiply-add in float32 is two."""


def best_of(one: Ceiling, other: Ceiling) -> Ceiling:
    """Of each figure the better one: what else runs on a machine only ever takes."""
    return Ceiling(
        max(one.read_gb_s, other.read_gb_s),
        max(one.copy_gb_s, other.copy_gb_s),
        max(one.multiply_gflop_s, other.multiply_gflop_s),
    )


def measure(device: Device) -> Ceiling:
    """Measure `device`. Takes less than a second. Raises `BackendLost` when it fails."""
    limits = device.capabilities
    cpu = limits.kind is DeviceKind.CPU
    lanes, group = (16, 1) if cpu else (4, min(64, limits.work_group))
    source = Source(
        "ceiling.cl",
        {"LANES": lanes, "WGS": group, "EACH": _EACH, "ROUNDS": _MULTIPLY_ROUNDS},
    )
    most = min(_MOST_BYTES, limits.allocation_bytes, limits.memory_bytes // 8)
    items = most // (4 * lanes * _EACH) // group * group
    size = items * lanes * _EACH
    data, out = device.zeros(size), device.zeros(size)

    def best(name: str, items: int) -> float:
        launch = device.launch(source, name, (data, out), (group, 1, 1))
        return _best(device, launch, items)

    computing = group * limits.compute_units * (4 if cpu else 64)
    flops = 2.0 * computing * lanes * _CHAINS * _MULTIPLY_ROUNDS
    return Ceiling(
        read_gb_s=4e-9 * size / best("read", items),
        copy_gb_s=8e-9 * size / best("copy", items),
        multiply_gflop_s=1e-9 * flops / best("multiply", computing),
    )


def _best(device: Device, launch: Launch, items: int) -> float:
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        device.submit([(launch, (items, 1, 1))])
        device.finish()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
