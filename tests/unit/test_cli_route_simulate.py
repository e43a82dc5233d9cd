"""`isthmus route simulate` on the command line: reports, pictures, and errors in one line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from isthmus.cli.main import main
from isthmus.cli.route import app
from isthmus.core.errors import ConfigError
from isthmus.router.presets import Preset
from isthmus.router.simulation.scenario import Gpu, Scenario, read_scenario

TRACE = "time_s,prompt_tokens,answer_tokens,difficulty\n" + "".join(
    f"{second},{200 + second % 500},{20 + second % 80},{second % 10 / 10}\n"
    for second in range(0, 1200, 2)
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def simulated(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


def test_a_trace_is_played_and_reported(trace: Path) -> None:
    report = simulated(trace, "--devices", 20)
    assert (report["requests"], report["devices"], report["gpus"]) == (600, 20, 1)
    assert sum(report["reasons"].values()) == 600
    answers = [one["answers"] for one in report["latency_ms"].values() if one]
    assert answers[-1] == sum(answers[:-1]) == 600
    assert 0 < report["escalated_share"] < 1
    quality = report["expected_quality"]
    assert quality["all_on_device"] < quality["routed"] <= quality["all_in_cloud"]
    assert report["bill"]["tokens_usd"] > 0
    assert {"devices", "radio", "gpus"} == report["energy_wh"].keys()
    assert len(report["by_time"]) == 20
    assert sum(row["requests_per_s"] for row in report["by_time"]) * 60 == pytest.approx(600)


def test_a_trace_is_resampled_to_the_rate_that_is_asked_for(trace: Path) -> None:
    report = simulated(trace, "--devices", 10_000, "--requests-per-day", 20)
    assert report["requests"] == pytest.approx(10_000 * 20 * 1200 / 86_400, rel=0.1)


def test_arrivals_are_made_up_with_the_lengths_of_a_trace(trace: Path) -> None:
    flags = ("--arrivals", "bursty", "--hours", 1, "--burst-factor", 20, "--start", "19:00")
    report = simulated(trace, "--devices", 5000, *flags, "--requests-per-day", 50)
    assert report["hours"] == 1
    assert report["dispersion_per_step"] > 5
    assert report["by_time"][0]["time"] == "19:00"


def test_the_preset_decides_how_much_goes_to_the_cloud(trace: Path) -> None:
    shares = [
        simulated(trace, "--preset", preset)["escalated_share"]
        for preset in ("offline", "saver", "best")
    ]
    assert shares[0] == 0 < shares[1] < shares[2]


def test_an_outage_is_told_beside_the_same_run_without_it(trace: Path) -> None:
    report = simulated(trace, "--fail", "cloud@0:05+5m", "--fail", "network:lte@0:12+2m")
    cloud, lte = report["outages"]
    assert (cloud["from"], cloud["to"], cloud["gpus_left"]) == ("00:05", "00:10", 0)
    assert cloud["during"]["with"]["escalated_share"] < 0.1
    assert cloud["during"]["without"]["escalated_share"] > 0.2
    assert lte["network"] == "lte"
    assert report["with_outages"]["requests"] == report["requests"] == 600


def test_the_table_says_what_the_numbers_say(trace: Path) -> None:
    flags = ["simulate", str(trace), "--fail", "cloud@0:05+5m"]
    shown = CliRunner().invoke(app, flags)
    assert shown.exit_code == 0, shown.output
    assert "1,000 devices, 1 GPU, 0.333 hours: 600 requests" in shown.output
    assert "cloud down from 00:05 to 00:10 (0 GPUs left)" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_growth_shows_what_each_size_costs() -> None:
    rows = simulated("--growth", "--devices", 3000, "--hours", 1)["growth"]
    assert [row["devices"] for row in rows] == [1000, 3000]
    assert all(row["processor_s"] >= 0 and row["memory_mb"] > 1 for row in rows)
    assert rows[1]["requests"] > 2 * rows[0]["requests"]


def test_the_pictures_are_written(trace: Path, tmp_path: Path) -> None:
    report = simulated(trace, "--plots", tmp_path / "plots", "--fail", "cloud@0:05+5m")
    assert [Path(path).name for path in report["plots"]] == ["day.png", "latency.png", "gpus.png"]
    for path in report["plots"]:
        assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_says_what_to_install(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["simulate", str(trace), "--plots", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert "pip install 'isthmus[plots]'" in result.exception.message


def test_a_trace_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("time_s,prompt_tokens,answer_tokens\n0,1,1\n9e9,1,1\n")
    result = CliRunner().invoke(app, ["simulate", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert "the trace lasts 2,500,000 hours" in result.exception.message


def test_a_day_without_a_request_is_told_as_such() -> None:
    shown = CliRunner().invoke(app, ["simulate", "--devices", "1", "--requests-per-day", "0.001"])
    assert shown.exit_code == 0, shown.output
    assert "24 hours: 0 requests, - to the cloud" in shown.output


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["gone.csv"], "error: cannot read gone.csv"),
        (["--arrivals", "often"], "error: is none of poisson, diurnal, bursty (arrivals)"),
        (["--preset", "cheap"], "error: is none of saver, balanced, best, private"),
        (["--fail", "cloud@noon"], "error: is not of the form cloud@13:00+1h"),
        (["--fail", "cloud@30:00+1h"], "error: begins after the end"),
        (["--fail", "network:6g@0:10+1h"], "error: names no network of wifi, 5g, lte"),
        (["--start", "25:00"], "error: is no time of day"),
        (["--scenario", "gone.toml"], "error: cannot read gone.toml"),
        (["--slo-ttft-ms", "3"], "error: no number of GPUs keeps it"),
        (["--devices", "0"], "--devices"),
        (["--devices", "10000000", "--requests-per-day", "9999"], "error: would be 1,157,292"),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_status_2(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["route", "simulate", "--hours", "1", *flags])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


SCENARIO = """
private_share = 0.25
[gpu]
prefill_tok_s = 5000
[router]
preset = "saver"
answer_tokens = 100
budget = { day_usd = 0.5 }
[[device]]
name = "robot"
share = 1
prefill_tok_s = 100
decode_tok_s = 10
decode_j_per_tok = 1.5
prefill_j_per_tok = 0.2
[[network]]
name = "wire"
share = 1
rtt_ms = [5, 6, 7]
"""


def test_a_scenario_replaces_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(SCENARIO)
    scenario = read_scenario(path)
    assert scenario.gpu == Gpu(prefill_tok_s=5000)
    assert (scenario.private_share, scenario.cloud) == (0.25, Scenario().cloud)
    assert scenario.router.preset is Preset.SAVER
    assert scenario.router.budget.micro_usd("day") == 500_000
    assert [device.name for device in scenario.devices] == ["robot"]
    assert scenario.networks[0].rtt_ms == (5, 6, 7)


def test_the_scenario_in_the_documentation_works(tmp_path: Path) -> None:
    page = Path(__file__).parents[2].joinpath("docs/simulate.md").read_text()
    path = tmp_path / "fleet.toml"
    path.write_text(page.split("```toml")[1].split("```")[0].partition("\n")[2])
    scenario = read_scenario(path)
    assert scenario.gpu == Gpu()
    assert scenario.router.preset is Preset.SAVER
    assert [one.name for one in scenario.devices] == ["phone"]


@pytest.mark.parametrize(
    ("text", "field", "told"),
    [
        ("[gpu]\nprefil_tok_s = 1", "gpu.prefil_tok_s", "prefill_tok_s?"),
        ("[gpu]\nprefill_tok_s = 0", "gpu.prefill_tok_s", "above 0"),
        ("[gpu]\nchunk_tokens = 1.5", "gpu.chunk_tokens", "int"),
        ("gpu = 3", "gpu", "table"),
        ("private_share = 2", "private_share", "from 0 to 1"),
        ("private_share = true", "private_share", "float"),
        ("fleet = 3", "fleet", "no setting"),
        ("[router]\npreset = 'cheap'", "router", "wrong kind"),
        ("[router]\nanswer_tokens = 0", "router.answer_tokens", "1"),
        ("[[device]]\nname = 'x'\nshare = 1", "device.prefill_tok_s", "missing"),
        ("[[network]]\nname = 'x'\nshare = 1\nrtt_ms = [5, 4, 9]", "network.rtt_ms", "rise"),
        ("[[network]]\nname = 'x'\nshare = 1\nrtt_ms = 5", "network.rtt_ms", "three"),
        ("[[network]]\nname = 'x'\nshare = 0\nrtt_ms = [1, 2, 3]", "network", "share"),
        ("[gpu", None, "not TOML"),
    ],
)
def test_a_wrong_scenario_is_told_by_its_field(
    tmp_path: Path, text: str, field: str | None, told: str
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_scenario(path)
    assert caught.value.field == field
