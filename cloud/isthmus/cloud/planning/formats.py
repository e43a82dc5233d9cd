"""The forms of weights and of the KV cache: how many bytes a number takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from isthmus.core.errors import InvalidRequest
from isthmus.core.misspelt import nearest


@dataclass(frozen=True, slots=True)
class Weights:
    """A form of the matrices; the vocabulary's stay in 16 bits where it has fewer."""

    bits: float
    """A weight's, with its share of the group's scale and zero."""
    multiplied_bits: int
    """What the matrix product multiplies: weights alone in 4 bits are widened first."""


WEIGHTS: Final[Mapping[str, Weights]] = {
    "fp32": Weights(32, 16),
    "bf16": Weights(16, 16),
    "fp16": Weights(16, 16),
    "fp8": Weights(8, 8),
    "int8": Weights(8, 16),
    # Groups of 128 with a scale in 16 bits and a zero in 4.
    "int4": Weights(4 + 20 / 128, 16),
    # Blocks of 32 with a scale in 8 bits, and of 16 with one in 8.
    "mxfp4": Weights(4 + 8 / 32, 4),
    "nvfp4": Weights(4 + 8 / 16, 4),
}
_OF_QUANTIZATION: Final[Mapping[str, str]] = {
    "awq": "int4",
    "auto_awq": "int4",
    "awq_marlin": "int4",
    "gptq": "int4",
    "auto_gptq": "int4",
    "gptq_marlin": "int4",
    "fbgemm_fp8": "fp8",
    "fp8_per_tensor": "fp8",
    "fp8_per_block": "fp8",
    "fp8_per_channel": "fp8",
    "modelopt": "fp8",
    "int8_per_channel_weight_only": "int8",
    "experts_int8": "int8",
    "modelopt_fp4": "nvfp4",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "auto": "fp16",
    "float32": "fp32",
    "float": "fp32",
}
"""VLLM's words for quantizations and precisions."""


def weights(name: str) -> Weights:
    """A form by its name, or by vLLM's. Raises `InvalidRequest`."""
    form = WEIGHTS.get(_OF_QUANTIZATION.get(name, name))
    if form is None:
        raise _unknown(name, "--weights", [*WEIGHTS, *_OF_QUANTIZATION])
    return form


KV_BITS: Final[Mapping[str, int]] = {
    "auto": 16,
    "bf16": 16,
    "bfloat16": 16,
    "fp16": 16,
    "float16": 16,
    "fp8": 8,
    "fp8_e4m3": 8,
    "fp8_e5m2": 8,
    "fp8_per_token_head": 8,
    "int8_per_token_head": 8,
    "int4_per_token_head": 4,
}
_HEAD_SCALE_BYTES: Final = 4


def kv_bytes_of_head(name: str, head_size: int) -> float:
    """Bytes of one head's key or value of one token. Raises `InvalidRequest`."""
    if name not in KV_BITS:
        raise _unknown(name, "--kv-cache", [*KV_BITS])
    scale = _HEAD_SCALE_BYTES if name.endswith("per_token_head") else 0
    return head_size * KV_BITS[name] / 8 + scale


def _unknown(name: str, flag: str, names: list[str]) -> InvalidRequest:
    return InvalidRequest(
        f"the size of {name!r} is not counted here{nearest(name, names)}; counted are "
        f"{', '.join(names)}",
        field=flag,
    )
