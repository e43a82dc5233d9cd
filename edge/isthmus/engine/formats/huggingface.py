"""Read model folders in Hugging Face's layout: float safetensors, or 4-bit ones of AutoAWQ's.

`config.json` says the shape, `tokenizer.json` the tokenizer, `*.safetensors` the weights. Tensors
stay on disk and are read one at a time; they are asked for by their GGUF names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.engine import architectures
from isthmus.engine.architectures import expected_tensors, hf_name
from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.formats import awq, safetensors
from isthmus.engine.formats.bounds import (
    HEAD_DIM,
    MULTIPLIER,
    NORM_EPS,
    POSITIONS,
    ROPE_BASE,
    SIZE,
    Bounds,
    check_heads,
)
from isthmus.engine.formats.hf_tokenizer import tokenizer_spec
from isthmus.engine.formats.multipliers import Multipliers, fold
from isthmus.engine.formats.rope import RopeScaling, rope_scaling
from isthmus.engine.formats.safetensors import Stored
from isthmus.engine.model import ModelConfig, ModelFile
from isthmus.kernels.base import F32, QuantizedWeight, RopeStyle

_CHUNK_VALUES = 1 << 22
_GROUPS = (16, 32, 64, 128)
_AWQ_PARTS = ("qweight", "qzeros", "scales")
_HYBRID = "granitemoehybrid"
"""Granite 4.0's class, for models with and without experts and Mamba layers; those without both
are Granite, with the parts of the MLP under other names, gate and up in one tensor."""
_SAME_AS = {"mistral": "llama", _HYBRID: "granite"}
"""Classes that compute what another one does."""
_HYBRID_NAMES = {
    "mlp.gate_proj": ("shared_mlp.input_linear", 0),
    "mlp.up_proj": ("shared_mlp.input_linear", 1),
    "mlp.down_proj": ("shared_mlp.output_linear", 0),
}
"""The tensor, and which of its parts of equal size."""


def read_folder(folder: Path) -> ModelFile:
    """Open a model folder.

    Raises `ModelUnavailable` (cannot be read), `ModelDamaged` (broken) or `ModelNotSupported`.
    """
    described = _Description(folder)
    tensors = safetensors.read(folder)
    config, multipliers = _config(described, tensors)
    reader = _Reader(folder, config, tensors, _awq_group(described))
    model = ModelFile(
        name=folder.resolve().name,
        config=config,
        tokenizer=tokenizer_spec(folder, vocab=config.vocab),
        tensor_names=tuple(expected_tensors(config)),
        matrix=reader.matrix,
        dense=reader.dense,
        vector=reader.vector,
    )
    return fold(model, multipliers)


def check_documents(folder: Path) -> None:
    """Whether a folder that has no weights yet could be read with them. Raises as `read_folder`."""
    described = _Description(folder)
    _stated_architecture(described)
    _refuse_variants(described)
    _awq_group(described)
    tokenizer_spec(folder, vocab=described.count("vocab_size"))


class _Description:
    """config.json, with errors that name the key."""

    def __init__(self, folder: Path) -> None:
        path = folder / "config.json"
        try:
            values = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise ModelDamaged(f"{path} is not JSON") from error
        if not isinstance(values, dict):
            raise ModelDamaged(f"{path} is not a JSON object")
        self.path = path
        self.values: dict[str, Any] = values

    def number(self, key: str, within: Bounds, default: float | None = None) -> float:
        value = self.values.get(key)
        return within.check(f"{self.path}: {key}", default if value is None else value)

    def count(self, key: str, default: int | None = None, *, within: Bounds = SIZE) -> int:
        value = self.values.get(key)
        return within.check_whole(f"{self.path}: {key}", default if value is None else value)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise ModelDamaged(f"{self.path}: {key} is not an object")
        return value

    def texts(self, key: str) -> list[str]:
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ModelDamaged(f"{self.path}: {key} is not a list of strings")
        return value


def _stated_architecture(described: _Description) -> str:
    stated = described.values.get("model_type")
    if not isinstance(stated, str) or stated not in {*architectures.ROPE_STYLES, *_SAME_AS}:
        raise ModelNotSupported(
            f"{described.path}: architecture {stated!r} is not supported; supported are "
            f"{architectures.supported()}, {', '.join(_SAME_AS)}"
        )
    return stated


def _config(
    described: _Description, tensors: Mapping[str, Stored]
) -> tuple[ModelConfig, Multipliers]:
    stated = _stated_architecture(described)
    architecture = _SAME_AS.get(stated, stated)
    _refuse_variants(described)
    hidden, heads = described.count("hidden_size"), described.count("num_attention_heads")
    kv_heads = described.count("num_key_value_heads", heads)
    head_dim = described.count("head_dim", max(1, hidden // heads), within=HEAD_DIM)
    check_heads(described.path, heads, kv_heads, head_dim)
    scaling_of = described.mapping("rope_parameters") or described.mapping("rope_scaling")
    theta = scaling_of.get("rope_theta")
    if theta is None:
        base = float(described.number("rope_theta", ROPE_BASE, 10_000.0))
    else:
        base = float(ROPE_BASE.check(f"{described.path}: rope_theta", theta))
    context = described.count("max_position_embeddings", within=POSITIONS)
    if stated == "mistral" and described.values.get("sliding_window") is not None:
        # Up to there a window sees all that came before.
        context = min(context, described.count("sliding_window", within=POSITIONS))
    scaling = rope_scaling(scaling_of, base=base, head_dim=head_dim, context=context)
    layers = described.count("num_hidden_layers")
    if layers > len(tensors):
        raise ModelDamaged(f"{described.path}: {layers} layers are said, but not there")
    config = ModelConfig(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        ffn=described.count(
            "shared_intermediate_size" if stated == _HYBRID else "intermediate_size"
        ),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=described.count("vocab_size"),
        context=context,
        rope_base=base,
        rope_style=RopeStyle.HALVES,
        norm_eps=float(described.number("rms_norm_eps", NORM_EPS, 1e-6)),
        tied_embedding=described.values.get("tie_word_embeddings") is True
        or "lm_head.weight" not in tensors,
        attention_bias=hf_name("blk.0.attn_q.bias") in tensors,
        qk_norm=architecture == "qwen3",
        rope_factors=scaling.factors,
    )
    return config, _multipliers(described, config, scaling)


def _multipliers(described: _Description, config: ModelConfig, scaling: RopeScaling) -> Multipliers:
    if config.architecture != "granite":
        return Multipliers(attention=scaling.attention)
    return Multipliers.of_granite(
        embedding=described.number("embedding_multiplier", MULTIPLIER, 1.0),
        residual=described.number("residual_multiplier", MULTIPLIER, 1.0),
        attention=described.number("attention_multiplier", MULTIPLIER, 1.0) * scaling.attention,
        logits=described.number("logits_scaling", MULTIPLIER, 1.0),
        head_dim=config.head_dim,
    )


def _refuse_variants(described: _Description) -> None:
    """Refuse what would run but give wrong answers."""
    values = described.values
    activation = values.get("hidden_act") or "silu"
    layers = set(described.texts("layer_types")) - {"attention", "full_attention"}
    variants = {
        "a mixture of experts": bool(values.get("num_local_experts")),
        f"layers of type {', '.join(sorted(layers))}": bool(layers),
        "no rotary positions": values.get("position_embedding_type", "rope") != "rope",
        f"the activation {activation!r}": activation != "silu",
        "sliding-window attention": bool(values.get("use_sliding_window")),
        "rotary positions for a part of each head": (values.get("partial_rotary_factor") or 1) != 1,
    }
    found = [name for name, is_there in variants.items() if is_there]
    if found:
        raise ModelNotSupported(
            f"{described.path}: the model uses {', '.join(found)}; supported are dense models "
            f"({architectures.supported()}) with SwiGLU whose attention sees the whole context"
        )


def _awq_group(described: _Description) -> int | None:
    """The group of an AWQ checkpoint; None for float weights."""
    quantization = described.mapping("quantization_config")
    if not quantization:
        return None
    method = quantization.get("quant_method")
    version = str(quantization.get("version", "gemm")).lower()
    bits = quantization.get("bits", awq.BITS)
    group = quantization.get("group_size")
    if (method, version, bits) != ("awq", "gemm", awq.BITS) or group not in _GROUPS:
        raise ModelNotSupported(
            f"{described.path}: quantization {method!r} ({version}, {bits} bits, group {group}) is "
            f"not supported; supported are AWQ's gemm version at {awq.BITS} bits with groups of "
            f"{', '.join(map(str, _GROUPS))}, and float weights"
        )
    return int(group)


class _Reader:
    """The tensors of a folder by their GGUF names, checked when it is made."""

    def __init__(
        self, folder: Path, config: ModelConfig, tensors: Mapping[str, Stored], group: int | None
    ) -> None:
        self._config = config
        self._tensors = tensors
        self._group = group
        used = set[str]()
        for name, shape in expected_tensors(config).items():
            for part, needed in self._parts(name, shape).items():
                self._check(folder, part, needed, integer=part.endswith(("qweight", "qzeros")))
                used.add(part)
        unknown = [n for n in tensors if n not in used and not _is_redundant(n, config)]
        if unknown:
            raise ModelNotSupported(
                f"{folder.name} has {len(unknown)} tensors that {config.architecture} models here "
                f"do not use, the first being {unknown[0]!r}"
            )

    def _parts(self, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The tensors in the files that make up one of ours, with their shapes."""
        if not self._is_awq(name):
            tensor, _, parts = self._place(name)
            return {tensor: (shape[0] * parts, *shape[1:])}
        assert self._group is not None  # `_is_awq` looked
        (rows, cols), words = shape, shape[0] // awq.PER_WORD
        groups = -(-cols // self._group)
        stem = hf_name(name).removesuffix("weight")
        shapes = ((cols, words), (groups, words), (groups, rows))
        return {stem + part: needed for part, needed in zip(_AWQ_PARTS, shapes, strict=True)}

    def _place(self, name: str) -> tuple[str, int, int]:
        """The tensor that holds one of ours, which part of it that is, and of how many."""
        whole = hf_name(name)
        for ours, (theirs, part) in _HYBRID_NAMES.items():
            other = whole.replace(ours, theirs)
            if ours in whole and whole not in self._tensors and other in self._tensors:
                return other, part, 2 if theirs.endswith("input_linear") else 1
        return whole, 0, 1

    def _rows(self, name: str, first: int, last: int | None) -> F32:
        tensor, part, parts = self._place(name)
        stored = self._tensors[tensor]
        rows = stored.shape[0] // parts
        first, last, _ = slice(first, last).indices(rows)
        return stored.as_float32(part * rows + first, part * rows + last)

    def _is_awq(self, name: str) -> bool:
        return self._group is not None and hf_name(name).removesuffix("weight") + "qweight" in (
            self._tensors
        )

    def _check(self, folder: Path, name: str, shape: tuple[int, ...], *, integer: bool) -> None:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.shape != shape:
            there = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
            raise ModelDamaged(f"{folder.name}: tensor {name!r} of {list(shape)} is {there}")
        known = ("I32",) if integer else safetensors.FLOATS
        if tensor.dtype not in known:
            raise ModelNotSupported(
                f"{folder.name}: tensor {name!r} has type {tensor.dtype}; supported are "
                f"{', '.join(known)}"
            )

    def matrix(self, name: str) -> QuantizedWeight:
        """The canonical form: AWQ's as it is, float weights in 8 bits."""
        if self._is_awq(name):
            return self._awq(name)
        rows, cols = expected_tensors(self._config)[name]
        step = max(1, _CHUNK_VALUES // cols)
        chunks = (self._rows(name, first, first + step) for first in range(0, rows, step))
        return QuantizedWeight.stack([QuantizedWeight.quantize8(chunk) for chunk in chunks])

    def dense(self, name: str, first: int = 0, last: int | None = None) -> F32:
        """Rows of a matrix as it is in the file."""
        if self._is_awq(name):
            return self._awq(name).dequantize()[first:last]
        return self._rows(name, first, last)

    def vector(self, name: str) -> F32:
        """A norm's weight or a bias."""
        return self._tensors[hf_name(name)].as_float32()

    def _awq(self, name: str) -> QuantizedWeight:
        stem = hf_name(name).removesuffix("weight")
        qweight, qzeros, scales = (self._tensors[stem + part] for part in _AWQ_PARTS)
        assert self._group is not None  # `_is_awq` looked
        words = [np.array(t.raw).view("<i4").reshape(t.shape) for t in (qweight, qzeros)]
        return awq.unpack(words[0], words[1], scales.as_float32(), self._group)


def _is_redundant(name: str, config: ModelConfig) -> bool:
    """Tensors that some checkpoints carry though they follow from others."""
    tied_head = config.tied_embedding and name == "lm_head.weight"
    return tied_head or name.endswith("rotary_emb.inv_freq")
