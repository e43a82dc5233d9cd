"""An exported model is the same model, in the layout that transformers and vLLM read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from safetensors import safe_open

import tiny_qwen2
from isthmus.core.errors import ConfigError
from isthmus.engine.export import export
from isthmus.engine.formats.safetensors import bfloat16
from isthmus.engine.model import ModelFile


def stored(path: Path, name: str) -> np.ndarray:
    """A bfloat16 tensor as float32, read without the library's own types."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    entry = json.loads(raw[8 : 8 + length])[name]
    first, last = (8 + length + offset for offset in entry["data_offsets"])
    bits = np.frombuffer(raw[first:last], dtype="<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(entry["shape"])


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even() -> None:
    # 1 + 2**-8 is half way between 1 and the next bfloat16, 1 + 2**-7.
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1.004, -3.14159], dtype=np.float32)
    assert [hex(bits) for bits in bfloat16(values)] == [
        "0x3f80", "0x3f80", "0x3f82", "0x3f81", "0xc049",
    ]  # fmt: skip


def test_a_qwen2_model_is_written_whole(tmp_path: Path) -> None:
    to = export(tiny_qwen2.model(), tmp_path / "out")
    matrices, vectors = tiny_qwen2.weights()
    with safe_open(to / "model.safetensors", framework="np") as file:
        assert len(file.keys()) == len(matrices) + len(vectors)
        assert file.metadata() == {"format": "pt"}
    for ours, theirs in (
        ("blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"),
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
        ("output.weight", "lm_head.weight"),
    ):
        exact = matrices[ours].dequantize()
        np.testing.assert_allclose(stored(to / "model.safetensors", theirs), exact, rtol=2**-8)
    bias = stored(to / "model.safetensors", "model.layers.0.self_attn.k_proj.bias")
    np.testing.assert_allclose(bias, vectors["blk.0.attn_k.bias"], rtol=2**-8)
    config = json.loads((to / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["tie_word_embeddings"] is False


def test_the_rows_of_a_llama_models_heads_are_put_in_halves(
    model_file: ModelFile, tmp_path: Path
) -> None:
    to = export(model_file, tmp_path / "out")
    gguf_rows = model_file.matrix("blk.3.attn_k.weight").dequantize()
    rows = stored(to / "model.safetensors", "model.layers.3.self_attn.k_proj.weight")
    # Of a head of 64: GGUF's rows 0, 2, 4, … are Hugging Face's 0 to 31; 1, 3, 5, … are 32 to 63.
    np.testing.assert_allclose(rows[64:96], gguf_rows[64:128:2], rtol=2**-8)
    np.testing.assert_allclose(rows[96:128], gguf_rows[65:128:2], rtol=2**-8)
    value = stored(to / "model.safetensors", "model.layers.3.self_attn.v_proj.weight")
    exact = model_file.matrix("blk.3.attn_v.weight").dequantize()
    np.testing.assert_allclose(value, exact, rtol=2**-8)
    config = json.loads((to / "config.json").read_text())
    assert config["rope_theta"] == 100_000.0
    assert json.loads((to / "generation_config.json").read_text())["eos_token_id"] == [2, 0]


def test_the_tokenizer_and_the_template_go_along(tmp_path: Path) -> None:
    model = tiny_qwen2.model()
    to = export(model, tmp_path / "out")
    tokenizer = tokenizers.Tokenizer.from_file(str(to / "tokenizer.json"))
    assert tokenizer.encode("<|im_start|>the").ids == [257, 259, ord("e")]
    config = json.loads((to / "tokenizer_config.json").read_text())
    assert config["chat_template"] == model.tokenizer.chat_template
    assert config["eos_token"] == "<|im_end|>"


def test_progress_counts_every_tensor(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    model = tiny_qwen2.model()
    export(model, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    count = len(model.tensor_names)
    assert seen == [(done, count) for done in range(1, count + 1)]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        export(tiny_qwen2.model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        export(tiny_qwen2.model(), tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []
