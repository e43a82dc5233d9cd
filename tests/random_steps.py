"""Random weights, batches and models of any shape, for tests of backends."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import tiny_qwen2
from isthmus.engine.model import ModelFile
from isthmus.kernels.base import (
    F32,
    QKV,
    Attention,
    Backend,
    Batch,
    Down,
    Embed,
    GatedMLP,
    Head,
    KVShape,
    Norm,
    Op,
    Output,
    Packed,
    QuantizedWeight,
    RopeStyle,
)


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


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a made-up model."""

    hidden: int
    ffn: int
    vocab: int
    kv_heads: int
    group: int
    """Query heads that share a key/value head."""
    head_dim: int


def random_graph(backend: Backend, seed: int, sizes: Sizes) -> tuple[Op, ...]:
    """One layer of these sizes, with weights of 4 and of 8 bits, its head of 8."""
    rng = np.random.default_rng(seed)
    heads, d = sizes.kv_heads * sizes.group, sizes.head_dim

    def packed(bits: int, rows: int, cols: int) -> Packed:
        weight = random_weight(rng, bits, 32, rows, cols)
        return backend.pack(in_half_precision(weight.scaled(1 / np.sqrt(cols))))

    def norm() -> Norm:
        return Norm(rng.uniform(0.5, 1.5, sizes.hidden).astype(np.float32), 1e-5)

    return (
        Embed(packed(4, sizes.vocab, sizes.hidden)),
        norm(),
        QKV(packed(8, (heads + 2 * sizes.kv_heads) * d, sizes.hidden), None),
        Attention(0, heads, sizes.kv_heads, d, 10_000.0, RopeStyle.HALVES),
        Output(packed(4, sizes.hidden, heads * d)),
        norm(),
        GatedMLP(packed(8, 2 * sizes.ffn, sizes.hidden)),
        Down(packed(4, sizes.hidden, sizes.ffn)),
        norm(),
        Head(packed(8, sizes.vocab, sizes.hidden)),
    )
