"""Write a model in Hugging Face's layout, so that transformers and vLLM can load it.

The weights become bfloat16 in one safetensors file. What a quantized model writes beside its
weights (`isthmus.engine.quantize`) is written here too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.core.errors import ConfigError
from isthmus.engine.architectures import expected_tensors, hf_class, hf_name, stem
from isthmus.engine.formats import safetensors
from isthmus.engine.formats.safetensors import Described, bfloat16
from isthmus.engine.formats.tokenizer_json import tokenizer_json
from isthmus.engine.model import ModelConfig, ModelFile, TokenizerSpec
from isthmus.kernels.base import F32, RopeStyle

_CHUNK_VALUES = 1 << 22

Report = Callable[[int, int], None]
"""Called with the tensors written and the number of all of them."""


def export(model: ModelFile, to: Path, *, progress: Report | None = None) -> Path:
    """Write `model` into the new or empty folder `to`, which appears only when it is whole.

    Raises `ConfigError` when `to` has something in it or cannot be written.
    """
    shapes = expected_tensors(model.config)
    described = [Described(hf_name(name), "BF16", shape) for name, shape in shapes.items()]

    def arrays() -> Iterator[Iterator[Any]]:
        for done, (name, shape) in enumerate(shapes.items(), start=1):
            whole = chunks(model, name) if len(shape) == 2 else [vector(model, name)]
            yield map(bfloat16, whole)
            if progress is not None:
                progress(done, len(shapes))

    with new_folder(to) as draft:
        safetensors.write(draft / safetensors.WEIGHTS, described, arrays())
        write_documents(draft, model, dtype="bfloat16")
    return to


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `to` when the block ends without an error.

    Raises `ConfigError` when `to` has something in it or cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} is not an empty folder; name a new one", field="to")
    draft = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        draft.mkdir(parents=True)
        try:
            yield draft
            if to.exists():
                to.rmdir()
            draft.rename(to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror or error}", field="to") from error


def chunks(model: ModelFile, name: str) -> Iterator[F32]:
    """A matrix in runs of rows, each [rows, cols]; one whose heads are turned comes at once."""
    rows, cols = expected_tensors(model.config)[name]
    if _turned_heads(model.config, name):
        yield dense_rows(model, name)
        return
    step = max(1, _CHUNK_VALUES // cols)
    yield from (model.dense(name, first, first + step) for first in range(0, rows, step))


def dense_rows(model: ModelFile, name: str) -> F32:
    """A matrix with the rows of its heads in Hugging Face's order. [rows, cols]"""
    return _in_halves(model.dense(name), _turned_heads(model.config, name))


def vector(model: ModelFile, name: str) -> F32:
    """A norm's weight, or a bias in Hugging Face's order. [width]"""
    return _in_halves(model.vector(name), _turned_heads(model.config, name))


def _turned_heads(c: ModelConfig, name: str) -> int:
    if c.rope_style is not RopeStyle.INTERLEAVED:
        return 0
    return {"attn_q": c.heads, "attn_k": c.kv_heads}.get(stem(name), 0)


def _in_halves(rows: F32, heads: int) -> F32:
    """Undo GGUF's interleaving of rotary pairs. rows: [heads * head_dim, …]; no heads: as it is."""
    if not heads:
        return rows
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def write_documents(
    folder: Path, model: ModelFile, *, dtype: str, config: Mapping[str, Any] | None = None
) -> None:
    """Everything beside the weights; `config` is added to config.json."""
    for name, content in _documents(model, dtype, config or {}).items():
        (folder / name).write_text(content, "utf-8")


def _documents(model: ModelFile, dtype: str, config: Mapping[str, Any]) -> dict[str, str]:
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
        "config.json": _config(model.config) | {"torch_dtype": dtype} | ids | dict(config),
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
    model_type, class_name = hf_class(c)
    described = {
        "architectures": [class_name],
        "model_type": model_type,
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
        "vocab_size": c.vocab,
    }
    if c.rope_factors:
        # The one kind of scaling whose factors are spelled out. What it does to the scores of
        # attention is in the weights.
        described["rope_scaling"] = {
            "rope_type": "longrope",
            "short_factor": list(c.rope_factors),
            "long_factor": list(c.rope_factors),
            "attention_factor": 1.0,
            "original_max_position_embeddings": c.context,
        }
    return described
