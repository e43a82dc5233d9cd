"""What no device here offers is compiled at least, by a clang that knows every extension."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clang_kernels import clang, requires_clang
from isthmus.kernels.opencl.algorithms import ALGORITHMS
from isthmus.kernels.opencl.programs import Source, read_source
from isthmus.kernels.opencl.variants import Variant


def extended() -> Iterator[Variant]:
    """Every algorithm, as it stands first and with what a device may have beyond the core."""
    for name, algorithm in ALGORITHMS.items():
        yield Variant.of(name)
        if "fp16" in algorithm.options:
            yield Variant.of(name, fp16=1)
        for size in algorithm.options.get("sub", (0,))[1:]:
            yield Variant.of(name, sub=size, fp16=1, staged=1)


@requires_clang
@pytest.mark.parametrize("variant", list(extended()), ids=str)
@pytest.mark.parametrize("epilogue", [0, 2])
def test_every_algorithm_compiles_for_a_device_with_all_extensions(
    variant: Variant, epilogue: int
) -> None:
    source = Source(variant.algorithm.file, {**variant.defines, "EPILOGUE": epilogue})
    clang(source, "-fsyntax-only", "-Werror")


@requires_clang
@pytest.mark.parametrize("file", ["attention.cl", "best.cl", "embed.cl", "layers.cl", "norm.cl"])
def test_every_other_kernel_compiles_by_hand(file: str) -> None:
    clang(Source(file), "-fsyntax-only", "-Werror")


@requires_clang
@pytest.mark.parametrize(
    ("size", "asked"), [(64, 'sub_group_size("half")'), (128, 'sub_group_size("full")')]
)
def test_qualcomms_sub_groups_are_asked_for_by_its_own_names(size: int, asked: str) -> None:
    variant = Variant.of("gemv.k", sub=size)
    source = Source(variant.algorithm.file, {**variant.defines, "cl_qcom_reqd_sub_group_size": 1})
    assert asked.encode() in clang(source, "-E")


def test_a_source_has_its_includes_in_place_and_its_options_in_order() -> None:
    source = Source("product_n.cl", {"WGS": 4, "BLOCK": 16})
    assert "\n#include" not in source.text
    assert read_source("common.h") in source.text
    assert source.options == "-cl-std=CL1.2 -DBLOCK=16 -DWGS=4"
