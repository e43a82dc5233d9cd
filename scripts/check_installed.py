"""Whether the installed package is whole: run with the Python that it was installed into.

The kernels load, `isthmus --version` tells the version, and the agent's page has its libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which


def main() -> int:
    """0 when it is; an exception, or a line that says what is not."""
    import isthmus.kernels
    from isthmus.edge.page.libraries import missing
    from isthmus.kernels.compiled import _native

    installed = Path(isthmus.kernels.__file__)
    if "site-packages" not in installed.parts:
        return _failed(f"{installed} is a checkout's, not an installed package's")
    sets = _native.runnable_kernels().split(",")
    if "scalar" not in sets:
        return _failed(f"the kernels for any processor are missing; there are {', '.join(sets)}")
    if lacking := missing():
        return _failed(f"the page lacks {', '.join(lacking)}: was it built without a network?")
    program = which("isthmus", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        return _failed("there is no program isthmus")
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    if version("isthmus") not in said:
        return _failed(f"isthmus --version says {said!r}, its metadata {version('isthmus')}")
    print(f"{said.strip()}: whole, with kernels {', '.join(sets)}")
    return 0


def _failed(reason: str) -> int:
    sys.stderr.write(f"check_installed: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
