"""PoCL with kernels that clang compiles: it takes SPIR in place of a source.

So kernels in half precision run on a CPU whose PoCL does not offer it, and those with sub-groups,
of one work-item each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyopencl as cl
import pytest

from clang_kernels import clang
from isthmus.kernels.opencl.programs import ProgramCache, Source
from isthmus.kernels.opencl.runtime import Device, devices

_CONVERSIONS = tuple(
    f"-Dconvert_{kind}{width}(v)=__builtin_convertvector(v, {kind}{width})"
    for kind in ("half", "float")
    for width in (2, 4, 8, 16)
)
"""PoCL's library has none of halves."""
_ONE_ITEM = (
    "-Dsub_group_reduce_add(v)=(v)",
    "-Dget_num_sub_groups()=WGS",
    "-Dget_sub_group_id()=get_local_id(0)",
    "-Dget_sub_group_local_id()=0",
)


class SpirDevice(Device):
    """A device whose kernels clang compiles."""

    def _program(self, source: Source) -> Any:
        spir = clang(source, *_CONVERSIONS, *_ONE_ITEM, "-O1", "-emit-llvm", "-c", "-o", "-")
        return cl.Program(self._context, [self._handle], [spir]).build("-x spir -spir-std=1.2")


def spir_device() -> Device:
    """Debian's PoCL, which takes SPIR; skips the test where it is not."""
    for capabilities, handle in devices():
        if "PoCL 3.1" in capabilities.platform and "cl_khr_spir" in handle.extensions:
            extended = replace(capabilities, fp16=True, subgroups=(1,))
            return SpirDevice(extended, handle, ProgramCache(None))
    pytest.skip("needs a PoCL that takes SPIR")
