"""Measuring a scanner on labelled rows: each measure on rows small enough to count by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from isthmus.core.errors import InvalidRequest
from isthmus.privacy.base import Span
from isthmus.privacy.evaluate import Evaluation, evaluate, secret_recall
from isthmus.privacy.labelled import Gold, Row, labelled_rows


def row(*spans: Gold, scope: str = "PHONE SECRET", benign: bool = False) -> Row:
    kind = "negative" if benign else "pii"
    return Row("x" * 100, spans, frozenset(scope.split()), "en", "made", benign, kind)


def measured(*judged: tuple[Row, Sequence[Span]]) -> dict[str, Any]:
    evaluation = Evaluation()
    for one, spans in judged:
        evaluation.add(one, spans, 1.0)
    return evaluation.report()


def test_half_of_a_span_is_found_and_less_is_missed() -> None:
    gold = Gold(0, 10, "PHONE")
    report = measured(
        (row(gold), [Span(0, 5, "PHONE", 1)]),
        (row(gold), [Span(0, 4, "PHONE", 1)]),
    )
    assert report["labels"]["PHONE"]["recall"] == 0.5


def test_pieces_of_one_label_cover_together() -> None:
    report = measured((row(Gold(0, 10, "PHONE")), [Span(0, 3, "PHONE", 1), Span(6, 9, "PHONE", 1)]))
    assert report["labels"]["PHONE"]["recall"] == 1


def test_a_span_under_another_label_is_missed_but_has_not_leaked() -> None:
    scores = measured((row(Gold(0, 10, "PHONE")), [Span(0, 10, "EMAIL", 1)]))["labels"]["PHONE"]
    assert (scores["recall"], scores["leak"], scores["f2"]) == (0, 0, 0)


def test_a_span_covered_by_less_than_four_fifths_has_leaked() -> None:
    gold = Gold(0, 10, "PHONE")
    report = measured((row(gold), [Span(0, 7, "PHONE", 1)]), (row(gold), [Span(0, 8, "PHONE", 1)]))
    assert report["core"]["leak"] == 0.5


def test_what_is_out_of_a_rows_scope_is_not_judged() -> None:
    report = measured((row(), [Span(0, 5, "EMAIL", 1), Span(10, 15, "PHONE", 1)]))
    assert report["labels"].keys() == {"PHONE"}
    assert report["labels"]["PHONE"]["precision"] == 0


def test_places_and_addresses_answer_to_each_other() -> None:
    report = measured((row(Gold(0, 5, "ADDRESS"), scope="ADDRESS"), [Span(0, 5, "LOCATION", 1)]))
    assert report["labels"]["ADDRESS"]["recall"] == 1
    assert report["labels"]["ADDRESS"]["precision"] == 1


def test_f2_weighs_recall_twice_as_much() -> None:
    gold = [Gold(0, 5, "PHONE"), Gold(10, 15, "PHONE")]
    scores = measured((row(*gold), [Span(0, 5, "PHONE", 1)]))["labels"]["PHONE"]
    assert (scores["precision"], scores["recall"]) == (1, 0.5)
    assert scores["f2"] == pytest.approx(5 * 0.5 / 4.5)


def test_false_alarms_are_texts_and_not_spans() -> None:
    alarm = [Span(0, 5, "PHONE", 1), Span(10, 15, "PHONE", 1)]
    report = measured((row(benign=True), alarm), (row(benign=True), []))
    assert report["false_alarms"] == {"negative/en": {"rows": 2, "rate": 0.5}}


def test_labels_of_a_language_and_a_source_are_told_apart() -> None:
    report = measured((row(Gold(0, 5, "PHONE")), [Span(0, 5, "PHONE", 1)]))
    assert report["languages"]["en"]["core"]["recall"] == 1
    assert report["sources"]["made"]["labels"]["PHONE"]["labelled"] == 1


def test_secrets_are_told_at_the_score_that_lets_one_in_twenty_alarm() -> None:
    benign = [(0.5, False), (0.4, False), *[(0.0, False)] * 18]  # one of 20 may alarm
    secrets = [(0.9, True), (0.45, True), (0.4, True), (0.0, True)]
    assert secret_recall([*benign, *secrets]) == {
        "recall": 0.5,
        "false_alarm_rate": 0.05,
        "above_score": 0.4,
    }


def test_a_secrets_score_is_that_from_which_on_it_is_covered() -> None:
    evaluation = Evaluation()
    spans = [Span(0, 3, "SECRET", 0.9), Span(3, 6, "SECRET", 0.6)]
    evaluation.add(row(Gold(0, 10, "SECRET")), spans, 1.0)
    assert evaluation.secrets == [(0.6, True)]


def test_a_scanner_that_fails_has_found_nothing_and_is_counted() -> None:
    def failing(text: str) -> Sequence[Span]:
        raise ValueError(text)

    report = evaluate([row(Gold(0, 5, "PHONE"))], failing, lambda: None).report()
    assert (report["failed"], report["labels"]["PHONE"]["recall"]) == (1, 0)


def test_rows_are_read_plain_and_packed(tmp_path: Path) -> None:
    line = json.dumps(
        {"text": "a 1", "spans": [{"start": 2, "end": 3, "label": "PHONE"}], "lang": "en"}
    )
    (tmp_path / "a.jsonl").write_text(f"{line}\n\n{line}\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(f"{line}\n\n{line}\n".encode()))
    plain = list(labelled_rows(tmp_path / "a.jsonl"))
    assert plain == list(labelled_rows(tmp_path / "a.jsonl.gz"))
    assert [r.spans for r in plain] == [(Gold(2, 3, "PHONE"),)] * 2
    assert plain[0].scope == {"PHONE"}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"text": 1}',
        '{"text": "a"}',
        '{"text": "a", "spans": [{"start": 0}]}',
        '{"text": "a", "spans": [{"start": 0, "end": 2, "label": "X"}]}',
    ],
)
def test_a_bad_row_is_an_error_that_names_its_line_and_not_its_text(
    tmp_path: Path, line: str
) -> None:
    good = '{"text": "hush", "spans": []}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InvalidRequest, match="line 2") as caught:
        list(labelled_rows(tmp_path / "a.jsonl"))
    assert "hush" not in caught.value.message
