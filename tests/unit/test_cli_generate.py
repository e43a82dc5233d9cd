"""`isthmus generate` and `perplexity`: what they refuse, and what they report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gguf_files import write_tiny
from isthmus.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--temperature", "inf"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--temperature", "2.5"], "temperature"),
        (["--top-p", "nan"], "--top-p"),
        (["--top-p", "0"], "top_p"),
        (["--min-p", "nan"], "--min-p"),
        (["--repetition-penalty", "inf"], "repetition_penalty"),
        (["--stop", ""], "stop"),
        (["--threads", "5000"], "--threads"),
        (["--threads", "0"], "--threads"),
        (["--max-tokens", "0"], "--max-tokens"),
    ],
)
def test_a_setting_that_makes_no_sense_is_an_error_that_names_it(
    arguments: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "--prompt", "x", "--model", "no-such-model", *arguments])
    assert caught.value.code == 2
    assert field in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["auto", "native", "numpy"])
def test_both_name_what_computed(
    backend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))
    text = tmp_path / "text.txt"
    text.write_text("a text of some words")
    model = str(write_tiny(tmp_path / "tiny.gguf"))
    first = "native" if backend == "auto" else backend
    for command in (
        ["generate", "--prompt", "a b", "--max-tokens", "4"],
        ["perplexity", str(text)],
    ):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--model", model, "--backend", backend, "--json"])
        assert caught.value.code == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["prefill_backend"] == told["decode_backend"] == first
