"""The OpenCL platforms that tests run on: all that work here, or what ISTHMUS_TEST_OPENCL names.

`pip install -e '.[dev]'` brings one, which may not know the CPU. `make test-opencl` installs one
that does and names it: then nothing is skipped, and what takes long to compile is tested too.
"""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from isthmus.kernels.opencl.capabilities import Capabilities, DeviceKind


def _platforms() -> list[str]:
    named = os.environ.get("ISTHMUS_TEST_OPENCL")
    if named:
        return named.split(",")
    try:
        from isthmus.kernels.opencl.programs import ProgramCache
        from isthmus.kernels.opencl.runtime import devices, open_device
    except ImportError:
        return []
    works = []
    with suppress(OSError):
        for platform in sorted({capabilities.platform for capabilities, _ in devices()}):
            with suppress(OSError):
                open_device(platform, limited=False, programs=ProgramCache(None))
                works.append(platform)
    return works


PLATFORMS = _platforms()
"""Parts of names, as `OpenCLBackend(device=…)` takes them."""

THOROUGH = "ISTHMUS_TEST_OPENCL" in os.environ

requires_opencl = pytest.mark.skipif(not PLATFORMS, reason="needs an OpenCL device")

thorough = pytest.mark.skipif(not THOROUGH, reason="make test-opencl runs it")
"""For tests that compile long."""

GPU = Capabilities(
    platform="OpenCL 3.0",
    name="Big 100",
    vendor="Maker",
    driver="1.0",
    kind=DeviceKind.GPU,
    architecture="big",
    compute_units=32,
    fp16=True,
    subgroups=(32,),
    image_size=(16_384, 16_384),
    image_texels=1 << 20,
    work_group=256,
    local_bytes=32 << 10,
    allocation_bytes=1 << 30,
    memory_bytes=4 << 30,
    shares_memory=False,
)
"""A GPU that has everything, for what needs no real one."""
