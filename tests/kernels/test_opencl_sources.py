"""What no device here can run is compiled at least, by a clang that knows every extension."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from isthmus.kernels.opencl.programs import Source, read_source
from isthmus.kernels.opencl.variants import ALGORITHMS, Variant

CLANG = next((name for name in ("clang", "clang-15", "clang-16") if shutil.which(name)), None)
ALL_EXTENSIONS = ("-Xclang", "-finclude-default-header", "-Xclang", "-cl-ext=+all")


@pytest.mark.skipif(CLANG is None, reason="needs clang")
@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.parametrize("epilogue", [0, 2])
def test_every_algorithm_compiles_for_a_device_with_all_extensions(
    name: str, epilogue: int
) -> None:
    source = Source(ALGORITHMS[name].file, {**Variant.of(name).defines, "EPILOGUE": epilogue})
    assert said_of(source) == ""


@pytest.mark.skipif(CLANG is None, reason="needs clang")
@pytest.mark.parametrize("file", ["attention.cl", "best.cl", "embed.cl", "layers.cl", "norm.cl"])
def test_every_other_kernel_compiles_by_hand(file: str) -> None:
    assert said_of(Source(file)) == ""


def said_of(source: Source) -> str:
    """What clang finds wrong."""
    assert CLANG is not None
    command = [CLANG, "-x", "cl", "-target", "spir64", *ALL_EXTENSIONS, *source.options.split()]
    done = subprocess.run(
        [*command, "-fsyntax-only", "-Werror", "-"],
        input=source.text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_a_source_has_its_includes_in_place_and_its_options_in_order() -> None:
    source = Source("product_n.cl", {"WGS": 4, "BLOCK": 16})
    assert "\n#include" not in source.text
    assert read_source("common.h") in source.text
    assert source.options == "-cl-std=CL1.2 -DBLOCK=16 -DWGS=4"
