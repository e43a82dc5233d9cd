"""`isthmus doctor`: it ends with ready, or with the one thing that leads there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import program
from isthmus.cli import doctor
from isthmus.edge.ledger import Ledger
from isthmus.edge.page import libraries

GATEWAY = ("--gateway", "127.0.0.1:9")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the model, and nothing else."""
    folder = tmp_path / "home"
    (folder / "models" / "smollm2-135m").mkdir(parents=True)
    (folder / "models" / "smollm2-135m" / model_path.name).symlink_to(model_path)
    monkeypatch.setenv("ISTHMUS_HOME", str(folder))
    return folder


def look(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What it found in all, and its checks by name."""
    ended = program.run("doctor", *GATEWAY, "--json", *arguments)
    found = json.loads(ended.stdout.splitlines()[-1])
    assert ended.exit_code == (0 if found["ready"] else 1)
    return found, {check["name"]: check for check in found["checks"]}


def test_with_all_that_is_needed_it_is_ready() -> None:
    found, checks = look()
    assert (found["ready"], found["next"]) == (True, None)
    assert not checks["gateway"]["ok"]
    assert "this machine alone" in checks["settings"]["detail"]


def test_a_file_where_the_home_should_be_is_the_first_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "file" / "home"))
    found, checks = look()
    assert not checks["home"]["ok"]
    assert found["next"] == checks["home"]["cure"]
    assert str(tmp_path / "file") in found["next"]
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "new"))
    assert look()[0]["next"] == "isthmus model pull smollm2-135m"


def test_a_damaged_ledger_is_told_with_its_cure(home: Path) -> None:
    Ledger(home / "ledger.sqlite").close()
    assert look()[1]["ledger"]["ok"]
    (home / "ledger.sqlite").write_bytes(b"this is no database, and long enough" * 40)
    found, checks = look()
    assert not checks["ledger"]["ok"]
    assert "it is damaged; move it away" in found["next"]


def test_settings_that_keep_the_agent_from_starting_are_told_with_their_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ISTHMUS_EDGE_HOST", "0.0.0.0")
    found, checks = look()
    assert not checks["settings"]["ok"]
    assert "set a token (token = … or ISTHMUS_EDGE_TOKEN)" in found["next"]
    monkeypatch.setenv("ISTHMUS_EDGE_TOKEN", "a-token-of-this-test-alone-0123456789")
    found, checks = look()
    assert found["ready"]
    assert "with a token" in checks["settings"]["detail"]


def test_it_looks_at_the_model_and_the_gateway_of_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('model = "qwen2.5-coder-1.5b"\n')
    found, _ = look("--config", str(file))
    assert found["next"] == "isthmus model pull qwen2.5-coder-1.5b"
    assert look("--config", str(file), "--model", "smollm2-135m")[0]["ready"]
    file.write_text("modle = 1\n")
    assert "did you mean 'model'?" in look("--config", str(file))[0]["next"]


def test_a_page_without_its_libraries_is_no_obstacle_and_has_a_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libraries, "missing", lambda: ("marked",))
    found, checks = look()
    assert found["ready"]
    assert checks["page"]["detail"] == "lacks marked"
    assert checks["page"]["cure"] == f"{sys.executable} -m isthmus.edge.page.libraries"


def test_kernels_that_do_not_load_have_a_cure_and_stop_whoever_asked_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from isthmus.kernels.registry import Candidate

    reason = "not of the sources"
    told = (Candidate("native", None, reason), Candidate("numpy", "numpy", None))
    monkeypatch.setattr("isthmus.kernels.probe", lambda cache: told)
    native, numpy = doctor._backends("auto")
    assert (native.ok, native.needed, native.detail) == (False, False, reason)
    assert native.cure == "make -B setup"
    assert numpy.ok
    native, _ = doctor._backends("native:avx2")
    assert native.needed
