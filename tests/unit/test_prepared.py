"""Packed weights on disk: used when they fit, made again when they do not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from gguf_files import write_tiny
from isthmus.engine import prepared
from isthmus.engine.model import ModelFile, TokenizerSpec
from isthmus.engine.perplexity import logits_of
from isthmus.engine.prepared import LoadedModel, load
from isthmus.kernels.base import F32, KVShape
from isthmus.kernels.native import NativeBackend


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    return write_tiny(tmp_path / "tiny.gguf")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The model files that were really read."""
    seen: list[Path] = []
    original = prepared._read

    def counted(path: Path) -> ModelFile:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(prepared, "_read", counted)
    return seen


def logits(loaded: LoadedModel) -> F32:
    shape = KVShape(blocks=1)
    plan = NativeBackend(threads=1).plan(loaded.ops, kv=shape, max_tokens=8)
    found = next(iter(logits_of(plan, shape, [1, 2, 3])))
    plan.close()
    return found


def folders() -> list[Path]:
    return list((prepared.paths.cache_dir() / "prepared").iterdir())


def folder() -> Path:
    (found,) = folders()
    return found


def test_a_second_load_reads_the_packed_weights(model: Path, reads: list[Path]) -> None:
    first = load(model, NativeBackend(threads=1))
    second = load(model, NativeBackend(threads=1))
    assert len(reads) == 1
    assert first.config == second.config
    for field in fields(TokenizerSpec):
        np.testing.assert_array_equal(
            getattr(first.tokenizer, field.name), getattr(second.tokenizer, field.name)
        )
    np.testing.assert_array_equal(logits(first), logits(second))


def test_a_changed_model_file_is_read_again(model: Path, reads: list[Path]) -> None:
    load(model, NativeBackend(threads=1))
    os.utime(model, ns=(1, 1))
    load(model, NativeBackend(threads=1))
    assert len(reads) == 2


def test_only_the_newest_version_of_a_model_is_kept(model: Path, tmp_path: Path) -> None:
    load(write_tiny(tmp_path / "other.gguf"), NativeBackend(threads=1))
    others = folders()
    old = load(model, NativeBackend(threads=1))
    expected = logits(old)
    (before,) = set(folders()) - set(others)
    os.utime(model, ns=(1, 1))
    load(model, NativeBackend(threads=1))
    assert before not in folders()
    assert len(folders()) == 2
    assert set(others) < set(folders())
    np.testing.assert_array_equal(logits(old), expected)  # who has mapped it keeps it


def test_drafts_that_nobody_will_finish_are_removed(model: Path) -> None:
    load(model, NativeBackend(threads=1))
    fresh, left = (folder().with_name(f"x-y.{name}") for name in ("fresh", "left"))
    fresh.mkdir()
    left.mkdir()
    os.utime(left, ns=(1, 1))
    os.utime(model, ns=(1, 1))
    load(model, NativeBackend(threads=1))
    assert fresh in folders()
    assert left not in folders()


def moved_index(text: str) -> str:
    """A description in which an array begins somewhere else."""
    described = json.loads(text)
    described["index"]["output_norm.weight"]["offset"] += 4
    return json.dumps(described)


def other_heads(text: str) -> str:
    """A description of the same arrays with heads that are too wide for them."""
    described = json.loads(text)
    described["config"]["head_dim"] *= 4
    return json.dumps(described)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda text: text[:-1],
        lambda _: "{}",
        lambda _: "[]",
        lambda text: text.replace('"index": {', '"index": {}, "other": {'),
        moved_index,
        other_heads,
    ],
    ids=["cut", "empty", "a list", "no index", "moved", "other heads"],
)
def test_a_damaged_description_is_made_again(
    model: Path, reads: list[Path], damaged: Callable[[str], str]
) -> None:
    expected = logits(load(model, NativeBackend(threads=1)))
    description = folder() / "model.json"
    description.write_text(damaged(description.read_text()))
    np.testing.assert_array_equal(logits(load(model, NativeBackend(threads=1))), expected)
    load(model, NativeBackend(threads=1))
    assert len(reads) == 2


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_weights_that_were_cut_are_made_again(model: Path, reads: list[Path], size: int) -> None:
    expected = logits(load(model, NativeBackend(threads=1)))
    arrays = folder() / "arrays.bin"
    os.truncate(arrays, size if size >= 0 else arrays.stat().st_size + size)
    np.testing.assert_array_equal(logits(load(model, NativeBackend(threads=1))), expected)
    load(model, NativeBackend(threads=1))
    assert len(reads) == 2


@pytest.mark.parametrize("missing", ["model.json", "arrays.bin"])
def test_a_folder_that_is_not_whole_is_made_again(
    model: Path, reads: list[Path], missing: str
) -> None:
    load(model, NativeBackend(threads=1))
    (folder() / missing).unlink()
    load(model, NativeBackend(threads=1))
    load(model, NativeBackend(threads=1))
    assert len(reads) == 2


def test_the_folder_of_who_was_sooner_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, kept = prepared._read, []

    def read_while_another_prepares(path: Path) -> ModelFile:
        monkeypatch.setattr(prepared, "_read", reading)
        load(path, NativeBackend(threads=1))
        kept.append((folder() / "arrays.bin").stat().st_ino)
        return reading(path)

    monkeypatch.setattr(prepared, "_read", read_while_another_prepares)
    late = logits(load(model, NativeBackend(threads=1)))
    assert kept == [(folder() / "arrays.bin").stat().st_ino]
    np.testing.assert_array_equal(late, logits(load(model, NativeBackend(threads=1))))


def test_a_cache_that_cannot_be_written_costs_time_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(load(model, NativeBackend(threads=1)))
    blocked = tmp_path / "a-file"
    blocked.touch()
    monkeypatch.setenv("ISTHMUS_HOME", str(blocked))
    np.testing.assert_array_equal(logits(load(model, NativeBackend(threads=1))), expected)
