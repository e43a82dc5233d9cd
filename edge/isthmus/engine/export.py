"""Write a model in Hugging Face's layout, so that transformers and vLLM can load it.

The weights become bfloat16 in one safetensors file, whose format is that of
https://huggingface.co/docs/safetensors: an 8-byte length, a JSON header, then the tensors. It is
written here and not by the library, so that only one tensor is in memory at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import ConfigError
from isthmus.engine.hub_tokenizer import tokenizer_json
from isthmus.engine.model import ModelConfig, ModelFile, TokenizerSpec
from isthmus.kernels.base import F32, RopeStyle

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_BF16_BYTES = 2

Report = Callable[[int, int], None]
"""Called with the tensors written and the number of all of them."""


def export(model: ModelFile, to: Path, *, progress: Report | None = None) -> Path:
    """Write `model` into the new or empty folder `to`, which appears only when it is whole.

    Raises `ConfigError` when `to` has something in it or cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} is not an empty folder; name a new one", field="to")
    made = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        made.mkdir(parents=True)
        try:
            _write_weights(made / "model.safetensors", model, progress)
            for name, content in _documents(model).items():
                (made / name).write_text(content, "utf-8")
            if to.exists():
                to.rmdir()
            made.rename(to)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror or error}", field="to") from error
    return to


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    read: Callable[[], F32]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * _BF16_BYTES


def _tensors(model: ModelFile) -> Iterator[_Tensor]:
    """Every tensor under its Hugging Face name, in Hugging Face's order of rows."""
    c = model.config
    heads = {"attn_q": c.heads, "attn_k": c.kv_heads}
    q_width, kv_width = c.heads * c.head_dim, c.kv_heads * c.head_dim
    rows = {
        "token_embd": c.vocab, "output": c.vocab, "attn_q": q_width, "attn_k": kv_width,
        "attn_v": kv_width, "attn_output": c.hidden, "ffn_gate": c.ffn, "ffn_up": c.ffn,
        "ffn_down": c.hidden,
    }  # fmt: skip
    cols = {"attn_output": q_width, "ffn_down": c.ffn}
    for name in model.tensor_names:
        stem, kind = name.split(".")[-2:]
        turned = heads.get(stem, 0) if c.rope_style is RopeStyle.INTERLEAVED else 0
        if kind == "weight" and stem in rows:
            shape: tuple[int, ...] = (rows[stem], cols.get(stem, c.hidden))
            read = _matrix(model, name, turned)
        else:
            shape = (rows[stem] if kind == "bias" else c.hidden,)
            read = _vector(model, name, turned)
        yield _Tensor(_hf_name(name), shape, read)


def _matrix(model: ModelFile, name: str, heads: int) -> Callable[[], F32]:
    return lambda: _in_halves(model.matrix(name).dequantize(), heads)


def _vector(model: ModelFile, name: str, heads: int) -> Callable[[], F32]:
    return lambda: _in_halves(model.vector(name), heads)


def _in_halves(rows: F32, heads: int) -> F32:
    """Undo GGUF's interleaving of rotary pairs. rows: [heads * head_dim, …]; no heads: as it is."""
    if not heads:
        return rows
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _hf_name(name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    _, layer, stem, kind = name.split(".")
    return f"model.layers.{layer}.{_IN_LAYER[stem]}.{kind}"


def _write_weights(path: Path, model: ModelFile, progress: Report | None) -> None:
    tensors = list(_tensors(model))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.nbytes
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for done, tensor in enumerate(tensors, start=1):
            file.write(bfloat16(tensor.read()).tobytes())
            if progress is not None:
                progress(done, len(tensors))


def bfloat16(values: F32) -> NDArray[np.uint16]:
    """The bits of `values` as bfloat16, rounded to nearest, ties to even. Values are finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + rounding) >> np.uint32(16)).astype("<u2")


def _documents(model: ModelFile) -> dict[str, str]:
    spec = model.tokenizer
    end = spec.eos_ids[0] if spec.eos_ids else None
    ids = {"bos_token_id": spec.bos_id, "eos_token_id": list(spec.eos_ids), "pad_token_id": end}
    words = _words(spec, end)
    tokenizer_config = words | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": spec.add_bos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.config.context,
    }
    if spec.chat_template:
        tokenizer_config["chat_template"] = spec.chat_template
    documents = {
        "config.json": _config(model.config) | ids,
        "generation_config.json": ids,
        "tokenizer_config.json": tokenizer_config,
        "special_tokens_map.json": words,
    }
    written = {
        name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for name, content in documents.items()
    }
    return written | {"tokenizer.json": tokenizer_json(spec)}


def _words(spec: TokenizerSpec, end: int | None) -> dict[str, Any]:
    """The special tokens by their roles."""
    texts = {i: spec.text(i).decode() for i in spec.special_ids}
    roles = {"bos_token": spec.bos_id, "eos_token": end, "pad_token": end}
    named: dict[str, Any] = {role: texts[i] for role, i in roles.items() if i in texts}
    return named | {"additional_special_tokens": list(texts.values())}


def _config(c: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": [_CLASSES[c.architecture]],
        "model_type": c.architecture,
        "hidden_act": "silu",
        "hidden_size": c.hidden,
        "intermediate_size": c.ffn,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_base,
        "tie_word_embeddings": c.tied_embedding,
        "torch_dtype": "bfloat16",
        "vocab_size": c.vocab,
    }
