"""How much the tests of `make chaos` do: little in CI, all of it in `make soak`."""

from __future__ import annotations

import os

SOAK = os.environ.get("ISTHMUS_SOAK") == "1"


def count(reduced: int, full: int) -> int:
    """Of requests, kills or examples."""
    return full if SOAK else reduced
