"""Write small GGUF files, right ones and wrong ones, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

import tiny_models
import tiny_qwen2

Kind = gguf.GGMLQuantizationType


def write_tiny(
    path: Path,
    *,
    architecture: str = "qwen2",
    matrix_type: Any = Kind.Q8_0,
    extra: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    tokenizer: dict[str, Any] | None = None,
) -> Path:
    """`tiny_qwen2` as a GGUF file whose matrices have `matrix_type`.

    `extra` are more key/values of the architecture, `without` tensors that are left out,
    `tokenizer` overrides of the tokenizer's key/values.
    """
    c = tiny_qwen2.CONFIG
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(c.layers)
    writer.add_embedding_length(c.hidden)
    writer.add_feed_forward_length(c.ffn)
    writer.add_head_count(c.heads)
    writer.add_head_count_kv(c.kv_heads)
    writer.add_context_length(c.context)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_rope_freq_base(c.rope_base)
    for key, value in (extra or {}).items():
        writer.add_key_value(f"{architecture}.{key}", *value)
    for key, value in (tiny_qwen2.header() | (tokenizer or {})).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
    matrices, vectors = tiny_qwen2.weights()
    for name, weight in matrices.items():
        if name not in without:
            packed = gguf.quants.quantize(weight.dequantize(), matrix_type)
            writer.add_tensor(name, packed, raw_dtype=matrix_type)
    for name, vector in vectors.items():
        if name not in without and (architecture == "qwen2" or not name.endswith("bias")):
            writer.add_tensor(name, np.asarray(vector))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_published(path: Path, name: str, *, extra: dict[str, Any] | None = None) -> Path:
    """A model of `tiny_models` as llama.cpp's converter writes it, its matrices in Q8_0.

    `extra` are key/values of the architecture that replace or join the others.
    """
    config = tiny_models.CONFIGS[name]
    architecture = "llama" if name == "mistral" else name
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if name == "granite":
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    scaling = config.get("rope_scaling", {})
    if scaling.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    elif scaling:
        factors = [1.0, 3.299538946124295, *[8.0] * 6]  # as its converter computes them
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    for key, value in (extra or {}).items():
        writer.kv_data[0].pop(f"{architecture}.{key}", None)
        writer.add_key_value(f"{architecture}.{key}", *value)
    for key, value in tiny_qwen2.header().items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[architecture.upper()], config["num_hidden_layers"]
    )
    for full, tensor in tiny_models.weights(config).items():
        values = tensor.astype(np.float32)
        turned = {"q_proj": heads, "k_proj": kv_heads}.get(full.split(".")[-2])
        if turned and architecture in {"llama", "granite"}:
            pairs = values.reshape(turned, 2, -1, *values.shape[1:])
            values = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
        ours = names.get_name(full, try_suffixes=(".weight", ".bias"))
        if values.ndim == 1:
            writer.add_tensor(ours, values)
        else:
            packed = gguf.quants.quantize(values, Kind.Q8_0)
            writer.add_tensor(ours, packed, raw_dtype=Kind.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
