"""Constant factors inside a model, folded into its weights: the graph need not know them.

Granite multiplies the embedding, what each block adds to the residual stream, the scores of
attention and the logits (arXiv 2505.03005 calls these maximal update parametrization). Scaling a
weight by a constant changes its scales and minimums alone, so folding loses nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from isthmus.engine.architectures import stem
from isthmus.engine.model import ModelFile
from isthmus.kernels.base import F32, QuantizedWeight


@dataclass(frozen=True, slots=True)
class Multipliers:
    """What a model multiplies by, beside its weights."""

    embedding: float = 1.0
    residual: float = 1.0
    attention: float = 1.0
    """Of the scores, on top of the usual 1 / √head_dim."""
    logits: float = 1.0

    @classmethod
    def of_granite(
        cls, *, embedding: float, residual: float, attention: float, logits: float, head_dim: int
    ) -> Multipliers:
        """From Granite's own numbers: its attention factor replaces 1 / √head_dim, and its logits
        are divided by theirs.
        """
        return cls(embedding, residual, attention * math.sqrt(head_dim), 1 / logits)


def fold(model: ModelFile, by: Multipliers) -> ModelFile:
    """The same function of tokens, with every multiplier inside a weight."""
    if by == Multipliers():
        return model
    queries = "attn_q_norm" if model.config.qk_norm else "attn_q"
    # A tied head is scaled with the embedding, and what it is given is scaled back.
    head = by.logits / by.embedding if model.config.tied_embedding else by.logits
    factors = {
        "token_embd": by.embedding,
        "attn_output": by.residual,
        "ffn_down": by.residual,
        queries: by.attention,
        "output_norm": head,
    }

    def matrix(name: str) -> QuantizedWeight:
        factor = factors.get(stem(name), 1.0)
        weight = model.matrix(name)
        return weight if factor == 1.0 else weight.scaled(factor)

    def dense(name: str, first: int = 0, last: int | None = None) -> F32:
        return model.dense(name, first, last) * np.float32(factors.get(stem(name), 1.0))

    def vector(name: str) -> F32:
        return model.vector(name) * np.float32(factors.get(stem(name), 1.0))

    return replace(model, matrix=matrix, dense=dense, vector=vector)
