"""The build of the package: scikit-build-core's, after the page's web libraries were fetched.

A backend in the tree as PEP 517 describes it. Without a network the package is built all the same:
the agent works, and its page says how to get what is missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from scikit_build_core import build as backend
from scikit_build_core.build import *  # noqa: F403

_FETCH = Path(__file__).parent / "isthmus" / "edge" / "page" / "libraries.py"


def _fetch() -> None:
    # As a script: nothing of the package may be imported while it is built.
    subprocess.run([sys.executable, _FETCH, "--optional"], check=True)


def build_wheel(*arguments: Any, **options: Any) -> str:
    """PEP 517's hook."""
    _fetch()
    return backend.build_wheel(*arguments, **options)


def build_editable(*arguments: Any, **options: Any) -> str:
    """PEP 660's hook."""
    _fetch()
    return backend.build_editable(*arguments, **options)


def build_sdist(*arguments: Any, **options: Any) -> str:
    """PEP 517's hook."""
    _fetch()
    return backend.build_sdist(*arguments, **options)
