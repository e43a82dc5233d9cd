"""A second start on an OpenCL device compiles nothing, neither by us nor in the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gguf_files
from opencl_devices import PLATFORMS, requires_opencl

START = "import sys; from isthmus.cli.main import main; main(sys.argv[1:])"
WITHOUT_COMPILER = f"""
from isthmus.kernels.opencl.runtime import Device
def no_compiler(self, key, source): raise SystemExit(f"compiles {{source.file}}")
Device._compile = no_compiler
{START}"""


@requires_opencl
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_second_start_compiles_nothing(platform: str, tmp_path: Path) -> None:
    model = gguf_files.write_tiny(tmp_path / "tiny.gguf")
    drivers_cache = tmp_path / "driver"
    drivers_cache.mkdir()
    asked = ["generate", "--model", str(model), "--backend", f"opencl:{platform}", "--json"]
    asked += ["--prompt", "abcdefgh", "--max-tokens", "3", "--temperature", "0", "--ignore-eos"]

    def start(code: str) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", code, *asked],
            env={
                **os.environ,
                "ISTHMUS_HOME": str(tmp_path / "home"),
                "POCL_CACHE_DIR": str(drivers_cache),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout.splitlines()[-1])["token_ids"])

    def compiled() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in drivers_cache.rglob("*.so")}

    first = start(START)
    before = compiled()
    assert start(WITHOUT_COMPILER) == first
    assert compiled() == before
