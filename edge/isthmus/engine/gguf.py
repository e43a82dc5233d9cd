"""Read GGUF model files: llama and qwen2, in the tensor types of `isthmus.engine.blocks`.

The `gguf` library parses the header; tensors stay on disk and are read one at a time through a
memory map. A damaged file costs no more memory than its own size: every length in it is checked
against the bytes that are there before anything is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType
from numpy.typing import NDArray

from isthmus.engine import blocks
from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.model import ModelConfig, ModelFile
from isthmus.engine.vocabulary import tokenizer_spec
from isthmus.kernels.base import F32, QuantizedWeight, RopeStyle

ROPE_STYLES = {"llama": RopeStyle.INTERLEAVED, "qwen2": RopeStyle.HALVES}
"""The architectures that the engine runs, with the order of their rotary pairs in GGUF."""

_MAX_ARRAY = 1 << 22
"""Longest array in a header; the largest vocabularies have half a million merges."""
_MAX_DIMENSION = 1 << 31


class _BoundedReader(GGUFReader):  # type: ignore[misc]  # the library is untyped
    """The library's reader, which takes lengths on trust, with every length checked."""

    def _get(self, offset: int, dtype: Any, count: Any = 1, *args: Any, **kwargs: Any) -> Any:
        if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
            raise ValueError("the file ends too early")
        return super()._get(int(offset), dtype, count, *args, **kwargs)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type == GGUFValueType.ARRAY:
            item_type, length = (
                self._get(orig_offs, np.uint32)[0],
                self._get(orig_offs + 4, np.uint64)[0],
            )
            if item_type == GGUFValueType.ARRAY or length > _MAX_ARRAY:
                raise ValueError("an array in the header is longer than any model needs")
        return super()._get_field_parts(orig_offs, raw_type)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor is. `shape` is in NumPy's order: rows first."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int


class _Header:
    """The key/value part of a file, with errors that name the key."""

    def __init__(self, path: Path, reader: Any) -> None:
        self.path = path
        self.values: dict[str, Any] = {
            key: field.contents()
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.")
        }
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
        with np.errstate(over="raise"):  # an offset that wraps would point into the header
            reader = _BoundedReader(path)
        header = _Header(path, reader)
        tensors = {
            str(t.name): _Tensor(
                name=str(t.name),
                type_name=t.tensor_type.name,
                shape=tuple(int(n) for n in reversed(t.shape.tolist())),
                offset=int(t.data_offset),
            )
            for t in reader.tensors
        }
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, LookupError, ArithmeticError, TypeError, RecursionError) as error:
        raise ModelDamaged(
            f"{path.name} is not a whole GGUF file ({error}); delete it and pull the model again"
        ) from error
    config = _config(header, tensors)
    _check_tensors(path, config, tensors)
    data: NDArray[np.uint8] = np.memmap(path, mode="r", dtype=np.uint8)
    return ModelFile(
        name=path.stem,
        config=config,
        tokenizer=tokenizer_spec(header.values, vocab=config.vocab),
        tensor_names=tuple(tensors),
        matrix=partial(_matrix, data, tensors),
        vector=partial(_vector, data, tensors),
    )


def _config(header: _Header, tensors: Mapping[str, _Tensor]) -> ModelConfig:
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


def _refuse_variants(header: _Header, tensors: Mapping[str, _Tensor]) -> None:
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


def _check_tensors(path: Path, config: ModelConfig, tensors: Mapping[str, _Tensor]) -> None:
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
    unknown = [name for name in tensors if name not in expected]
    if unknown:
        raise ModelNotSupported(
            f"{path.name} has {len(unknown)} tensors that {config.architecture} models here do "
            f"not use, the first being {unknown[0]!r}"
        )


def _find(tensors: Mapping[str, _Tensor], name: str, dimensions: int) -> _Tensor:
    tensor = tensors.get(name)
    if tensor is None or len(tensor.shape) != dimensions:
        raise KeyError(f"no tensor {name!r} with {dimensions} dimensions")
    return tensor


def _matrix(data: NDArray[np.uint8], tensors: Mapping[str, _Tensor], name: str) -> QuantizedWeight:
    tensor = _find(tensors, name, 2)
    kind = blocks.TENSOR_TYPES[tensor.type_name]
    rows, cols = tensor.shape
    raw = data[tensor.offset : tensor.offset + rows * kind.row_bytes(cols)]
    return blocks.matrix(name, kind, raw, rows)


def _vector(data: NDArray[np.uint8], tensors: Mapping[str, _Tensor], name: str) -> F32:
    tensor = _find(tensors, name, 1)
    size = tensor.shape[0] * blocks.VECTOR_TYPES[tensor.type_name]
    return blocks.vector(name, tensor.type_name, data[tensor.offset : tensor.offset + size])
