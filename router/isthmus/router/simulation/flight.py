"""What is remembered of requests that are in the cloud: columns in a ring that grows when full."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from isthmus.router.simulation.requests import Ints


class Flight:
    """Rows by running number. A row is overwritten once its number and all before it are out."""

    def __init__(self, columns: Iterable[str], capacity: int = 1024) -> None:
        self.columns: dict[str, NDArray[np.float64]] = {n: np.zeros(capacity) for n in columns}
        self.capacity = capacity
        self.next = 0
        self.oldest = 0

    def add(self, rows: dict[str, NDArray[np.float64]], inside: Iterable[int]) -> Ints:
        """Remember rows; `inside` are the numbers that are still needed. Returns their numbers."""
        count = len(next(iter(rows.values())))
        numbers = np.arange(self.next, self.next + count)
        if self.next + count - self.oldest > self.capacity:
            self.oldest = min(inside, default=self.next)
            while self.next + count - self.oldest > self.capacity:
                self._grow()
        for name, column in self.columns.items():
            column[numbers % self.capacity] = rows[name]
        self.next += count
        return numbers

    def rows(self, numbers: Ints) -> dict[str, NDArray[np.float64]]:
        """What is remembered of these."""
        return {name: column[numbers % self.capacity] for name, column in self.columns.items()}

    def _grow(self) -> None:
        kept = np.arange(self.oldest, self.next)
        for name, column in self.columns.items():
            larger = np.zeros(2 * self.capacity)
            larger[kept % (2 * self.capacity)] = column[kept % self.capacity]
            self.columns[name] = larger
        self.capacity *= 2
