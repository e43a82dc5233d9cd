"""Write small GGUF files, right ones and wrong ones, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

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
