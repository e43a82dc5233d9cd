"""`isthmus route calibrate`: a target in, settings out, and clear refusals."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

import program
from isthmus.router.config import RouterConfig


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The device fails at proofs, and is as good as the cloud at greetings."""
    path = tmp_path / "labels.jsonl"
    rows: list[dict[str, Any]] = []
    for i in range(120):
        hard = i % 3 == 0
        text = (
            f"Prove by induction that {i} divides the sum." if hard else f"Say hello to guest {i}."
        )
        rows.append({"prompt": text, "edge_correct": float(not hard), "cloud_correct": 1.0})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def told(*arguments: str) -> dict[str, Any]:
    result = program.run("route", "calibrate", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def test_a_share_of_the_clouds_quality_becomes_a_threshold(labels: Path) -> None:
    found = told(str(labels), "--min-quality-share", "0.9", "--another-pair")
    assert found["quality_share"] >= 0.9
    assert found["cloud_share"] < 0.5
    assert found["basis"] == "uncalibrated"


def test_a_share_of_requests_needs_no_grades(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i}."}) + "\n" for i in range(50)))
    found = told(str(path), "--max-cloud-share", "0.2")
    assert found["cloud_share"] <= 0.2
    assert found["quality_share"] is None


def test_prompts_alone_are_scored_as_the_agent_scores_them_for_the_catalogues_pair(
    labels: Path,
) -> None:
    """A threshold on another scale would keep no promise."""
    known = told(str(labels), "--max-cloud-share", "0.2")
    unknown = told(str(labels), "--max-cloud-share", "0.2", "--another-pair")
    assert (known["basis"], unknown["basis"]) == ("calibrated", "uncalibrated")
    assert known["threshold"] != unknown["threshold"]


def test_what_is_printed_are_settings_that_the_agent_takes(labels: Path) -> None:
    result = program.run("route", "calibrate", str(labels), "--max-cloud-share", "0.4")
    table = tomllib.loads(result.stdout)["router"]
    config = RouterConfig(**table)
    assert config.max_cloud_share == 0.4
    assert config.threshold is not None
    assert "120 prompts" in config.threshold_source


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one target"),
        (("--max-cloud-share", "0.2", "--min-quality-share", "0.9"), "one target"),
        (("--max-cloud-share", "20"), "max_cloud_share"),
        (("--max-cloud-share", "0.2", "--edge", "abc"), "give both"),
        (("--min-quality-share", "0.999"), "too few"),
    ],
)
def test_a_target_that_cannot_be_promised_is_refused(
    labels: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = program.run("route", "calibrate", str(labels), *arguments)
    assert result.exit_code != 0
    assert said in result.stderr


@pytest.mark.parametrize("text", ["{}\n", "no json\n", ""])
def test_a_file_without_prompts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    result = program.run("route", "calibrate", str(path), "--max-cloud-share", "0.2")
    assert result.exit_code != 0
    assert "rows.jsonl" in result.stderr or "prompt" in result.stderr
