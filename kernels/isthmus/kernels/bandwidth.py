"""The machine's read bandwidth, the ceiling of decoding: `python -m isthmus.kernels.bandwidth 2`.

It is measured in a process of its own (`measure`), whose memory nobody else has touched.
"""

from __future__ import annotations

import subprocess
import sys

from isthmus.kernels.compiled import _native

_BYTES = 512 << 20
"""Far above every cache."""
_PASSES = 8


def read_gb_s(threads: int) -> float:
    """The best of some passes over half a gigabyte, each thread on its own part, in GB/s."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return _native.read_bandwidth(_BYTES, threads, _PASSES) / 1e9


def measure(threads: int) -> float:
    """`read_gb_s` in a fresh process. Raises `RuntimeError` when that fails."""
    command = [sys.executable, "-m", "isthmus.kernels.bandwidth", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"measuring the read bandwidth failed (status {done.returncode})")
    return float(done.stdout)


if __name__ == "__main__":
    sys.stdout.write(f"{read_gb_s(int(sys.argv[1]))}\n")
