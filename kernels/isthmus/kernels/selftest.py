"""A quick comparison of a backend with the reference, for hardware that no test ran on.

Two layers of a made-up model, their sizes odd and their weights in each of the forms, take in a
few tokens at once and then one alone: products of several and of single rows, norms, rotation, the
cache, attention and the gated layer all show in what comes out. A few milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

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
    KVType,
    Norm,
    Op,
    Output,
    QuantizedWeight,
    RopeStyle,
)
from isthmus.kernels.numpy_ref import NumpyBackend

_SEED = 20_261_121
_HIDDEN, _FFN, _VOCAB = 72, 88, 75
_HEADS, _KV_HEADS, _HEAD_DIM = 4, 2, 20
_TOKENS = 37
"""More than a block of the cache holds, and no multiple of anything."""
_FORMS = ((4, 32), (8, 32), (6, 16))
"""Bits and group: one for each kind of tile."""


def disagreement(
    backend: Backend, *, tolerance: float, kv_types: Sequence[KVType] | None = None
) -> str | None:
    """Where `backend` differs from the reference, or None when nothing does.

    `tolerance` is relative to the largest value of what is compared; None compares all `kv_types`.
    """
    for dtype, style in product(kv_types or backend.kv_types, RopeStyle):
        shape = KVShape(blocks=3, dtype=dtype)
        expected = _steps(NumpyBackend(), shape, style)
        for name, found, wanted in zip(
            ("of several tokens", "of one token"),
            _steps(backend, shape, style),
            expected,
            strict=True,
        ):
            error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
            if not error <= tolerance:  # NaN is no agreement
                return (
                    f"a step {name} with {dtype} keys and values differs from the reference "
                    f"by {error:.2g} of its largest logit"
                )
    return None


def _steps(backend: Backend, shape: KVShape, style: RopeStyle) -> tuple[F32, F32]:
    """The logits of a step of all tokens but one, and of one of the last. [tokens, vocab]"""
    rng = np.random.default_rng(_SEED)
    plan = backend.plan(_graph(backend, rng, style), kv=shape, max_tokens=_TOKENS)
    tokens = rng.integers(0, _VOCAB, _TOKENS).astype(np.int32)
    try:
        first = plan.run(Batch.of_one(tokens[:-1], [2, 0])).logits
        last = plan.run(Batch.of_one(tokens[-1:], [2, 0], first=_TOKENS - 1)).logits
    finally:
        plan.close()
    return first, last


def _graph(backend: Backend, rng: np.random.Generator, style: RopeStyle) -> tuple[Op, ...]:
    q, kv = _HEADS * _HEAD_DIM, _KV_HEADS * _HEAD_DIM
    ops: list[Op] = [Embed(backend.pack(_weight(rng, 4, 32, _VOCAB, _HIDDEN)))]
    for layer in range(2):
        form = _FORMS[layer]
        ops += [
            _norm(rng),
            QKV(
                backend.pack(_weight(rng, *form, q + 2 * kv, _HIDDEN)),
                rng.uniform(-0.5, 0.5, q + 2 * kv).astype(np.float32) if layer else None,
            ),
            Attention(layer, _HEADS, _KV_HEADS, _HEAD_DIM, 10_000.0, style),
            Output(backend.pack(_weight(rng, *form, _HIDDEN, q))),
            _norm(rng),
            GatedMLP(backend.pack(_weight(rng, *form, 2 * _FFN, _HIDDEN))),
            Down(backend.pack(_weight(rng, *_FORMS[2], _HIDDEN, _FFN))),
        ]
    return (*ops, _norm(rng), Head(backend.pack(_weight(rng, *_FORMS[2], _VOCAB, _HIDDEN))))


def _norm(rng: np.random.Generator) -> Norm:
    return Norm(rng.uniform(0.5, 1.5, _HIDDEN).astype(np.float32), 1e-5)


def _weight(
    rng: np.random.Generator, bits: int, group: int, rows: int, cols: int
) -> QuantizedWeight:
    """A random weight whose packing loses nothing. [rows, cols]"""
    groups = -(-cols // group)
    centre = 1 << (bits - 1)
    codes = rng.integers(1, 2**bits, (rows, cols), dtype=np.uint8)
    scales = _half(rng.uniform(0.1, 0.3, (rows, groups)) / (centre * np.sqrt(cols)) * 8)
    minimums = _half(rng.uniform(-1.1, -0.9, (rows, groups)) * centre * scales)
    return QuantizedWeight(bits, group, codes, scales, minimums if bits == 4 else -centre * scales)


def _half(values: NDArray[np.float64]) -> F32:
    return values.astype(np.float16).astype(np.float32)
