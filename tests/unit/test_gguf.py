"""GGUF files are read exactly, lazily, and refused with a reason when they are not right."""

from __future__ import annotations

import contextlib
import resource
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny_qwen2
from gguf_files import Kind, write_published, write_tiny
from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.formats import blocks
from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.formats.gguf_header import read_header
from isthmus.engine.model import ModelFile
from isthmus.kernels.base import RopeStyle

HALVES_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}
"""Where the half-precision numbers stand in each kind of block."""


@pytest.mark.parametrize("name", HALVES_AT)
def test_a_quantized_tensor_becomes_canonical_bit_for_bit(name: str) -> None:
    rng = np.random.default_rng(1)
    kind = blocks.TENSOR_TYPES[name]
    raw = rng.integers(0, 256, (7 * 512 // kind.block, kind.block_bytes), dtype=np.uint8)
    for at in HALVES_AT[name]:
        halves = rng.uniform(-2, 2, (len(raw), 1)).astype(np.float16)
        raw[:, at : at + 2] = halves.view(np.uint8)

    weight = blocks.matrix("w", kind, raw.reshape(-1), rows=7)

    reference = gguf.quants.dequantize(raw.reshape(7, -1), Kind[name])
    assert weight.codes.max() < 2**weight.bits
    np.testing.assert_array_equal(weight.dequantize(), reference)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_an_unquantized_tensor_is_rounded_to_eight_bits(name: str) -> None:
    values = np.random.default_rng(2).standard_normal((5, 64)).astype(np.float32)
    values[0, :32] = 0.25  # a constant group has no step
    stored = np.ascontiguousarray(gguf.quants.quantize(values, Kind[name]))

    weight = blocks.matrix("w", blocks.TENSOR_TYPES[name], stored.view(np.uint8).reshape(-1), 5)

    exact = gguf.quants.dequantize(stored, Kind[name])
    steps = np.repeat(weight.scales, 32, axis=1)
    assert (weight.bits, weight.group) == (8, 32)
    assert np.all(np.abs(weight.dequantize() - exact) <= 0.501 * steps + 1e-7)
    np.testing.assert_array_equal(weight.dequantize()[0, :32], exact[0, :32])


def test_large_tensors_are_converted_in_chunks_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = blocks.TENSOR_TYPES["Q4_1"]
    raw = np.random.default_rng(3).integers(0, 60, 33 * kind.row_bytes(64), dtype=np.uint8)
    whole = blocks.matrix("w", kind, raw, rows=33)
    monkeypatch.setattr(blocks, "_CHUNK_VALUES", 5 * 64)
    chunked = blocks.matrix("w", kind, raw, rows=33)
    np.testing.assert_array_equal(whole.dequantize(), chunked.dequantize())


def test_values_that_are_not_finite_are_damage() -> None:
    kind = blocks.TENSOR_TYPES["Q8_0"]
    with pytest.raises(ModelDamaged, match="not finite"):
        blocks.matrix("w", kind, np.full(kind.block_bytes, 0xFF, dtype=np.uint8), rows=1)


def test_the_small_model_is_what_its_makers_say(model_file: ModelFile) -> None:
    config = model_file.config
    assert (config.architecture, config.layers, config.hidden, config.ffn) == (
        "llama", 30, 576, 1536,
    )  # fmt: skip
    assert (config.heads, config.kv_heads, config.head_dim, config.vocab) == (9, 3, 64, 49152)
    assert config.rope_style is RopeStyle.INTERLEAVED
    assert config.rope_base == 100_000.0
    assert config.tied_embedding
    assert len(model_file.tensor_names) == 272
    assert model_file.tokenizer.eos_ids == (2, 0)


def test_tensors_of_the_small_model_equal_the_librarys(
    model_file: ModelFile, model_path: Path
) -> None:
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(model_path).tensors}
    for name in ("token_embd.weight", "blk.7.ffn_down.weight", "blk.29.attn_q.weight"):
        reference = gguf.quants.dequantize(stored[name].data, stored[name].tensor_type)
        np.testing.assert_array_equal(model_file.matrix(name).dequantize(), reference)
    norm = model_file.vector("output_norm.weight")
    np.testing.assert_array_equal(norm, stored["output_norm.weight"].data)


def test_the_small_models_header_equals_the_librarys(model_path: Path) -> None:
    library = gguf.GGUFReader(model_path)
    header = read_header(memoryview(model_path.read_bytes()))
    assert header.values == {
        key: field.contents()
        for key, field in library.fields.items()
        if not key.startswith("GGUF.")
    }
    for tensor in library.tensors:
        ours = header.tensors[tensor.name]
        assert ours.offset == tensor.data_offset
        assert ours.type_name == tensor.tensor_type.name
        assert ours.shape == tuple(reversed(tensor.shape.tolist()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"qwen2.block_count", b"qwen2.head_count_"),
        (b"blk.0.attn_q.weight", b"blk.0.attn_k.weight"),
    ],
)
def test_a_name_that_comes_twice_is_damage(tmp_path: Path, one: bytes, other: bytes) -> None:
    extra = {"head_count_": (2, gguf.GGUFValueType.UINT32)}
    path = write_tiny(tmp_path / "tiny.gguf", extra=extra)
    path.write_bytes(path.read_bytes().replace(other, one))
    with pytest.raises(ModelDamaged, match="twice"):
        read_gguf(path)


def test_a_qwen2_file_is_read_with_its_biases(tmp_path: Path) -> None:
    opened = read_gguf(write_tiny(tmp_path / "tiny.gguf"))
    matrices, vectors = tiny_qwen2.weights()

    assert opened.config == tiny_qwen2.CONFIG
    assert set(opened.tensor_names) == {*matrices, *vectors}
    for name in ("blk.1.attn_k.bias", "output_norm.weight"):
        np.testing.assert_array_equal(opened.vector(name), vectors[name])
    written = gguf.quants.quantize(matrices["blk.0.ffn_up.weight"].dequantize(), Kind.Q8_0)
    np.testing.assert_array_equal(
        opened.matrix("blk.0.ffn_up.weight").dequantize(),
        gguf.quants.dequantize(written, Kind.Q8_0),
    )


def test_a_missing_file_and_a_folder_are_told_apart_from_damage(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelUnavailable, match="cannot read"):
            read_gguf(path)


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 24, 100, 1000, 5000, 20_000, -1])
def test_a_truncated_file_is_damage_wherever_it_ends(tmp_path: Path, keep: int) -> None:
    whole = write_tiny(tmp_path / "tiny.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[:keep])
    with pytest.raises(ModelDamaged, match=r"pull the model again|missing"):
        read_gguf(cut)


@pytest.mark.parametrize("seed", range(60))
def test_a_file_with_flipped_bytes_is_read_or_refused_but_never_crashes(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(write_tiny(tmp_path / "tiny.gguf").read_bytes())
    for at in rng.integers(0, 12_000 if seed % 2 else 400, 8):
        data[at] = int(rng.integers(0, 256))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data)
    # Whatever else is raised fails the test: these two are the only ways to refuse a file.
    with contextlib.suppress(ModelDamaged, ModelNotSupported):
        opened = read_gguf(broken)
        assert opened.config.layers * 9 < len(opened.tensor_names)


@pytest.mark.parametrize("count", [2**62, 90_000_000])
@pytest.mark.parametrize("item_type", [0, 8, 9])
def test_a_header_that_claims_too_much_costs_no_memory(
    tmp_path: Path, count: int, item_type: int
) -> None:
    path = tmp_path / "liar.gguf"
    key = b"general.tags"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 1, 1))
        file.write(struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, item_type, count))
        file.truncate(100_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelDamaged, match="more than any model needs"):
        read_gguf(path)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 50_000


def test_half_a_head_is_damage_that_is_named(tmp_path: Path) -> None:
    half = {"attention.key_length": (2.5, gguf.GGUFValueType.FLOAT32)}
    path = write_tiny(tmp_path / "tiny.gguf", extra=half)
    with pytest.raises(ModelDamaged, match=r"attention\.key_length must be a whole number"):
        read_gguf(path)


def test_an_unknown_architecture_is_named_with_the_known_ones(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", architecture="mamba")
    with pytest.raises(ModelNotSupported, match=r"'mamba'.*llama, qwen2"):
        read_gguf(path)


def test_an_unknown_tensor_type_is_named_with_the_known_ones(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", matrix_type=Kind.Q5_1)
    with pytest.raises(ModelNotSupported, match=r"Q5_1.*Q4_K"):
        read_gguf(path)


def test_an_unknown_tokenizer_is_named_with_the_known_ones(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", tokenizer={"tokenizer.ggml.pre": "tekken"})
    with pytest.raises(ModelNotSupported, match=r"'tekken'.*smollm, .*qwen2"):
        read_gguf(path)


def test_a_part_of_a_split_model_is_told_apart_from_damage(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", tokenizer={"split.count": 3})
    with pytest.raises(ModelNotSupported, match=r"one of 3 parts.*llama-gguf-split --merge"):
        read_gguf(path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", without=("blk.1.ffn_up.weight",))
    with pytest.raises(ModelDamaged, match=r"blk\.1\.ffn_up\.weight.*missing"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (
            {"rope.scaling.type": ("dynamic", gguf.GGUFValueType.STRING)},
            "rope scaling 'dynamic'.*yarn",
        ),
        ({"expert_count": (8, gguf.GGUFValueType.UINT32)}, "mixture of experts"),
        ({"rope.dimension_count": (8, gguf.GGUFValueType.UINT32)}, "width of a head"),
    ],
)
def test_a_variant_that_would_answer_wrongly_is_refused(
    tmp_path: Path, extra: dict[str, Any], told: str
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", extra=extra)
    with pytest.raises(ModelNotSupported, match=told):
        read_gguf(path)


def test_more_arrays_or_more_entries_than_any_model_has_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "liar.gguf"
    bytes_ = 1 << 22
    many = b"".join(
        struct.pack("<Q", 1) + bytes([65 + i]) + struct.pack("<IIQ", 9, 0, bytes_) + bytes(bytes_)
        for i in range(8)
    )
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 8) + many)
    with pytest.raises(ModelDamaged, match="more than any model needs"):
        read_gguf(path)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 20, 1) + bytes(1 << 20))
    with pytest.raises(ModelDamaged, match="more than any model does"):
        read_gguf(path)


def test_an_embedding_without_dimensions_is_damage(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    name = b"token_embd.weight"
    at = (data := path.read_bytes()).index(name) + len(name)
    path.write_bytes(data[:at] + bytes(4) + data[at + 4 + 2 * 8 :])
    with pytest.raises(ModelDamaged, match=r"token_embd\.weight"):
        read_gguf(path)


def test_a_list_for_a_name_of_rope_scaling_is_refused(tmp_path: Path) -> None:
    extra = {"rope.scaling.type": (["yarn"], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING)}
    with pytest.raises(ModelNotSupported, match="rope scaling"):
        read_gguf(write_tiny(tmp_path / "tiny.gguf", extra=extra))


def test_a_head_wider_than_its_tensors_is_damage_before_it_costs_memory(tmp_path: Path) -> None:
    uint, text = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.STRING
    extra = {
        "attention.key_length": (2**16, uint),
        "rope.scaling.type": ("linear", text),
        "rope.scaling.factor": (2, uint),
    }
    with pytest.raises(ModelDamaged, match="attn_q"):
        read_gguf(write_tiny(tmp_path / "tiny.gguf", extra=extra))


def test_rope_factors_beyond_the_file_are_damage(tmp_path: Path) -> None:
    path = write_published(tmp_path / "tiny.gguf", "llama")
    name = b"rope_freqs.weight"
    at = (data := path.read_bytes()).index(name) + len(name) + 4 + 8 + 4
    path.write_bytes(data[:at] + struct.pack("<Q", 2**64 - 32) + data[at + 8 :])
    with pytest.raises(ModelDamaged, match=r"ends before tensor 'rope_freqs\.weight'"):
        read_gguf(path)
