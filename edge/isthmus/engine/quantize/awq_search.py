"""Activation-aware weight quantization (Lin et al., arXiv 2306.00978).

Inputs that are large on average matter more: their columns of the weight are scaled up before
rounding, and what computes the inputs is scaled down by as much, so that the model stays the same.
How far, is searched for each product, with the rounding that it will get (`feedback`) and on text
that the rounding was not fitted to. Where that does no better than rounding each weight to the
nearest step, the product is rounded so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isthmus.engine.model import ModelConfig
from isthmus.engine.quantize.feedback import feedback, round_with_feedback
from isthmus.engine.quantize.layer import Inputs, Seen, Weights
from isthmus.engine.quantize.threads import each
from isthmus.kernels.base import F32, I32, QuantizedWeight
from isthmus.kernels.quantize import round_to_nearest

_EXPONENTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
_ROWS = 64
"""Rows of each weight that the search looks at."""
Matrices = dict[str, QuantizedWeight]
"""The quantized weights of a layer by the last parts of their GGUF names."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How the weights of one product are rounded."""

    scales: F32
    """What each column is multiplied by before. [cols]"""
    fed_back: bool
    """With error feedback, or each weight to the nearest step."""


_PRODUCTS = {
    "qkv": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
    "output": ("attn_output.weight",),
    "gate_up": ("ffn_gate.weight", "ffn_up.weight"),
    "down": ("ffn_down.weight",),
}
"""The matrices that are given the same inputs, by their names in `Inputs`."""


def matrices_of(weights: Weights) -> list[str]:
    """The names of a layer's matrices."""
    return [name for name, values in weights.items() if values.ndim == 2]


def quantize(weights: Weights, group: int) -> Matrices:
    """A layer as it is, rounded to nearest."""
    names = matrices_of(weights)
    found = each(lambda name: round_to_nearest(weights[name], group=group), names)
    return dict(zip(names, found, strict=True))


def quantize_aware(
    config: ModelConfig, weights: Weights, seen: Inputs, group: int
) -> tuple[Weights, Matrices]:
    """A layer with its scales moved, and its matrices rounded; `seen` is what they are given."""
    choices: dict[str, Choice] = {}
    for product, names in _PRODUCTS.items():
        rows = np.concatenate([_some_rows(weights[name]) for name in names])
        shared = _sharing(config) if product == "output" else None
        choices[product] = best_choice(rows, getattr(seen, product), group, shared)
    scaled = fold(config, weights, {product: c.scales for product, c in choices.items()})
    found: Matrices = {}
    for product, names in _PRODUCTS.items():
        choice, given = choices[product], getattr(seen, product)
        if not choice.fed_back:
            found |= {name: round_to_nearest(scaled[name], group=group) for name in names}
            continue
        common = feedback(given.fit + given.held_out)
        for name in names:
            found[name] = round_with_feedback(scaled[name], common, group, choice.scales[None])
    return scaled, found


def fold(config: ModelConfig, weights: Weights, scales: dict[str, F32]) -> Weights:
    """The same layer with the columns of each product scaled up, and its inputs scaled down.

    scales: [cols] for each of `qkv`, `output`, `gate_up` and `down`.
    """
    scaled = dict(weights)
    for product, names in _PRODUCTS.items():
        scaled |= {name: scaled[name] * scales[product] for name in names}
    by_value = np.empty(config.kv_heads * config.head_dim, np.float32)
    by_value[_sharing(config)] = scales["output"]
    scaled["attn_norm.weight"] = weights["attn_norm.weight"] / scales["qkv"]
    scaled["attn_v.weight"] = scaled["attn_v.weight"] / by_value[:, None]
    if "attn_v.bias" in weights:
        scaled["attn_v.bias"] = weights["attn_v.bias"] / by_value
    scaled["ffn_norm.weight"] = weights["ffn_norm.weight"] / scales["gate_up"]
    scaled["ffn_up.weight"] = scaled["ffn_up.weight"] / scales["down"][:, None]
    return scaled


def _sharing(config: ModelConfig) -> I32:
    """Which of the values each input of the output projection is: a key/value head feeds several
    heads, which so share its scales. [heads * head_dim]
    """
    of_head = np.arange(config.heads) // (config.heads // config.kv_heads)
    value = of_head[:, None] * config.head_dim + np.arange(config.head_dim)
    return value.reshape(-1).astype(np.int32)


def best_choice(matrix: F32, seen: Seen, group: int, shared: I32 | None = None) -> Choice:
    """What changes the product least on the windows that were held out.

    matrix: [rows, cols]. `shared` ([cols] integers) names inputs that must get the same scale.
    A scale of 1 everywhere, and plain rounding, are among the candidates.
    """
    rows, cols = matrix.shape
    judge = seen.held_out if seen.held_out.tokens else seen.fit
    sizes: F32 = seen.fit.sizes / np.float32(seen.fit.tokens)
    candidates = _candidates(matrix, sizes, group, shared)
    # All of them at once: the work is in the number of columns.
    scales = np.repeat(candidates, rows, axis=0)
    tried = np.tile(matrix, (len(candidates), 1))
    rounded = round_with_feedback(tried * scales, feedback(seen.fit), group, scales).dequantize()
    errors = judge.error(rounded / scales - tried).reshape(-1, rows).sum(axis=1)
    plain = round_to_nearest(matrix, group=group).dequantize()
    if judge.error(plain - matrix).sum() <= errors.min():
        return Choice(np.ones(cols, np.float32), False)
    return Choice(candidates[int(errors.argmin())], True)


def _candidates(matrix: F32, sizes: F32, group: int, shared: I32 | None) -> F32:
    """The scales to try. sizes: the mean size of each input -> [candidates, cols]"""
    weight_sizes = _relative_sizes(matrix, group)
    if shared is not None:
        sizes, weight_sizes = _pooled(sizes, shared), _pooled(weight_sizes, shared)
    found = [np.ones(matrix.shape[1], np.float32)]
    for exponent in _EXPONENTS:
        plain = sizes**exponent
        for raw in (plain, plain / (weight_sizes ** (1 - exponent) + 1e-4)):
            clamped = np.maximum(raw, 1e-4)
            scales = clamped / np.sqrt(clamped.max() * clamped.min())
            found.append(scales.astype(np.float32))
    return np.stack(found)


def _relative_sizes(matrix: F32, group: int) -> F32:
    """How large the weights of each input are within their groups, on average. [cols]"""
    sizes = np.abs(matrix)
    starts = np.arange(0, matrix.shape[1], group)
    largest = np.maximum.reduceat(sizes, starts, axis=1)
    spread = np.repeat(largest, group, axis=1)[:, : matrix.shape[1]]
    relative: F32 = (sizes / np.maximum(spread, 1e-9)).mean(axis=0)
    return relative


def _pooled(values: F32, shared: I32) -> F32:
    """Each value's mean over those that share its number."""
    mean = np.bincount(shared, values) / np.bincount(shared)
    return mean[shared].astype(np.float32)


def _some_rows(matrix: F32) -> F32:
    return matrix[:: max(1, len(matrix) // _ROWS)]
