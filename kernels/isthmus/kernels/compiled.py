"""The compiled extension, and whether it was built from the sources that lie beside this code.

An editable install keeps the extension of its day, while the Python code that calls it follows the
checkout: one of another commit would be loaded, and might compute something else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from isthmus.kernels import _native

__all__ = ["_native", "check", "digest"]

_SOURCES = Path(__file__).parents[2] / "native"
"""In a checkout; an installed wheel has none, and was built whole."""


def digest(folder: Path) -> str:
    """Of the C++ sources in `folder`, as kernels/native/CMakeLists.txt computes it."""
    files = sorted(path for path in folder.iterdir() if path.suffix in {".cpp", ".hpp", ".txt"})
    each = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def check(built_from: str, folder: Path) -> None:
    """Raise `ImportError` when an extension with that digest is not of the sources in `folder`."""
    if folder.is_dir() and built_from != digest(folder):
        raise ImportError(
            f"the compiled kernels ({_native.__file__}) are not of the sources in {folder}: "
            "make setup"
        )


check(getattr(_native, "sources", ""), _SOURCES)
