"""Model folders in Hugging Face's layout are read exactly, and refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models
from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.export import export
from isthmus.engine.formats import awq, safetensors
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.formats.safetensors import Described
from isthmus.engine.tokens.tokenizer import Segment, Tokenizer
from isthmus.kernels.quantize import round_to_nearest

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AutoAWQ's AWQ_ORDER (awq/utils/packing_utils.py): which output each nibble of a word is."""


def packed(values: np.ndarray) -> np.ndarray:
    """[n, rows] integers of 4 bits as AutoAWQ packs them: shifted and added, word by word."""
    words = np.zeros((values.shape[0], values.shape[1] // 8), np.int64)
    for nibble, output in enumerate(ORDER):
        words |= values[:, output::8].astype(np.int64) << (4 * nibble)
    return words.astype(np.uint32).view(np.int32)


def test_awq_words_hold_what_autoawq_put_in() -> None:
    rng = np.random.default_rng(1)
    codes, zeros = rng.integers(0, 16, (96, 24)), rng.integers(0, 16, (3, 24))
    scales = rng.uniform(0.01, 0.1, (3, 24)).astype(np.float16)
    weight = awq.unpack(packed(codes), packed(zeros), scales.astype(np.float32), 32)
    exact = (codes - np.repeat(zeros, 32, axis=0)) * np.repeat(
        scales.astype(np.float32), 32, axis=0
    )
    np.testing.assert_allclose(weight.dequantize(), exact.T, atol=1e-6)


@pytest.mark.parametrize("cols", [256, 576])
def test_a_rounded_weight_survives_awqs_layout(cols: int) -> None:
    matrix = np.random.default_rng(2).standard_normal((16, cols)).astype(np.float32)
    weight = round_to_nearest(matrix, group=128)
    qweight, qzeros, scales = awq.pack(weight)
    again = awq.unpack(qweight, qzeros, scales.astype(np.float32), 128)
    assert (qweight.shape, scales.shape) == ((cols, 2), (-(-cols // 128), 16))
    np.testing.assert_array_equal(again.dequantize(), weight.dequantize())


def test_a_weight_without_whole_zero_points_has_no_place_in_awqs_layout() -> None:
    matrix = np.random.default_rng(3).standard_normal((16, 128)).astype(np.float32)
    weight = round_to_nearest(matrix, group=128)
    weight.minimums[:] += 0.3 * weight.scales
    with pytest.raises(ValueError, match="whole zero points"):
        awq.pack(weight)


def write_awq(path: Path, *, group: int = 32, **quantization: Any) -> Path:
    """The tiny llama as an AWQ checkpoint: its layers in 4 bits, the rest in half precision."""
    config = tiny_models.CONFIGS["llama"]
    described, arrays = [], []
    for name, tensor in tiny_models.weights(config).items():
        if "layers" not in name or tensor.ndim == 1:
            described.append(Described(name, "F16", tensor.shape))
            arrays.append(tensor)
            continue
        parts = awq.pack(round_to_nearest(tensor.astype(np.float32), group=group))
        stem = name.removesuffix("weight")
        for part, dtype, array in zip(
            ("qweight", "qzeros", "scales"), ("I32", "I32", "F16"), parts, strict=True
        ):
            described.append(Described(stem + part, dtype, array.shape))
            arrays.append(array)
    path.mkdir()
    safetensors.write(path / safetensors.WEIGHTS, described, ([a] for a in arrays))
    stated = {"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": group}
    stated |= quantization
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))
    tiny_models.write_tokenizer(path)
    return path


@pytest.mark.parametrize("group", [32, 64, 128])
def test_an_awq_checkpoint_keeps_its_four_bits(tmp_path: Path, group: int) -> None:
    opened = read_folder(write_awq(tmp_path / "awq", group=group))
    weight = opened.matrix("blk.1.ffn_down.weight")
    exact = tiny_models.weights(tiny_models.CONFIGS["llama"])["model.layers.1.mlp.down_proj.weight"]
    assert (weight.bits, weight.group, weight.codes.shape) == (4, group, (64, 96))
    rounded = round_to_nearest(exact.astype(np.float32), group=group)
    np.testing.assert_array_equal(weight.dequantize(), rounded.dequantize())
    assert opened.matrix("token_embd.weight").bits == 8


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        ({"quant_method": "gptq"}, r"'gptq'.*supported are AWQ's gemm"),
        ({"version": "gemv"}, r"gemv.*supported are AWQ's gemm"),
        ({"bits": 3}, r"3 bits.*supported are AWQ's gemm version at 4 bits"),
        ({"group_size": 48}, r"group 48.*16, 32, 64, 128"),
    ],
)
def test_another_quantization_is_refused_with_what_is_supported(
    tmp_path: Path, quantization: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelNotSupported, match=told):
        read_folder(write_awq(tmp_path / "awq", **quantization))


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"model_type": "mamba2"}, r"'mamba2'.*llama, qwen2, qwen3, granite"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"layer_types": ["mamba", "attention"]}, "layers of type mamba"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, r"'dynamic'.*llama3, yarn"),
    ],
)
def test_what_would_answer_wrongly_is_refused(
    tmp_path: Path, extra: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelNotSupported, match=told):
        read_folder(tiny_models.write_folder(tmp_path / "m", "llama", extra=extra))


def test_a_sliding_window_ends_the_context_of_a_mistral_model(tmp_path: Path) -> None:
    whole = tiny_models.write_folder(tmp_path / "whole", "mistral")
    narrow = tiny_models.write_folder(tmp_path / "narrow", "mistral", extra={"sliding_window": 64})
    assert read_folder(whole).config.context == 512
    assert read_folder(narrow).config.context == 64


def test_a_tensor_type_that_is_not_known_is_named_with_those_that_are(tmp_path: Path) -> None:
    folder = tiny_models.write_folder(tmp_path / "m", "llama")
    weights = folder / safetensors.WEIGHTS
    weights.write_bytes(weights.read_bytes().replace(b'"F16"', b'"F8_"', 1))
    with pytest.raises(ModelNotSupported, match=r"type F8_; supported are F32, F16, BF16"):
        read_folder(folder)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelDamaged, match=r"layers\.1\.mlp\.up_proj\.weight.*missing"):
        read_folder(tiny_models.write_folder(tmp_path / "m", "llama", without=(name,)))


def test_a_missing_file_is_told_apart_from_damage(tmp_path: Path) -> None:
    folder = tiny_models.write_folder(tmp_path / "m", "qwen2")
    (folder / "tokenizer.json").rename(folder / "elsewhere.json")
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        read_folder(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, 2000, -1])
def test_truncated_weights_are_damage_wherever_they_end(tmp_path: Path, keep: int) -> None:
    folder = tiny_models.write_folder(tmp_path / "m", "qwen2")
    weights = folder / safetensors.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelDamaged, match="get it again"):
        read_folder(folder)


def test_weights_in_several_files_are_found_by_their_index(tmp_path: Path) -> None:
    folder = tiny_models.write_folder(tmp_path / "m", "qwen2")
    whole = read_folder(folder).dense("blk.1.attn_q.weight")
    tensors = tiny_models.weights(tiny_models.CONFIGS["qwen2"])
    names = list(tensors)
    shards = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, part in shards.items():
        described = [Described(name, "F16", tensors[name].shape) for name in part]
        safetensors.write(folder / file, described, ([tensors[name]] for name in part))
    (folder / safetensors.WEIGHTS).unlink()
    index = {name: file for file, part in shards.items() for name in part}
    (folder / safetensors.INDEX).write_text(json.dumps({"weight_map": index}))
    np.testing.assert_array_equal(read_folder(folder).dense("blk.1.attn_q.weight"), whole)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = tiny_models.write_folder(tmp_path / "m", "qwen2")
    index = {"weight_map": {"x": "../secret.safetensors"}}
    (folder / safetensors.INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelDamaged, match="outside its folder"):
        read_folder(folder)


def test_added_tokens_beside_the_vocabulary_have_their_text(tmp_path: Path) -> None:
    folder = tiny_models.write_folder(tmp_path / "m", "qwen2")
    described = json.loads((folder / "tokenizer.json").read_text())
    for token in described["added_tokens"]:
        del described["model"]["vocab"][token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(described))
    opened = read_folder(folder)
    tokenizer = Tokenizer(opened.tokenizer)
    assert tokenizer.encode([Segment("<|im_start|>", is_control=True), Segment("the")])[0] == 257
    assert tokenizer.token_bytes(258) == b"<|im_end|>"
    assert opened.tokenizer.eos_ids[0] == 258


@pytest.mark.parametrize("name", tiny_models.CONFIGS)
def test_an_exported_model_is_the_same_model(name: str, tmp_path: Path) -> None:
    first = read_folder(tiny_models.write_folder(tmp_path / "m", name))
    again = read_folder(export(first, tmp_path / "again"))
    assert again.config.rope_factors == pytest.approx(first.config.rope_factors)
    assert again.config.qk_norm == first.config.qk_norm
    for tensor in ("blk.0.attn_q.weight", "blk.1.attn_output.weight", "token_embd.weight"):
        np.testing.assert_allclose(again.dense(tensor), first.dense(tensor), rtol=2**-8)


def test_rows_of_a_matrix_can_be_read_alone(tmp_path: Path) -> None:
    opened = read_folder(tiny_models.write_folder(tmp_path / "m", "granite"))
    whole = opened.dense("token_embd.weight")
    np.testing.assert_array_equal(opened.dense("token_embd.weight", 100, 130), whole[100:130])
