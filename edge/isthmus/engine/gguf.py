"""Read GGUF model files: llama and qwen2, in the tensor types of `isthmus.engine.blocks`.

Tensors stay on disk and are read one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.engine import blocks
from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.gguf_header import Tensor, read_header
from isthmus.engine.model import ModelConfig, ModelFile
from isthmus.engine.vocabulary import tokenizer_spec
from isthmus.kernels.base import F32, U8, QuantizedWeight, RopeStyle

ROPE_STYLES = {"llama": RopeStyle.INTERLEAVED, "qwen2": RopeStyle.HALVES}
"""The architectures that the engine runs, with the order of their rotary pairs in GGUF."""

_MAX_DIMENSION = 1 << 31


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

    def number(self, key: str, default: float | None = None) -> float:
        """A positive, finite number of this architecture; `{key}` is without its prefix."""
        name = f"{self.architecture}.{key}"
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelDamaged(f"{self.path.name}: {name} is missing or not one number")
        if not (math.isfinite(value) and value > 0):
            raise ModelDamaged(f"{self.path.name}: {name} must be above zero, but is {value}")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if value != int(value):
            raise ModelDamaged(f"{self.path.name}: {key} must be a whole number, but is {value}")
        return int(value)

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
    tensors = header.tensors
    config = _config(_Values(path, header.values), tensors)
    _check_tensors(path, config, tensors, size=len(data))
    return ModelFile(
        name=path.stem,
        config=config,
        tokenizer=tokenizer_spec(header.values, vocab=config.vocab),
        tensor_names=tuple(tensors),
        matrix=partial(_matrix, path, tensors),
        vector=partial(_vector, path, tensors),
    )


def _config(header: _Values, tensors: Mapping[str, Tensor]) -> ModelConfig:
    architecture = header.architecture
    if architecture not in ROPE_STYLES:
        raise ModelNotSupported(
            f"{header.path.name}: architecture {architecture!r} is not supported; "
            f"supported are {', '.join(ROPE_STYLES)}"
        )
    _refuse_variants(header, tensors)
    hidden, heads = header.count("embedding_length"), header.count("attention.head_count")
    kv_heads = header.count("attention.head_count_kv", heads)
    head_dim = header.count("attention.key_length", max(1, hidden // heads))
    if heads % kv_heads or head_dim % 2:
        raise ModelDamaged(
            f"{header.path.name}: {heads} heads of width {head_dim} cannot share {kv_heads} "
            "key/value heads"
        )
    for key in ("rope.dimension_count", "attention.value_length"):
        if header.count(key, head_dim) != head_dim:
            raise ModelNotSupported(
                f"{header.path.name}: {key} differs from the width of a head ({head_dim}); "
                "only equal ones are supported"
            )
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelDamaged(f"{header.path.name}: tensor 'token_embd.weight' is missing")
    return ModelConfig(
        architecture=architecture,
        layers=header.count("block_count"),
        hidden=hidden,
        ffn=header.count("feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=embedding.shape[0],
        context=header.count("context_length"),
        rope_base=float(header.number("rope.freq_base", 10_000.0)),
        rope_style=ROPE_STYLES[architecture],
        norm_eps=float(header.number("attention.layer_norm_rms_epsilon")),
        tied_embedding="output.weight" not in tensors,
    )


def _refuse_variants(header: _Values, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what would run but give wrong answers."""
    scaling = header.optional("rope.scaling.type") or "none"
    variants = {
        "a mixture of experts": bool(header.optional("expert_count")),
        f"rope scaling {scaling!r}": scaling != "none",
        "per-frequency rope factors": "rope_freqs.weight" in tensors,
        "sliding-window attention": bool(header.optional("attention.sliding_window")),
    }
    found = [name for name, is_there in variants.items() if is_there]
    if found:
        raise ModelNotSupported(
            f"{header.path.name} uses {', '.join(found)}; only dense {' and '.join(ROPE_STYLES)} "
            "models with plain rotary positions are supported"
        )


def _expected(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the graph needs, with its shape."""
    q_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (config.vocab, config.hidden),
        "output_norm.weight": (config.hidden,),
    }
    if not config.tied_embedding:
        shapes["output.weight"] = (config.vocab, config.hidden)
    for layer in range(config.layers):
        prefix = f"blk.{layer}."
        shapes |= {
            prefix + "attn_norm.weight": (config.hidden,),
            prefix + "attn_q.weight": (q_width, config.hidden),
            prefix + "attn_k.weight": (kv_width, config.hidden),
            prefix + "attn_v.weight": (kv_width, config.hidden),
            prefix + "attn_output.weight": (config.hidden, q_width),
            prefix + "ffn_norm.weight": (config.hidden,),
            prefix + "ffn_gate.weight": (config.ffn, config.hidden),
            prefix + "ffn_up.weight": (config.ffn, config.hidden),
            prefix + "ffn_down.weight": (config.hidden, config.ffn),
        }
        if config.architecture == "qwen2":
            shapes |= {
                prefix + "attn_q.bias": (q_width,),
                prefix + "attn_k.bias": (kv_width,),
                prefix + "attn_v.bias": (kv_width,),
            }
    return shapes


def _check_tensors(
    path: Path, config: ModelConfig, tensors: Mapping[str, Tensor], *, size: int
) -> None:
    if config.layers > len(tensors) or max(config.vocab, config.ffn) >= _MAX_DIMENSION:
        raise ModelDamaged(f"{path.name}: {config.layers} layers are said, but not there")
    expected = _expected(config)
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


def _nbytes(tensor: Tensor) -> int:
    if len(tensor.shape) == 1:
        return tensor.shape[0] * blocks.VECTOR_TYPES[tensor.type_name]
    rows, cols = tensor.shape
    return rows * blocks.TENSOR_TYPES[tensor.type_name].row_bytes(cols)


def _raw(path: Path, tensor: Tensor) -> U8:
    # Not mapped: the pages of the file would stay beside what is made of them.
    try:
        raw = np.fromfile(path, np.uint8, count=_nbytes(tensor), offset=tensor.offset)
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    if raw.nbytes < _nbytes(tensor):
        raise ModelDamaged(f"{path.name} was cut while it was read; pull the model again")
    return raw


def _matrix(path: Path, tensors: Mapping[str, Tensor], name: str) -> QuantizedWeight:
    tensor = _find(tensors, name, 2)
    kind = blocks.TENSOR_TYPES[tensor.type_name]
    return blocks.matrix(name, kind, _raw(path, tensor), tensor.shape[0])


def _vector(path: Path, tensors: Mapping[str, Tensor], name: str) -> F32:
    tensor = _find(tensors, name, 1)
    return blocks.vector(name, tensor.type_name, _raw(path, tensor))
