"""Runs a module as `python -m` does, in a process that ends with its parent, however that ends.

`python leash.py PARENT MODULE ARGUMENTS…`, PARENT being the parent's process id. It is not done
between fork and exec: a process in which gRPC has threads cannot be forked safely. Knows nothing of
Isthmus, so that another interpreter can run it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the module."""
    parent, module, *arguments = sys.argv[1:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):
            os._exit(1)
    sys.path[0] = os.getcwd()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
