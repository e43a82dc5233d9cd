"""Checks of what reaches kernels, which trust it, and of what comes out of them."""

from __future__ import annotations

import numpy as np

from isthmus.kernels.base import F32, Batch, KVShape
from isthmus.kernels.errors import InvalidResult


def check_batch(batch: Batch, *, kv: KVShape, max_tokens: int, vocab: int) -> None:
    """Raise ValueError when a batch would make a kernel read or write outside its buffers."""
    count = len(batch.tokens)
    if not 0 < count <= max_tokens:
        raise ValueError(f"batch has {count} tokens; a plan takes 1 to {max_tokens}")
    if len(batch.positions) != count or len(batch.sequence) != count:
        raise ValueError("tokens, positions and sequence must have the same length")
    if batch.tokens.min() < 0 or batch.tokens.max() >= vocab:
        raise ValueError(f"a token id is outside the vocabulary of {vocab}")
    sequences, width = batch.block_tables.shape
    if batch.sequence.min() < 0 or batch.sequence.max() >= sequences:
        raise ValueError(f"a sequence number is outside the {sequences} block tables")
    if batch.positions.min() < 0 or batch.positions.max() >= width * kv.block_tokens:
        raise ValueError("a position is outside its block table")
    if len(batch.rows) > count:
        raise ValueError(f"{len(batch.rows)} rows are wanted of a batch of {count} tokens")
    if len(batch.rows) and (batch.rows.min() < 0 or batch.rows.max() >= count):
        raise ValueError(f"a wanted row is outside the batch of {count} tokens")
    for index in range(sequences):
        positions = batch.positions[batch.sequence == index]
        if len(positions):
            used = batch.block_tables[index, : positions.max() // kv.block_tokens + 1]
            if used.min() < 0 or used.max() >= kv.blocks:
                raise ValueError(f"block table {index} names a block outside the pool")


def check_blocks(*blocks: int, kv: KVShape) -> None:
    """Raise ValueError when one of `blocks` is not in the pool."""
    if not all(0 <= block < kv.blocks for block in blocks):
        named = " and ".join(map(str, blocks))
        raise ValueError(f"block {named} must be in the pool of {kv.blocks}")


def check_logits(logits: F32, backend: str) -> None:
    """Raise InvalidResult when no token of a row could be chosen. logits: [wanted, vocab]

    The largest of a row with a NaN is NaN.
    """
    if logits.size and not np.isfinite(logits.max(axis=1)).all():
        raise InvalidResult(f"the {backend} backend returned logits that are no numbers")
