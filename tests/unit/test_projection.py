"""Projections for phones, against values that were computed by hand from the formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_qwen2
from gguf_files import write_tiny
from isthmus.engine.bench.projection import (
    CHIPS,
    LLAMA_7B,
    SENSE_1_8B,
    PhoneChip,
    Shape,
    project,
    projections,
)
from program import run


def test_a_token_takes_its_bytes_over_the_bandwidth_reached_and_its_launches() -> None:
    chip = PhoneChip("chip", 10.0, "-", 0.5, "-")
    shape = Shape("m", 10, 80_000_000, 20_000_000, 2000, 4.8, "-")
    made = project(chip, shape)
    # 100 M weights of 0.6 bytes; 512 positions of 2,000 bytes; 6 launches a layer and 3.
    assert (made.weight_bytes, made.kv_bytes, made.launches) == (60_000_000, 1_024_000, 63)
    # 61.024 MB at 6 GB/s are 10.1707 ms; 63 launches of 10 µs are 0.63 ms.
    assert made.decode_ms == pytest.approx(10.8007, abs=1e-4)
    assert made.decode_tok_s == pytest.approx(92.587, abs=1e-3)
    # 0.5 T operations over 160 M a token: the head is not needed for it.
    assert made.prefill_tok_s == pytest.approx(3125)


def test_the_published_models_have_the_weights_that_their_papers_tell() -> None:
    # 32 layers of 4 * 4096^2 + 3 * 4096 * 11008, and a head of 4096 * 32000.
    assert LLAMA_7B.layer_weights == 6_476_005_376
    assert LLAMA_7B.head_weights == 131_072_000
    # PerfXLLM tells of 3.7 GB.
    made = project(CHIPS["snapdragon-8-gen-2"], LLAMA_7B)
    assert made.weight_bytes == pytest.approx(3.7e9, rel=0.01)
    # 24 layers of 2048 * (2 * 2048 + 2 * 1024 + 3 * 8192), and a head of 2048 * 92544.
    assert SENSE_1_8B.layer_weights == 1_509_949_440
    assert SENSE_1_8B.head_weights == 189_530_112


def test_a_models_own_shape_is_counted_with_its_shared_heads() -> None:
    shape = Shape.of("tiny", tiny_qwen2.CONFIG, bits=4.5, source="-")
    # hidden 64; 4 heads and 2 key/value heads of 16; ffn 96; vocabulary 288; 2 layers.
    assert shape.layer_weights == 2 * 64 * (16 * (4 + 2 + 2 + 4) + 3 * 96)
    assert shape.head_weights == 64 * 288
    assert shape.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2


@pytest.mark.parametrize("device", CHIPS)
def test_published_figures_stand_beside_the_projection_of_their_chip_alone(device: str) -> None:
    given = Shape.of("tiny", tiny_qwen2.CONFIG, bits=4.5, source="-")
    found = [(made.model, p.who) for made in projections(device, given) for p in made.published]
    assert (
        found
        == {
            "snapdragon-8-gen-2": [(LLAMA_7B.name, "PerfXLLM"), (LLAMA_7B.name, "llama.cpp")],
            "snapdragon-8-gen-3": [(SENSE_1_8B.name, "SensePPL")],
            "dimensity-9300": [(SENSE_1_8B.name, "SensePPL")],
        }[device]
    )


def test_the_command_labels_projections_and_prints_what_they_rest_on(tmp_path: Path) -> None:
    model = str(write_tiny(tmp_path / "tiny.gguf"))
    asked = ["bench", "engine", "--project", "snapdragon-8-gen-3", "--model", model]
    told = run(*asked)
    assert told.exit_code == 0
    for part in ("projected", "not measured", "44.41", "242", "76.8 GB/s", "LPDDR5X", "SensePPL"):
        assert part in told.stdout
    told = run(*asked, "--json")
    shown = json.loads(told.stdout.splitlines()[-1])
    assert shown["kind"] == "projection, not a measurement"
    assert [made["model"] for made in shown["projections"]] == [
        LLAMA_7B.name,
        SENSE_1_8B.name,
        "tiny",
    ]
    assert shown["projections"][1]["published"] == [
        {"who": "SensePPL", "prefill_tok_s": 242.0, "decode_tok_s": 44.41}
    ]
    assert shown["assumptions"]["bandwidth"].startswith("76.8 GB/s")


def test_an_unknown_chip_is_answered_with_the_known_ones() -> None:
    told = run("bench", "engine", "--project", "pixel")
    assert told.exit_code != 0
    assert "dimensity-9300" in told.stderr
