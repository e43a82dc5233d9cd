"""Read GGUF model files, in the tensor types of `isthmus.engine.formats.blocks`.

Tensors stay on disk and are read one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.engine import architectures
from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.formats import blocks
from isthmus.engine.formats.bounds import (
    FREQUENCY,
    HEAD_DIM,
    MULTIPLIER,
    NORM_EPS,
    POSITIONS,
    ROPE_BASE,
    SIZE,
    STRETCH,
    Bounds,
    check_heads,
)
from isthmus.engine.formats.gguf_header import Tensor, read_header
from isthmus.engine.formats.multipliers import Multipliers, fold
from isthmus.engine.formats.rope import RopeScaling, rope_scaling
from isthmus.engine.formats.vocabulary import tokenizer_spec
from isthmus.engine.model import ModelConfig, ModelFile
from isthmus.kernels.base import F32, U8, QuantizedWeight

_MAX_DIMENSION = 1 << 31
_ROPE_FACTORS = "rope_freqs.weight"


class _Values:
    """The key/values of a file, with errors that name the key."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values
        self.architecture = self.text("general.architecture")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise ModelDamaged(f"{self.path.name}: {key} is missing or not a string")
        return value

    def number(self, key: str, within: Bounds, default: float | None = None) -> float:
        """A number of this architecture; `{key}` is without its prefix."""
        name = f"{self.architecture}.{key}"
        return within.check(f"{self.path.name}: {name}", self.values.get(name, default))

    def count(self, key: str, default: int | None = None, *, within: Bounds = SIZE) -> int:
        """The same for a whole number."""
        name = f"{self.architecture}.{key}"
        return within.check_whole(f"{self.path.name}: {name}", self.values.get(name, default))

    def optional(self, key: str) -> Any:
        return self.values.get(f"{self.architecture}.{key}")


def read_gguf(path: Path) -> ModelFile:
    """Open `path`; its tensors are read from disk when asked for.

    Raises `ModelUnavailable` (cannot be read), `ModelDamaged` (truncated or broken) or
    `ModelNotSupported` (an architecture, tensor type or tokenizer that is not known here).
    """
    try:
        data: U8 = np.memmap(path, mode="r", dtype=np.uint8)
        header = read_header(data.data)
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelDamaged(
            f"{path.name} is not a whole GGUF file ({error}); delete it and pull the model again"
        ) from error
    if (parts := header.values.get("split.count", 1)) != 1:
        raise ModelNotSupported(
            f"{path.name} is one of {parts} parts of a model; supported are whole files: join them "
            "with llama-gguf-split --merge"
        )
    tensors, values = header.tensors, _Values(path, header.values)
    plain = _config(values, tensors)
    _check_tensors(path, plain, tensors, size=len(data))
    scaling = _rope_scaling(values, tensors, plain)
    config = replace(plain, rope_factors=scaling.factors)
    model = ModelFile(
        name=path.stem,
        config=config,
        tokenizer=tokenizer_spec(header.values, vocab=config.vocab),
        tensor_names=tuple(name for name in tensors if name != _ROPE_FACTORS),
        matrix=partial(_matrix, path, tensors),
        dense=partial(_dense, path, tensors),
        vector=partial(_vector, path, tensors),
    )
    return fold(model, _multipliers(values, config, scaling))


def _config(header: _Values, tensors: Mapping[str, Tensor]) -> ModelConfig:
    """What the file says of itself, with plain rotary positions."""
    architecture = header.architecture
    if architecture not in architectures.ROPE_STYLES:
        raise ModelNotSupported(
            f"{header.path.name}: architecture {architecture!r} is not supported; "
            f"supported are {architectures.supported()}"
        )
    _refuse_variants(header)
    hidden, heads = header.count("embedding_length"), header.count("attention.head_count")
    kv_heads = header.count("attention.head_count_kv", heads)
    head_dim = header.count("attention.key_length", max(1, hidden // heads), within=HEAD_DIM)
    check_heads(header.path.name, heads, kv_heads, head_dim)
    for key in ("rope.dimension_count", "attention.value_length"):
        if header.count(key, head_dim) != head_dim:
            raise ModelNotSupported(
                f"{header.path.name}: {key} differs from the width of a head ({head_dim}); "
                "only equal ones are supported"
            )
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelDamaged(f"{header.path.name}: matrix 'token_embd.weight' is missing")
    return ModelConfig(
        architecture=architecture,
        layers=header.count("block_count"),
        hidden=hidden,
        ffn=header.count("feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=embedding.shape[0],
        context=header.count("context_length", within=POSITIONS),
        rope_base=float(header.number("rope.freq_base", ROPE_BASE, 10_000.0)),
        rope_style=architectures.ROPE_STYLES[architecture],
        norm_eps=float(header.number("attention.layer_norm_rms_epsilon", NORM_EPS)),
        tied_embedding="output.weight" not in tensors,
        attention_bias="blk.0.attn_q.bias" in tensors,
        qk_norm=architecture == "qwen3",
    )


def _multipliers(header: _Values, config: ModelConfig, scaling: RopeScaling) -> Multipliers:
    if header.architecture != "granite":
        return Multipliers(attention=scaling.attention)
    usual = config.head_dim**-0.5
    return Multipliers.of_granite(
        embedding=header.number("embedding_scale", MULTIPLIER, 1.0),
        residual=header.number("residual_scale", MULTIPLIER, 1.0),
        attention=header.number("attention.scale", MULTIPLIER, usual) * scaling.attention,
        logits=header.number("logit_scale", MULTIPLIER, 1.0),
        head_dim=config.head_dim,
    )


def _rope_scaling(
    header: _Values, tensors: Mapping[str, Tensor], config: ModelConfig
) -> RopeScaling:
    if _ROPE_FACTORS in tensors:  # llama3's, computed when the file was made
        factors = _vector(header.path, tensors, _ROPE_FACTORS)
        name = f"{header.path.name}: {_ROPE_FACTORS}"
        return RopeScaling(tuple(FREQUENCY.check(name, factor) for factor in factors.tolist()))
    kind = header.optional("rope.scaling.type") or "none"
    described: dict[str, Any] = {
        "rope_type": "default" if kind == "none" else kind,
        "factor": header.optional("rope.scaling.factor"),
        "original_max_position_embeddings": header.optional("rope.scaling.original_context_length"),
    }
    magnitude = header.number("rope.scaling.attn_factor", MULTIPLIER, 1.0)
    if magnitude != 1.0:
        usual = 0.1 * math.log(header.number("rope.scaling.factor", STRETCH)) + 1
        described["attention_factor"] = magnitude * usual
    return rope_scaling(
        described, base=config.rope_base, head_dim=config.head_dim, context=config.context
    )


def _refuse_variants(header: _Values) -> None:
    """Refuse what would run but give wrong answers."""
    variants = {
        "a mixture of experts": bool(header.optional("expert_count")),
        "sliding-window attention": bool(header.optional("attention.sliding_window")),
    }
    found = [name for name, is_there in variants.items() if is_there]
    if found:
        raise ModelNotSupported(
            f"{header.path.name} uses {', '.join(found)}; supported are dense models "
            f"({architectures.supported()}) whose attention sees the whole context"
        )


def _check_tensors(
    path: Path, config: ModelConfig, tensors: Mapping[str, Tensor], *, size: int
) -> None:
    if config.layers > len(tensors) or max(config.vocab, config.ffn) >= _MAX_DIMENSION:
        raise ModelDamaged(f"{path.name}: {config.layers} layers are said, but not there")
    expected = dict(architectures.expected_tensors(config))
    if _ROPE_FACTORS in tensors:
        expected[_ROPE_FACTORS] = (config.head_dim // 2,)
    for name, shape in expected.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape:
            there = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
            raise ModelDamaged(f"{path.name}: tensor {name!r} of {list(shape)} is {there}")
        known = blocks.TENSOR_TYPES if len(shape) == 2 else blocks.VECTOR_TYPES
        if tensor.type_name not in known:
            raise ModelNotSupported(
                f"{path.name}: tensor {name!r} has type {tensor.type_name}; supported are "
                f"{', '.join(known)}"
            )
        if len(shape) == 2 and shape[1] % blocks.TENSOR_TYPES[tensor.type_name].block:
            raise ModelNotSupported(
                f"{path.name}: tensor {name!r} has {shape[1]} columns, which "
                f"{tensor.type_name} cannot group"
            )
        if tensor.offset + _nbytes(tensor) > size:
            raise ModelDamaged(
                f"{path.name} ends before tensor {name!r} does; delete it and pull the model again"
            )
    unknown = [name for name in tensors if name not in expected]
    if unknown:
        raise ModelNotSupported(
            f"{path.name} has {len(unknown)} tensors that {config.architecture} models here do "
            f"not use, the first being {unknown[0]!r}"
        )


def _find(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or len(tensor.shape) != dimensions:
        raise KeyError(f"no tensor {name!r} with {dimensions} dimensions")
    return tensor


def _row_bytes(tensor: Tensor) -> int:
    """Bytes of a row; a vector has rows of one value."""
    if len(tensor.shape) == 1:
        return blocks.VECTOR_TYPES[tensor.type_name]
    return blocks.TENSOR_TYPES[tensor.type_name].row_bytes(tensor.shape[1])


def _nbytes(tensor: Tensor) -> int:
    return tensor.shape[0] * _row_bytes(tensor)


def _raw(path: Path, tensor: Tensor, first: int = 0, last: int | None = None) -> U8:
    """Rows `first` to `last`, as they are stored. [bytes]"""
    # Not mapped: the pages of the file would stay beside what is made of them.
    first, last, _ = slice(first, last).indices(tensor.shape[0])
    count, offset = (last - first) * _row_bytes(tensor), first * _row_bytes(tensor)
    try:
        raw = np.fromfile(path, np.uint8, count=count, offset=tensor.offset + offset)
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    if raw.nbytes < count:
        raise ModelDamaged(f"{path.name} was cut while it was read; pull the model again")
    return raw


def _matrix(path: Path, tensors: Mapping[str, Tensor], name: str) -> QuantizedWeight:
    tensor = _find(tensors, name, 2)
    kind = blocks.TENSOR_TYPES[tensor.type_name]
    return blocks.matrix(name, kind, _raw(path, tensor), tensor.shape[0])


def _dense(
    path: Path,
    tensors: Mapping[str, Tensor],
    name: str,
    first: int = 0,
    last: int | None = None,
) -> F32:
    tensor = _find(tensors, name, 2)
    raw = _raw(path, tensor, first, last)
    if tensor.type_name in blocks.VECTOR_TYPES:
        return blocks.vector(name, tensor.type_name, raw).reshape(-1, tensor.shape[1])
    kind = blocks.TENSOR_TYPES[tensor.type_name]
    return blocks.matrix(name, kind, raw, len(raw) // _row_bytes(tensor)).dequantize()


def _vector(path: Path, tensors: Mapping[str, Tensor], name: str) -> F32:
    tensor = _find(tensors, name, 1)
    return blocks.vector(name, tensor.type_name, _raw(path, tensor))
