"""Random weights, batches and models of any shape, for tests of backends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import tiny_qwen2
from isthmus.engine.model import ModelFile
from isthmus.kernels.base import F32, Batch, KVShape, QuantizedWeight, RopeStyle


def random_weight(
    rng: np.random.Generator, bits: int, group: int, rows: int, cols: int
) -> QuantizedWeight:
    groups = -(-cols // group)
    lowest = 1 if bits == 8 else 0  # -128 is quantized again, as a test of its own shows
    codes = rng.integers(lowest, 2**bits, (rows, cols), dtype=np.uint8)
    scales = rng.uniform(0.01, 0.1, (rows, groups)).astype(np.float16).astype(np.float32)
    if bits == 4:
        minimums = rng.uniform(-1, 0, (rows, groups)).astype(np.float16).astype(np.float32)
    else:
        minimums = -(2 ** (bits - 1)) * scales
    return QuantizedWeight(bits, group, codes, scales, minimums)


def batch(rng: np.random.Generator, lengths: list[int], vocab: int, *, shape: KVShape) -> Batch:
    """Sequences of these lengths in one batch, their blocks strewn over the pool."""
    blocks = rng.permutation(shape.blocks).astype(np.int32)
    width = shape.blocks // len(lengths)
    count = sum(lengths)
    return Batch(
        tokens=rng.integers(0, vocab, count).astype(np.int32),
        positions=np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        sequence=np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        block_tables=blocks[: width * len(lengths)].reshape(len(lengths), width),
        rows=np.arange(count, dtype=np.int32),
        capture=True,
    )


def in_half_precision(weight: QuantizedWeight) -> QuantizedWeight:
    """Scales and minimums as a file has them, so that packing changes nothing."""
    halves = (
        values.astype(np.float16).astype(np.float32) for values in (weight.scales, weight.minimums)
    )
    return QuantizedWeight(weight.bits, weight.group, weight.codes, *halves)


def shaped_model(head_dim: int, heads: int, rope_style: RopeStyle) -> ModelFile:
    """The tiny model with other heads, one of keys and values, its scales in half precision."""
    config = replace(
        tiny_qwen2.CONFIG, head_dim=head_dim, heads=heads, kv_heads=1, rope_style=rope_style
    )
    model = replace(tiny_qwen2.model(), config=config)
    widths = {"q": heads * head_dim, "k": head_dim, "v": head_dim}

    def matrix(name: str) -> QuantizedWeight:
        weight = in_half_precision(model.matrix(name))
        part = name.split(".")[-2]
        if part.startswith("attn_") and part[5:] in widths:
            return weight.take(np.arange(widths[part[5:]], dtype=np.int32) % weight.rows)
        if part == "attn_output":
            dense = np.resize(weight.dequantize(), (weight.rows, heads * head_dim))
            return in_half_precision(QuantizedWeight.quantize8(dense))
        return weight

    def vector(name: str) -> F32:
        part = name.split(".")[-2]
        values = tiny_qwen2.model().vector(name)
        return np.resize(values, widths[part[5:]]) if part[5:] in widths else values

    return replace(model, matrix=matrix, vector=vector)
