"""Requests as columns: what a trace holds and a generator makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in the order of their arrival, one a row of every column."""

    arrival_s: Floats
    prompt_tokens: Ints
    answer_tokens: Ints
    difficulty: Floats
    """0 to 1; not a number where nothing is known."""
    device: Ints
    """-1: any."""
    blocks: tuple[tuple[int, ...], ...] | None = None
    """The prompt's prefix in blocks of `BLOCK_TOKENS`: equal numbers are equal tokens with all
    that is before them."""

    def __len__(self) -> int:
        return len(self.arrival_s)

    def take(self, rows: Ints | slice, arrival_s: Floats | None = None) -> Requests:
        """These rows, at other times where given."""
        blocks = self.blocks
        if blocks is not None:
            blocks = blocks[rows] if isinstance(rows, slice) else tuple(blocks[row] for row in rows)
        return Requests(
            self.arrival_s[rows] if arrival_s is None else arrival_s,
            self.prompt_tokens[rows],
            self.answer_tokens[rows],
            self.difficulty[rows],
            self.device[rows],
            blocks,
        )


BLOCK_TOKENS = 512
"""Mooncake's prefix blocks."""


class Workload(Protocol):
    """Where requests come from: asked for one stretch of time after the other."""

    @property
    def hours(self) -> float:
        """How long it lasts."""

    def between(self, start_s: float, end_s: float, rng: Rng) -> Requests:
        """What arrives from `start_s` on and before `end_s`."""


def no_requests() -> Requests:
    """None at all."""
    empty = np.zeros(0, np.int64)
    return Requests(np.zeros(0), empty, empty, np.zeros(0), empty)


def unknown(count: int) -> tuple[Floats, Ints]:
    """Difficulties and devices that are not known."""
    return np.full(count, np.nan), np.full(count, -1, np.int64)
