"""Work on parts of a layer, shared among the processor's cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CORES = os.cpu_count() or 1

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`function` of every item, in order. NumPy frees the GIL, so threads are enough."""
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(function, items))
