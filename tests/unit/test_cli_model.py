"""`isthmus model` speaks JSON to machines, sentences to people, and exits as documented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gguf_files import write_tiny
from program import run


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    return write_tiny(tmp_path / "tiny.gguf")


def test_list_names_models_and_whether_they_are_here(tiny: Path) -> None:
    told = run("model", "list", "--json")
    models = {entry["name"]: entry for entry in json.loads(told.stdout)["models"]}
    assert told.exit_code == 0
    assert models["smollm2-135m"]["path"] is None
    assert models["smollm2-135m"]["licence"] == "Apache-2.0"
    assert "smollm2-135m" in run("model", "list").stdout


def test_inspect_tells_what_a_file_holds(tiny: Path) -> None:
    told = run("model", "inspect", str(tiny), "--json")
    facts = json.loads(told.stdout.splitlines()[-1])
    assert (facts["architecture"], facts["layers"], facts["vocab"]) == ("qwen2", 2, 288)
    assert facts["size_bytes"] == tiny.stat().st_size
    assert "qwen2" in run("model", "inspect", str(tiny)).stdout


def test_export_writes_a_folder_and_says_where(tiny: Path, tmp_path: Path) -> None:
    to = tmp_path / "hf"
    told = run("model", "export", str(tiny), "--to", str(to), "--json")
    assert json.loads(told.stdout)["to"] == str(to)
    assert (to / "model.safetensors").is_file()
    again = run("model", "export", str(tiny), "--to", str(to))
    assert again.exit_code == 2
    assert "not an empty folder" in again.stderr


def test_pull_of_a_path_gives_it_back(tiny: Path) -> None:
    told = run("model", "pull", str(tiny), "--json")
    assert json.loads(told.stdout)["path"] == str(tiny)


def test_a_model_that_is_not_here_is_told_how_to_get(tiny: Path) -> None:
    told = run("model", "inspect", "smollm2-135m")
    assert told.exit_code == 1
    assert "isthmus model pull smollm2-135m" in told.stderr


@pytest.mark.parametrize("command", ["pull", "inspect"])
def test_an_unknown_name_is_misuse(tiny: Path, command: str) -> None:
    told = run("model", command, "no-such-model")
    assert told.exit_code == 2
    assert "smollm2-135m" in told.stderr


@pytest.mark.parametrize("command", ["list", "pull", "inspect", "export"])
def test_every_help_shows_an_example(command: str) -> None:
    told = run("model", command, "--help")
    assert f"Example: isthmus model {command}" in told.stdout
