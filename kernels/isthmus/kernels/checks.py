"""Checks of a batch before it reaches kernels that trust what they are given."""

from __future__ import annotations

from isthmus.kernels.base import Batch, KVShape


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
