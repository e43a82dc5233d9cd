"""The OpenCL platforms that tests run on: all that work here, or what ISTHMUS_TEST_OPENCL names.

`pip install -e '.[dev]'` brings one, so `make test` skips nothing where that knows the CPU.
"""

from __future__ import annotations

import os
from contextlib import suppress

import pytest


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

requires_opencl = pytest.mark.skipif(not PLATFORMS, reason="needs an OpenCL device")
