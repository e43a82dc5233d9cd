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
    assert CLANG is not None
    source = Source(ALGORITHMS[name].file, {**Variant.of(name).defines, "EPILOGUE": epilogue})
    command = [CLANG, "-x", "cl", "-target", "spir64", *ALL_EXTENSIONS, *source.options.split()]
    done = subprocess.run(
        [*command, "-fsyntax-only", "-Werror", "-"],
        input=source.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_source_has_its_includes_in_place_and_its_options_in_order() -> None:
    source = Source("product_n.cl", {"WGS": 4, "BLOCK": 16})
    assert "\n#include" not in source.text
    assert read_source("common.h") in source.text
    assert source.options == "-cl-std=CL1.2 -DBLOCK=16 -DWGS=4"
