"""Models are found by name or by path, and a wrong catalogue says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.core.paths import models_dir
from isthmus.engine.errors import CatalogueError, ModelUnavailable, UnknownModel
from isthmus.engine.sources.catalogue import catalogue, locate, resolve

OWN = """
[[models]]
name = "mine"
title = "My model"
architecture = "llama"
file = "mine.gguf"
size_bytes = 4
[[models.sources]]
kind = "path"
path = "$MY_MODELS/mine.gguf"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    monkeypatch.setenv("MY_MODELS", str(tmp_path / "elsewhere"))
    return tmp_path


def test_every_model_that_comes_with_isthmus_can_be_verified(home: Path) -> None:
    entries = catalogue()
    assert {"smollm2-135m", "qwen2.5-coder-1.5b"} <= set(entries)
    for entry in entries.values():
        assert entry.sha256 is not None
        assert entry.size_bytes is not None
        assert entry.licence == "Apache-2.0"


def test_a_users_own_model_is_added_and_found_where_its_path_points(home: Path) -> None:
    (home / "models.toml").write_text(OWN)
    entry = resolve("mine")
    assert locate(entry) is None
    (home / "elsewhere").mkdir()
    there = home / "elsewhere" / "mine.gguf"
    there.write_bytes(b"GGUF")
    assert locate(entry) == there


def test_a_users_entry_wins_over_ours(home: Path) -> None:
    (home / "models.toml").write_text(OWN.replace('"mine"', '"smollm2-135m"'))
    assert resolve("smollm2-135m").title == "My model"


def test_a_file_of_the_wrong_size_is_not_the_model(home: Path) -> None:
    entry = resolve("smollm2-135m")
    entry.folder.mkdir(parents=True)
    (entry.folder / entry.file).write_bytes(b"half")
    assert entry.folder == models_dir() / "smollm2-135m"
    assert locate(entry) is None


def test_a_path_does_for_a_name(home: Path) -> None:
    path = home / "Some Model.gguf"
    path.write_bytes(b"GGUF")
    entry = resolve(str(path))
    assert entry.name == "Some Model"
    assert locate(entry) == path
    with pytest.raises(ModelUnavailable, match="there is no file"):
        resolve(str(home / "none.gguf"))


def test_a_misspelt_name_is_answered_with_the_near_one(home: Path) -> None:
    with pytest.raises(UnknownModel, match=r"did you mean 'smollm2-135m'"):
        resolve("smollm-135m")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("size_bytes = 4", 'size_bytes = "four"'), r"models\.0\.size_bytes"),
        (("size_bytes = 4", "sise_bytes = 4"), r"models\.0\.sise_bytes"),
        (('kind = "path"', 'kind = "ftp"'), r"models\.0\.sources\.0"),
        (('"mine"', '"../mine"'), r"models\.0\.name"),
        (('"mine.gguf"', '"a/../mine.gguf"'), r"models\.0\.file"),
        (("[[models]]", "[[models"), "not TOML"),
    ],
)
def test_a_wrong_entry_is_named(home: Path, change: tuple[str, str], told: str) -> None:
    (home / "models.toml").write_text(OWN.replace(*change, 1))
    with pytest.raises(CatalogueError, match=told):
        catalogue()
