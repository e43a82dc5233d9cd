"""`isthmus route explain` prints the decision and every term of it, and never the text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from isthmus.cli.route import PresetName, app
from isthmus.router.presets import Preset


def explain(
    *arguments: str, stdin: str | bytes | None = None, another_pair: bool = True
) -> dict[str, Any]:
    pair = ["--another-pair"] if another_pair else []
    result = CliRunner().invoke(app, ["explain", *arguments, *pair, "--json"], input=stdin)
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


def test_what_the_catalogues_pair_can_do_was_measured() -> None:
    sums = explain("What is 48 * 37 + 12?", another_pair=False)
    assert "uncalibrated" not in sums["reasons"]
    list_ = explain("Write these as a bullet list: tea, milk, bread.", another_pair=False)
    assert sums["quality"]["edge"] < list_["quality"]["edge"]
    assert sums["quality"]["edge"] < sums["quality"]["cloud"]


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


QUICK_CLOUD = ["--cloud-ttft-ms", "100", "--cloud-tpot-ms", "5"]
SLOW_EDGE = ["--edge-ttft-ms", "900", "--edge-tpot-ms", "90"]


@pytest.mark.parametrize(
    ("flags", "target", "reason"),
    [
        (["--battery", "10"], "cloud", "battery_low"),
        (["--battery", "10", "--charging"], "edge", "value_on_edge"),
        (["--temperature", "99"], "cloud", "device_hot"),
        (["--preset", "offline", "--battery", "10"], "edge", "forced_edge"),
        (["--preset", "private"], "edge", "preferred_edge"),
        ([*SLOW_EDGE, *QUICK_CLOUD], "cloud", "value_in_cloud"),
        ([*SLOW_EDGE, *QUICK_CLOUD, "--slo-ms", "300"], "cloud", "latency_slo"),
        (["--edge-ttft-ms", "900", "--cloud-ttft-ms", "9000"], "edge", "value_on_edge"),
    ],
)
def test_the_flags_play_the_device_and_what_was_measured(
    flags: list[str], target: str, reason: str
) -> None:
    explained = explain("Tell me a joke", *flags)
    assert (explained["target"], explained["reasons"][0]) == (target, reason)


def test_every_term_of_both_tiers_is_told_and_adds_up() -> None:
    money = ["--cloud-usd-per-mtok", "1", "2", "--battery", "50"]
    scores = explain("Tell me a joke", *SLOW_EDGE, *QUICK_CLOUD, *money)["scores"]
    for tier in ("edge", "cloud"):
        costs = sum(
            scores[f"{tier}.{term}_micro_usd"]
            for term in ("price", "time", "energy", "moving", "leaving")
        )
        worth = scores[f"{tier}.quality_micro_usd"] - costs
        assert scores[f"{tier}.value_micro_usd"] == pytest.approx(worth)
    assert scores["cloud.price_micro_usd"] > 512
    assert scores["edge.energy_micro_usd"] > scores["cloud.energy_micro_usd"] > 0


def test_a_settings_file_gives_worths_price_and_budget(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(
        "cloud_output_usd_per_mtok = 10\n"
        "[router]\npreset = 'best'\nmax_cloud_share = 0.2\n"
        "[router.budget]\nday_usd = 1\n"
    )
    asked = ("Prove it", "--config", str(file))
    explained = explain(*asked, "--spent-today-usd", "0.9999")
    assert explained["preset"] == "best"
    assert explained["goal"] == "max_cloud_share=0.2"
    assert explained["gates"] == [{"shut": "cloud", "reason": "budget_spent"}]
    assert explained["budget"]["day"]["spent_micro_usd"] == 999_900
    ahead = explain(*asked, "--spent-today-usd", "0.6")
    assert ahead["scores"]["shadow_price"] > 0
    assert explain(*asked, "--preset", "saver")["preset"] == "saver"


def test_each_presets_choice_is_told() -> None:
    explained = explain("Tell me a joke", "--battery", "10")
    assert explained["presets"] == {
        "saver": "cloud",
        "balanced": "cloud",
        "best": "cloud",
        "private": "edge",
        "offline": "edge",
    }


def test_the_devices_own_sensors_can_be_asked() -> None:
    assert explain("hi", "--sensors", "--battery", "77")["device"]["battery"] == 0.77
    assert explain("hi", "--sensors")["device"]["memory_free_bytes"] > 0
    assert explain("hi")["device"] == {}


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
        (["hi", "--good-answer-usd", "-1"], None),
        (["hi", "--preset", "cheap"], None),
        (["hi", "--battery", "101"], None),
        (["hi", "--spent-today-usd", "much"], None),
        (["hi", "--cloud-usd-per-mtok", "1", "-2"], None),
        (["hi", "--config", "/nowhere/edge.toml"], None),
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


def test_the_tables_show_gates_worths_and_presets() -> None:
    shown = CliRunner().invoke(app, ["explain", "hi", "--battery", "10"]).stdout
    for name in ("battery_low", "Worth in micro-dollars", "leaving", "private → edge"):
        assert name in shown


@pytest.mark.parametrize("flags", [[], ["--mode", "only_in_cloud"]])
def test_the_table_names_every_term(flags: list[str]) -> None:
    result = CliRunner().invoke(
        app, ["explain", "card 4111 1111 1111 1111", "--another-pair", *flags]
    )
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


def test_the_names_of_the_presets_are_the_routers() -> None:
    assert [name.value for name in PresetName] == [preset.value for preset in Preset]
