"""One layer of a model in float32, with a look at what each of its products is given.

It computes what the graph of `isthmus.engine.graph` does, a layer at a time and on whole windows
of text, so that a model that does not fit in memory can be run on a text layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from isthmus.engine.export import dense_rows, vector
from isthmus.engine.model import ModelConfig, ModelFile
from isthmus.engine.quantize.moments import Moments
from isthmus.engine.quantize.threads import CORES, each
from isthmus.kernels.base import F32, Attention, RopeStyle
from isthmus.kernels.numpy_ref import rms_norm, rotate

_HELD_OUT = 4
"""Every fourth window is held out."""

Weights = dict[str, F32]
"""The tensors of one layer by the last parts of their GGUF names (`attn_q.weight`), rotary pairs
in halves."""


def read_layer(model: ModelFile, layer: int) -> Weights:
    """A layer's tensors, read from disk."""
    prefix = f"blk.{layer}."
    return {
        name.removeprefix(prefix): (dense_rows if _is_matrix(name) else vector)(model, name)
        for name in model.tensor_names
        if name.startswith(prefix)
    }


def _is_matrix(name: str) -> bool:
    return name.endswith(".weight") and "norm" not in name


@dataclass(slots=True)
class Seen:
    """What a product was given, in two parts: to fit a rounding to, and to judge it by."""

    fit: Moments = field(default_factory=Moments)
    held_out: Moments = field(default_factory=Moments)
    """Of every fourth window; none where there is only one."""
    windows: int = 0

    def add(self, window: Moments) -> None:
        """Take in one more window."""
        if self.windows % _HELD_OUT == 1:
            self.held_out += window
        else:
            self.fit += window
        self.windows += 1


@dataclass(slots=True)
class Inputs:
    """What the products of a layer were given."""

    qkv: Seen = field(default_factory=Seen)
    output: Seen = field(default_factory=Seen)
    gate_up: Seen = field(default_factory=Seen)
    down: Seen = field(default_factory=Seen)

    @property
    def products(self) -> tuple[Seen, Seen, Seen, Seen]:
        """In the order in which they are computed."""
        return self.qkv, self.output, self.gate_up, self.down


def run_layer(
    config: ModelConfig, weights: Mapping[str, F32], windows: Sequence[F32], watch: Inputs | None
) -> list[F32]:
    """The residual stream after the layer. windows: the stream before it, each [tokens, hidden]"""

    def run(window: F32) -> tuple[F32, list[Moments]]:
        out, given = _run(config, weights, window)
        return out, [Moments.of(inputs) for inputs in given] if watch is not None else []

    found: list[F32] = []
    # A few at a time: what was seen is large until it is summed up.
    for first in range(0, len(windows), CORES):
        for out, given in each(run, windows[first : first + CORES]):
            found.append(out)
            if watch is not None:
                for seen, moments in zip(watch.products, given, strict=True):
                    seen.add(moments)
    return found


def _run(c: ModelConfig, weights: Mapping[str, F32], x: F32) -> tuple[F32, tuple[F32, ...]]:
    """One window through the layer, and what its four products were given.

    Inputs of the two products that add to the residual stream are divided by the size of what they
    add to: the norm after it will do so too. Without that a few first tokens with enormous
    activations (Sun et al., arXiv 2402.17762) would drown all others in the search.
    """

    def product(name: str, inputs: F32) -> F32:
        out: F32 = inputs @ weights[f"{name}.weight"].T
        bias = weights.get(f"{name}.bias")
        return out if bias is None else out + bias

    n = rms_norm(x, weights["attn_norm.weight"], c.norm_eps)
    q, k, v = (product(f"attn_{part}", n).reshape(len(x), -1, c.head_dim) for part in "qkv")
    if c.qk_norm:
        q = rms_norm(q, weights["attn_q_norm.weight"], c.norm_eps)
        k = rms_norm(k, weights["attn_k_norm.weight"], c.norm_eps)
    positions = np.arange(len(x), dtype=np.int32)
    turn = _turn(c)
    a = _attend(rotate(q, positions, turn), rotate(k, positions, turn), v)
    x = x + product("attn_output", a)
    a /= _size(x)
    m = rms_norm(x, weights["ffn_norm.weight"], c.norm_eps)
    gate = product("ffn_gate", m)
    h = gate / (1 + np.exp(-gate)) * product("ffn_up", m)
    x = x + product("ffn_down", h)
    h /= _size(x)
    return x, (n, a, m, h)


def _size(x: F32) -> F32:
    """The root mean square of each token. [tokens, 1]"""
    size: F32 = np.sqrt(np.mean(x * x, axis=1, keepdims=True) + np.float32(1e-12))
    return size


def _turn(c: ModelConfig) -> Attention:
    return Attention(
        layer=0,
        heads=c.heads,
        kv_heads=c.kv_heads,
        head_dim=c.head_dim,
        rope_base=c.rope_base,
        rope_style=RopeStyle.HALVES,
        rope_factors=np.array(c.rope_factors, np.float32) if c.rope_factors else None,
    )


def _attend(q: F32, k: F32, v: F32) -> F32:
    """Causal attention over one window. q: [tokens, heads, d], k and v: [tokens, kv_heads, d]"""
    tokens, heads, d = q.shape
    group = heads // k.shape[1]
    queries = q.reshape(tokens, -1, group, d).transpose(1, 2, 0, 3)
    scores: F32 = queries @ k.transpose(1, 2, 0)[:, None] / np.float32(np.sqrt(d))
    scores += np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    found: F32 = scores @ v.transpose(1, 0, 2)[:, None]
    joined: F32 = np.ascontiguousarray(found.transpose(2, 0, 1, 3)).reshape(tokens, -1)
    return joined
