"""Activation-aware weight quantization (Lin et al., arXiv 2306.00978).

Inputs that are large on average matter more: their columns of the weight are scaled up before
rounding, and what computes the inputs is scaled down by as much, so that the model stays the same.
How far, is searched for each product on real inputs. The paper's weight clipping is left out: it
brings each group's output closer, but all groups shrink alike, and over the layers of a model that
adds up to more than the rounding that it saves. What is left is rounded with error feedback.
"""

from __future__ import annotations

import numpy as np

from isthmus.engine.model import ModelConfig
from isthmus.engine.quantize.feedback import factors, round_with_feedback
from isthmus.engine.quantize.layer import Inputs, Seen, Weights
from isthmus.engine.quantize.threads import each
from isthmus.kernels.base import F32, I32, QuantizedWeight
from isthmus.kernels.quantize import round_to_nearest

_EXPONENTS = tuple(i / 20 for i in range(20))
_SAMPLES = 512
"""Inputs of each product that the search for scales looks at, evenly spread over the text."""
_ROWS = 128
"""Rows of each weight that the search for scales looks at."""
_BLOCK_VALUES = 1 << 17
"""Weights that are rounded at a time: few enough to stay in the processor's cache."""
Matrices = dict[str, QuantizedWeight]
"""The quantized weights of a layer by the last parts of their GGUF names."""


def matrices_of(weights: Weights) -> list[str]:
    """The names of a layer's matrices."""
    return [name for name, values in weights.items() if values.ndim == 2]


def quantize(weights: Weights, group: int) -> Matrices:
    """A layer as it is, rounded to nearest."""
    return {name: round_to_nearest(weights[name], group=group) for name in matrices_of(weights)}


def quantize_aware(weights: Weights, seen: Inputs, group: int) -> Matrices:
    """A layer as it is, rounded with error feedback; `seen` holds what its products are given."""
    found: Matrices = {}
    for names, given in (
        (("attn_q", "attn_k", "attn_v"), seen.qkv),
        (("attn_output",), seen.output),
        (("ffn_gate", "ffn_up"), seen.gate_up),
        (("ffn_down",), seen.down),
    ):
        shared = factors(given.inputs, group)
        for name in names:
            matrix = f"{name}.weight"
            found[matrix] = round_with_feedback(weights[matrix], shared, group)
    return found


def scale_layer(config: ModelConfig, weights: Weights, seen: Inputs, group: int) -> Weights:
    """The same layer with its scales moved; `seen` holds what its products were given.

    The inputs in `seen` are scaled along, so that they fit the new weights.
    """
    scaled = dict(weights)

    def search(names: tuple[str, ...], given: Seen, shared: I32 | None = None) -> F32:
        rows = [_some_rows(scaled[f"{name}.weight"]) for name in names]
        scales = best_scales(np.concatenate(rows), given, group, shared)
        for name in names:
            scaled[f"{name}.weight"] = scaled[f"{name}.weight"] * scales
        for inputs in given.windows:
            np.divide(inputs, scales, out=inputs)
        return scales

    scaled["attn_norm.weight"] = weights["attn_norm.weight"] / search(
        ("attn_q", "attn_k", "attn_v"), seen.qkv
    )
    # A key/value head feeds several heads of the output: they share its scales.
    of_head = np.arange(config.heads) // (config.heads // config.kv_heads)
    value = of_head[:, None] * config.head_dim + np.arange(config.head_dim)
    shared = value.reshape(-1).astype(np.int32)
    by_value = np.empty(config.kv_heads * config.head_dim, np.float32)
    by_value[shared] = search(("attn_output",), seen.output, shared)
    scaled["attn_v.weight"] = scaled["attn_v.weight"] / by_value[:, None]
    if "attn_v.bias" in scaled:
        scaled["attn_v.bias"] = scaled["attn_v.bias"] / by_value
    scaled["ffn_norm.weight"] = weights["ffn_norm.weight"] / search(
        ("ffn_gate", "ffn_up"), seen.gate_up
    )
    down = search(("ffn_down",), seen.down)
    scaled["ffn_up.weight"] = scaled["ffn_up.weight"] / down[:, None]
    return scaled


def best_scales(matrix: F32, seen: Seen, group: int, shared: I32 | None = None) -> F32:
    """The scale of each input that changes the product least when the weight is rounded. [cols]

    matrix: [rows, cols]. `shared` ([cols] integers) names inputs that must get the same scale.
    A scale of 1 everywhere, plain rounding, is among the candidates.
    """
    inputs = seen.inputs
    inputs = inputs[:: max(1, len(inputs) // _SAMPLES)].T
    blocks = np.array_split(matrix, max(1, matrix.size // _BLOCK_VALUES))
    sizes, weight_sizes = seen.magnitude, _relative_sizes(matrix, group)
    if shared is not None:
        sizes, weight_sizes = _pooled(sizes, shared), _pooled(weight_sizes, shared)
    candidates = [np.ones(matrix.shape[1], np.float32)]
    for exponent in _EXPONENTS:
        plain = sizes**exponent
        for raw in (plain, plain / (weight_sizes ** (1 - exponent) + 1e-4)):
            clamped = np.maximum(raw, 1e-4)
            scales = clamped / np.sqrt(clamped.max() * clamped.min())
            candidates.append(scales.astype(np.float32))

    def error(scales: F32) -> float:
        total = 0.0
        for block in blocks:
            rounded = round_to_nearest(block * scales, group=group).dequantize()
            rounded /= scales
            rounded -= block
            total += float(np.square(rounded @ inputs).sum())
        return total

    return candidates[int(np.argmin(each(error, candidates)))]


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
