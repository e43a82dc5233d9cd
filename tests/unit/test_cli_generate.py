"""`isthmus generate` refuses what no sampler can work with, before it looks for a model."""

from __future__ import annotations

import pytest

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
