"""`isthmus privacy scan` and `eval`: for people, for programs, and for files of rows."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from isthmus.cli.main import main

PHONE = "13812345678"
TEXT = f"请打{PHONE}找我"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["privacy", *arguments])
    return int(caught.value.code or 0)


def test_a_person_sees_each_value_and_what_would_leave(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", TEXT, "--no-models") == 0
    shown = capsys.readouterr().out
    assert PHONE in shown
    assert "PHONE" in shown
    assert "would leave" in shown
    assert PHONE not in shown.partition("would leave")[2]


def test_a_person_is_told_what_nothing_here_sees(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", TEXT, "--no-models") == 0
    assert "not seen in this text: LOCATION, ORG, PERSON" in capsys.readouterr().out


def test_a_secret_stays_on_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", "密码是blue7788", "--no-models") == 0
    assert "stays on the device: SECRET" in capsys.readouterr().out


def test_json_has_offsets_labels_and_scores_and_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", TEXT, "--json", "--no-models") == 0
    printed = capsys.readouterr().out
    assert PHONE not in printed
    (span,) = json.loads(printed)["spans"]
    assert TEXT[span["start"] : span["end"]] == PHONE
    assert span["label"] == "PHONE"
    assert 0 < span["score"] <= 1


def test_a_text_is_read_from_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert run("scan", "-", "--json", "--no-models") == 0
    assert len(json.loads(capsys.readouterr().out)["spans"]) == 1


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_rows_become_rows_of_spans_whatever_else_a_row_says(tmp_path: Path, ending: str) -> None:
    rows = [
        {"id": "a", "text": TEXT, "lang": "xx", "kind": "negative", "spans": []},
        {"id": 2, "text": "nothing"},
    ]
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    source.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    assert run("scan", "--jsonl", str(source), "--out", str(target), "--no-models") == 0
    written = target.read_bytes()
    lines = (gzip.decompress(written) if ending.endswith("gz") else written).decode().splitlines()
    first, second = map(json.loads, lines)
    assert first["id"] == "a"
    assert [(s["label"], TEXT[s["start"] : s["end"]]) for s in first["spans"]] == [("PHONE", PHONE)]
    assert second == {"id": 2, "spans": []}


@pytest.mark.parametrize("bad", ["{", '{"id": 1}', '{"text": "a"}', '{"id": 1, "text": 5}'])
def test_a_bad_row_is_an_error_with_its_number_and_nothing_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"id": 1, "text": TEXT}) + f"\n{bad}\n", "utf-8")
    assert run("scan", "--jsonl", str(source), "--out", str(target), "--no-models") == 2
    assert "line 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [source]


def test_a_row_that_fails_leaves_an_older_result_as_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("{\n")
    target.write_text("old")
    assert run("scan", "--jsonl", str(source), "--out", str(target), "--no-models") == 2
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    "arguments", [[], ["--jsonl", "x"], ["text", "--out", "x"], ["a", "--jsonl", "b", "--out", "c"]]
)
def test_what_is_missing_or_too_much_is_told(arguments: list[str]) -> None:
    assert run("scan", *arguments, "--no-models") == 2


def test_a_users_patterns_are_those_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(
        '[[privacy.patterns]]\nname = "staff"\nlabel = "STAFF"\npattern = \'EMP-\\d{6}\'\n'
        'action = "local_only"\n'
    )
    assert run("scan", "工号EMP-123456", "--config", str(config), "--no-models") == 0
    assert "stays on the device: STAFF" in capsys.readouterr().out


def test_a_pattern_that_is_wrong_is_refused_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.toml"
    config.write_text('[[privacy.patterns]]\nname = "staff"\nlabel = "STAFF"\npattern = "("\n')
    assert run("scan", "x", "--config", str(config), "--no-models") == 2
    assert "staff" in capsys.readouterr().err


def test_labelled_rows_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"text": TEXT, "spans": [{"start": 2, "end": 13, "label": "PHONE"}], "lang": "zh"},
        {"text": "nothing", "spans": [], "scope": ["PHONE"], "lang": "en", "kind": "negative"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert run("eval", str(source), "--json", "--no-models") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["core"] == report["labels"]["PHONE"]
    assert report["core"]["f2"] == 1
    assert report["false_alarms"] == {"negative/en": {"rows": 1, "rate": 0}}
    assert {unseen["language"] for unseen in report["unseen"]} == {"zh", "en", "other"}
    assert run("eval", str(source), "--no-models") == 0
    assert "PHONE" in capsys.readouterr().out
