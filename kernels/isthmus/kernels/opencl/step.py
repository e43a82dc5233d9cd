"""What makes one step differ from another: its shape, and its numbers in one buffer.

One write brings them to the device: a header (`common.h` names its entries), then for each token
its id, its position, where its block table begins, the wanted rows, cos and sin of each of its
turns as float32, the block tables, and zeros in which the groups of a launch count what they have
done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from isthmus.kernels.base import F32, I32, Batch

F64 = NDArray[np.float64]


class Entry(IntEnum):
    """Places in the header, as common.h has them."""

    TOKENS = 0
    WANTED = 1
    IDS = 2
    POSITIONS = 3
    TABLES = 4
    ROWS = 5
    TURNS = 6
    PARTS = 7
    TICKETS = 8


HEADER = len(Entry)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the launches of a step depend on."""

    tokens: int
    wanted: int
    fused: bool
    """No token sees another of the step."""
    parts: int
    """Parts of the context that are attended to apart."""
    capture: bool
    greedy: bool
    """The best token of a row is all that is asked for."""


def capacity(max_tokens: int, blocks: int, head_dim: int, counters: int) -> int:
    """Most numbers of a step."""
    return HEADER + max_tokens * (4 + head_dim + blocks) + counters


def turns(positions: I32, frequencies: F64) -> F32:
    """Cos and sin of each pair. [tokens, head_dim] float32; frequencies: [head_dim / 2] float64"""
    angles = positions[:, None] * frequencies
    out = np.empty((len(positions), len(frequencies), 2), np.float32)
    np.cos(angles, out=out[:, :, 0], casting="same_kind")
    np.sin(angles, out=out[:, :, 1], casting="same_kind")
    return out.reshape(len(positions), -1)


def encode(batch: Batch, frequencies: F64, block_tokens: int, parts: int, counters: int = 0) -> I32:
    """The numbers of a step."""
    count, wanted = len(batch.tokens), len(batch.rows)
    used, sequence = batch.block_tables, batch.sequence
    if used.shape[0] > count:
        kept, places = np.unique(sequence, return_inverse=True)
        used, sequence = used[kept], places.astype(np.int32)
    width = int(batch.positions.max()) // block_tokens + 1
    ids = HEADER
    positions = ids + count
    tables = positions + count
    rows = tables + count
    first_turn = rows + wanted
    turned = turns(batch.positions, frequencies)
    first_table = first_turn + turned.size
    first_counter = first_table + used.shape[0] * width
    out = np.empty(first_counter + counters, np.int32)
    out[:HEADER] = (count, wanted, ids, positions, tables, rows, first_turn, parts, first_counter)
    out[ids:positions] = batch.tokens
    out[positions:tables] = batch.positions
    out[tables:rows] = first_table + sequence * width
    out[rows:first_turn] = batch.rows
    out[first_turn:first_table] = turned.reshape(-1).view(np.int32)
    out[first_table:first_counter] = used[:, :width].reshape(-1)
    out[first_counter:] = 0
    return out
