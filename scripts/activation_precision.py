"""What 8- and 16-bit activations cost against the float32 reference, on a fixed text.

Prints the figures of docs/adr/0002-activation-precision.md::

    .venv/bin/python scripts/activation_precision.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.engine.engine import open_model
from isthmus.engine.perplexity import logits_of
from isthmus.engine.prepared import LoadedModel, load
from isthmus.engine.pull import pull
from isthmus.engine.tokenizer import Tokenizer
from isthmus.kernels.base import Backend, KVShape
from isthmus.kernels.native import NativeBackend

TEXT = Path(__file__).resolve().parent.parent / "tests" / "kernels" / "golden" / "text.txt"


def log_probabilities(
    model: LoadedModel, backend: Backend, tokens: list[int]
) -> NDArray[np.float64]:
    """Of every token of the vocabulary after each of `tokens`. [tokens, vocab]"""
    shape = KVShape(-(-len(tokens) // 32))
    plan = backend.plan(model.ops, kv=shape, max_tokens=128)
    logits = np.concatenate(list(logits_of(plan, shape, tokens))).astype(np.float64)
    plan.close()
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def main() -> None:
    """Measure and print."""
    path = pull("smollm2-135m")
    model, reference = open_model("smollm2-135m", backend="numpy")
    tokens = Tokenizer(model.tokenizer).encode(TEXT.read_text("utf-8"))
    expected = log_probabilities(model, reference, tokens)
    steps = np.arange(len(tokens) - 1)
    print(f"float32  perplexity {np.exp(-expected[steps, tokens[1:]].mean()):.3f}")
    for bits in (8, 16):
        native = NativeBackend(activation_bits=bits)
        found = log_probabilities(load(path, native), native, tokens)
        divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
        agree = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        print(
            f"{bits:>2} bits  perplexity {np.exp(-found[steps, tokens[1:]].mean()):.3f}"
            f"  KL mean {divergence.mean():.6f}, 99th percentile"
            f" {np.quantile(divergence, 0.99):.5f}"
            f"  same best token {agree:.1%}"
        )


if __name__ == "__main__":
    main()
