"""`isthmus route explain` prints the decision and every term of it, and never the text."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from isthmus.cli.route import app


def explain(*arguments: str, stdin: str | bytes | None = None) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["explain", *arguments, "--json"], input=stdin)
    assert result.exit_code == 0, result.output
    explained: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return explained


def test_an_easy_question_stays_and_says_why() -> None:
    explained = explain("Tell me a joke")
    assert explained["target"] == "edge"
    assert explained["reasons"] == ["value_on_edge", "uncalibrated"]
    assert explained["scores"]["gain"] < explained["thresholds"]["gain"]
    quality = explained["quality"]
    assert explained["scores"]["gain"] == pytest.approx((quality["cloud"] - quality["edge"]) / 2)


@pytest.mark.parametrize(
    ("flags", "target", "reason"),
    [
        (["--threshold", "0"], "cloud", "hard,uncalibrated"),
        (["--mode", "only_on_device"], "edge", "forced_edge"),
        (["--mode", "prefer_in_cloud"], "cloud", "preferred_cloud"),
        (["--mode", "prefer_in_cloud", "--cloud", "offline"], "edge", "cloud_offline"),
        (["--cloud", "breaker-open"], "edge", "breaker_open"),
        (["--max-tokens", "100000"], "cloud", "context_too_long_for_edge"),
    ],
)
def test_the_flags_play_a_situation(flags: list[str], target: str, reason: str) -> None:
    explained = explain("Tell me a joke", *flags)
    assert (explained["target"], ",".join(explained["reasons"])) == (target, reason)


def test_a_refusal_is_explained() -> None:
    explained = explain("pay with 4111 1111 1111 1111", "--mode", "only_in_cloud")
    assert explained["target"] is None
    assert explained["reasons"] == ["privacy_local_only"]
    assert explained["privacy"]["labels"] == {"BANK_CARD": 1}


def test_a_dash_reads_stdin_and_the_text_is_not_repeated() -> None:
    explained = explain("-", stdin="卡号4111111111111111")
    assert explained["reasons"] == ["privacy_local_only"]
    assert "4111111111111111" not in json.dumps(explained)


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        ([""], None),
        (["  \n"], None),
        (["-"], ""),
        (["-"], b"\xff\xfe\xff"),
        (["hi", "--mode", "x"], None),
        (["hi", "--threshold", "nan"], None),
        ([], None),
    ],
)
def test_misuse_is_a_clear_error_with_status_2(
    arguments: list[str], stdin: str | bytes | None
) -> None:
    result = CliRunner().invoke(app, ["explain", *arguments], input=stdin)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "Usage" in result.output


@pytest.mark.parametrize("flags", [[], ["--mode", "only_in_cloud"]])
def test_the_table_names_every_term(flags: list[str]) -> None:
    result = CliRunner().invoke(app, ["explain", "card 4111 1111 1111 1111", *flags])
    assert result.exit_code == 0
    for name in ("privacy_local_only", "BANK_CARD × 1", "length", "knowledge", "answer_length"):
        assert name in result.stdout


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(app, ["explain", "--help"])
    assert result.exit_code == 0
    assert "isthmus route explain" in result.output


def test_importing_the_command_loads_no_router() -> None:
    code = "import sys, isthmus.cli.route; print('isthmus.router' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "False"
