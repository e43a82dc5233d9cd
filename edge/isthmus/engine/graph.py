"""A transformer as a flat list of fused operators, six a layer.

The weights are asked for by their parts, so that the same walk serves a model file (whose tensors
are stacked and packed) and a prepared one (whose packed weights are on disk already).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from isthmus.engine.model import ModelConfig
from isthmus.kernels.base import (
    F32,
    QKV,
    Attention,
    Down,
    Embed,
    GatedMLP,
    Head,
    Norm,
    Op,
    Output,
    Packed,
)


class Weights(Protocol):
    """Where the packed weights come from. Names are GGUF's."""

    def matrix(self, *parts: str, alternate: bool = False) -> Packed:
        """The rows of all parts under each other, or taken in turns from each (`alternate`)."""
        ...

    def vector(self, *parts: str) -> F32:
        """The parts joined. [width]"""
        ...


def build_graph(config: ModelConfig, weights: Weights) -> tuple[Op, ...]:
    """The operators of one step, from tokens to logits."""
    embedding = weights.matrix("token_embd.weight")
    ops: list[Op] = [Embed(embedding)]
    factors = np.array(config.rope_factors, np.float32) if config.rope_factors else None
    for layer in range(config.layers):
        name = f"blk.{layer}."
        ops += [
            Norm(weights.vector(name + "attn_norm.weight"), config.norm_eps),
            QKV(
                weights.matrix(*(f"{name}attn_{part}.weight" for part in "qkv")),
                weights.vector(*(f"{name}attn_{part}.bias" for part in "qkv"))
                if config.attention_bias
                else None,
            ),
            Attention(
                layer=layer,
                heads=config.heads,
                kv_heads=config.kv_heads,
                head_dim=config.head_dim,
                rope_base=config.rope_base,
                rope_style=config.rope_style,
                rope_factors=factors,
                q_norm=weights.vector(name + "attn_q_norm.weight") if config.qk_norm else None,
                k_norm=weights.vector(name + "attn_k_norm.weight") if config.qk_norm else None,
                norm_eps=config.norm_eps,
            ),
            Output(weights.matrix(name + "attn_output.weight")),
            Norm(weights.vector(name + "ffn_norm.weight"), config.norm_eps),
            GatedMLP(
                weights.matrix(name + "ffn_gate.weight", name + "ffn_up.weight", alternate=True)
            ),
            Down(weights.matrix(name + "ffn_down.weight")),
        ]
    head = embedding if config.tied_embedding else weights.matrix("output.weight")
    ops += [Norm(weights.vector("output_norm.weight"), config.norm_eps), Head(head)]
    return tuple(ops)
