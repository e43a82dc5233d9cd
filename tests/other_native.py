"""A pytest plugin: the native extension of the folder ISTHMUS_NATIVE in place of the installed one.

Used with builds that have sanitizers (scripts/test_native_sanitize.sh).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

_NAME = "isthmus.kernels._native"


def _load() -> None:
    (path,) = Path(os.environ["ISTHMUS_NATIVE"]).glob("_native*.so")
    spec = importlib.util.spec_from_file_location(_NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NAME] = module
    import isthmus.kernels  # the package that `from isthmus.kernels import _native` looks in

    isthmus.kernels._native = module


_load()
