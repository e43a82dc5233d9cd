"""A number that no model can mean is refused by its name, wherever in a model file it stands."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from gguf_files import write_published, write_tiny
from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.formats.huggingface import read_folder

FLOAT = gguf.GGUFValueType.FLOAT32
TEXT = gguf.GGUFValueType.STRING
JUNK = [-1, 0, 0.5, float("nan"), float("inf"), 1e300, 10**400, "x", [], [1], {}, {"a": 1}, True]
YARN = {"rope_type": "yarn", "factor": 4.0}
LLAMA3 = tiny_models.CONFIGS["llama"]["rope_scaling"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("models")
    return {name: tiny_models.write_folder(at / name, name) for name in tiny_models.CONFIGS}


def read_with(folder: Path, **changes: Any) -> Any:
    config = tiny_models.CONFIGS[folder.name] | changes
    (folder / "config.json").write_text(json.dumps(config))
    return read_folder(folder)


@pytest.mark.parametrize("value", [-1.0, 0, float("nan"), float("inf"), 1e30, "4"])
@pytest.mark.parametrize(
    "key", ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"]
)
def test_a_multiplier_that_is_absurd_is_named(
    folders: dict[str, Path], key: str, value: Any
) -> None:
    with pytest.raises(ModelDamaged, match=key):
        read_with(folders["granite"], **{key: value})


@pytest.mark.parametrize("value", [-1.0, 0, 1, float("nan"), 1e30, "x"])
def test_a_rotary_base_that_is_absurd_is_named(folders: dict[str, Path], value: Any) -> None:
    for changes in ({"rope_theta": value}, {"rope_parameters": {"rope_theta": value}}):
        with pytest.raises(ModelDamaged, match=r"rope_theta (must be from 2|is missing)"):
            read_with(folders["qwen2"], **changes)


@pytest.mark.parametrize("value", [-8.0, 0, 0.5, float("nan"), float("inf"), 1e12, "x", [2]])
@pytest.mark.parametrize(
    ("scaling", "key"),
    [
        ({"rope_type": "linear"}, "factor"),
        (LLAMA3, "factor"),
        (LLAMA3, "original_max_position_embeddings"),
        (YARN, "factor"),
        (YARN, "original_max_position_embeddings"),
    ],
)
def test_a_scaling_that_is_absurd_is_named(
    folders: dict[str, Path], scaling: dict[str, Any], key: str, value: Any
) -> None:
    with pytest.raises(ModelDamaged, match=f"rope scaling's {key}"):
        read_with(folders["llama"], rope_scaling=scaling | {key: value})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rope_scaling": YARN | {"beta_fast": -1}}, "beta_fast"),
        ({"rope_scaling": YARN | {"attention_factor": 1e9}}, "attention_factor"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 1e-30}}, "low_freq_factor"),
        ({"rms_norm_eps": 3}, "rms_norm_eps"),
        ({"head_dim": 2**31 - 2, "rope_scaling": {"rope_type": "linear", "factor": 2}}, "head_dim"),
        ({"max_position_embeddings": 1}, "max_position_embeddings"),
        ({"layer_types": 7}, "layer_types"),
    ],
)
def test_other_numbers_are_held_to_bounds_too(
    folders: dict[str, Path], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ModelDamaged, match=told):
        read_with(folders["llama"], **changes)


def test_factors_of_single_frequencies_are_named_by_their_place(folders: dict[str, Path]) -> None:
    factors = [1.0] * 7 + [-2.0]
    scaling = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors}
    with pytest.raises(ModelDamaged, match=r"long_factor\[7\] must be from"):
        read_with(folders["qwen2"], rope_scaling=scaling)


NAMES = st.sampled_from([*tiny_models.CONFIGS["granite"], *tiny_models.CONFIGS["qwen3"],
                         "rope_parameters", "quantization_config", "layer_types", "sliding_window",
                         "partial_rotary_factor", "num_local_experts"])  # fmt: skip
VALUES = st.sampled_from(JUNK) | st.floats() | st.integers() | st.none()
SCALINGS = st.dictionaries(
    st.sampled_from([*LLAMA3, "type", "beta_fast", "attention_factor", "long_factor",
                     "short_factor", "rope_theta"]),
    VALUES | st.sampled_from(["yarn", "linear", "longrope", "llama3"]),
)  # fmt: skip


@given(
    name=st.sampled_from([*tiny_models.CONFIGS]), changes=st.dictionaries(NAMES, VALUES | SCALINGS)
)
def test_a_configuration_is_read_or_refused_but_never_crashes(
    folders: dict[str, Path], name: str, changes: dict[str, Any]
) -> None:
    try:
        opened = read_with(folders[name], **changes)
    except (ModelDamaged, ModelNotSupported):
        return
    assert np.isfinite(opened.config.rope_factors).all()
    assert np.isfinite(opened.vector("output_norm.weight")).all()


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(
    "key",
    [
        "embedding_scale",
        "residual_scale",
        "attention.scale",
        "logit_scale",
        "rope.freq_base",
        "attention.layer_norm_rms_epsilon",
        "context_length",
        "attention.key_length",
        "rope.scaling.attn_factor",
    ],
)
def test_an_absurd_number_in_a_gguf_file_is_named(tmp_path: Path, key: str, value: float) -> None:
    path = write_published(tmp_path / "m.gguf", "granite", extra={key: (value, FLOAT)})
    with pytest.raises(ModelDamaged, match=rf"granite\.{key} must be (from|a whole)"):
        read_gguf(path)


@pytest.mark.parametrize("value", [-4.0, 0.0, float("nan"), 1e12])
@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_an_absurd_scaling_in_a_gguf_file_is_named(tmp_path: Path, kind: str, value: float) -> None:
    extra = {"rope.scaling.type": (kind, TEXT), "rope.scaling.factor": (value, FLOAT)}
    with pytest.raises(ModelDamaged, match="rope scaling's factor"):
        read_gguf(write_tiny(tmp_path / "m.gguf", extra=extra))


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), 1e30])
def test_an_absurd_rotary_factor_in_a_gguf_file_is_named(tmp_path: Path, value: float) -> None:
    path = write_published(tmp_path / "m.gguf", "llama")
    good = struct.pack("<8f", 1.0, 3.299538946124295, *[8.0] * 6)
    data = path.read_bytes()
    assert good in data
    path.write_bytes(data.replace(good, struct.pack("<f", value) + good[4:]))
    with pytest.raises(ModelDamaged, match=r"rope_freqs\.weight.*(must be from|not finite)"):
        read_gguf(path)
