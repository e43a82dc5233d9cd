"""The NumPy reference against transformers (golden files by scripts/golden_logits.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_models
import tiny_qwen2
from gguf_files import write_published
from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.formats.huggingface import read_folder
from isthmus.engine.model import ModelFile
from isthmus.engine.perplexity import logits_of
from isthmus.engine.prepared import LoadedModel, pack_model
from isthmus.kernels.base import F32, KVShape
from isthmus.kernels.numpy_ref import NumpyBackend

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def smollm2(model_file: ModelFile) -> LoadedModel:
    return pack_model(model_file, NumpyBackend())


def run(model: LoadedModel, ids: list[int], *, chunk: int) -> F32:
    shape = KVShape(blocks=-(-len(ids) // 32))
    plan = NumpyBackend().plan(model.ops, kv=shape, max_tokens=chunk)
    return np.concatenate(list(logits_of(plan, shape, ids)))


def relative_error(found: F32, expected: F32) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("prompt", [0, 1, 2])
def test_llama_logits_agree_with_transformers(smollm2: LoadedModel, prompt: int) -> None:
    golden = np.load(GOLDEN / "smollm2_logits.npz")
    logits = run(smollm2, golden[f"ids_{prompt}"].tolist(), chunk=64)
    at = logits[golden[f"positions_{prompt}"]]
    top_ids, fixed_ids = golden[f"top_ids_{prompt}"], golden["fixed_ids"]
    top = np.take_along_axis(at, top_ids.astype(np.int64), axis=1)
    assert relative_error(top, golden[f"top_logits_{prompt}"]) < TOLERANCE
    assert relative_error(at[:, fixed_ids], golden[f"fixed_logits_{prompt}"]) < TOLERANCE
    assert (at.argmax(axis=1) == top_ids[:, 0]).all()


def test_qwen2_logits_agree_with_transformers() -> None:
    golden = np.load(GOLDEN / "qwen2_tiny.npz")
    model = pack_model(tiny_qwen2.model(), NumpyBackend())
    assert (
        relative_error(run(model, golden["ids"].tolist(), chunk=64), golden["logits"]) < TOLERANCE
    )


@pytest.mark.parametrize("name", tiny_models.CONFIGS)
def test_each_architecture_agrees_with_transformers(name: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "tiny_models.npz")
    opened = read_folder(tiny_models.write_folder(tmp_path / name, name))
    logits = run(pack_model(opened, NumpyBackend()), golden[f"{name}_ids"].tolist(), chunk=64)
    found = logits[golden[f"{name}_positions"]]
    assert relative_error(found, golden[f"{name}_logits"]) < TOLERANCE


@pytest.mark.parametrize("name", [n for n in tiny_models.CONFIGS if n != "granitemoehybrid"])
def test_a_gguf_file_agrees_with_transformers_too(name: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "tiny_models.npz")
    opened = read_gguf(write_published(tmp_path / f"{name}.gguf", name))
    logits = run(pack_model(opened, NumpyBackend()), golden[f"{name}_ids"].tolist(), chunk=64)
    found = logits[golden[f"{name}_positions"]]
    assert relative_error(found, golden[f"{name}_logits"]) < TOLERANCE


def test_a_prompt_in_chunks_has_the_logits_of_the_whole() -> None:
    ids = np.load(GOLDEN / "qwen2_tiny.npz")["ids"].tolist()
    model = pack_model(tiny_qwen2.model(), NumpyBackend())
    np.testing.assert_allclose(
        run(model, ids, chunk=7), run(model, ids, chunk=64), rtol=1e-4, atol=1e-4
    )
