"""Kernels compiled by a clang that knows every extension, since no device here offers them all."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from isthmus.kernels.errors import BackendLost
from isthmus.kernels.opencl.programs import Source

CLANG = next((name for name in ("clang", "clang-15", "clang-16") if shutil.which(name)), None)
_ALL = ("-Xclang", "-finclude-default-header", "-Xclang", "-cl-ext=+all")

requires_clang = pytest.mark.skipif(CLANG is None, reason="needs clang")


def clang(source: Source, *arguments: str, target: str = "spir64") -> bytes:
    """What clang makes of a kernel. Raises `BackendLost` with what it says."""
    if CLANG is None:
        raise BackendLost("there is no clang")
    command = [CLANG, "-x", "cl", "-target", target, *_ALL, *source.options.split(), *arguments]
    done = subprocess.run(
        [*command, "-"], input=source.text.encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise BackendLost(done.stderr.decode())
    return done.stdout
