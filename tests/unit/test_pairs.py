"""What a routed pair is worth: figures checked by hand, and a router that cannot cheat."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.cli.main import main
from isthmus.core.errors import InvalidRequest
from isthmus.core.money import Price
from isthmus.router.labels import pairs
from isthmus.router.labels.graded import questions
from isthmus.router.labels.tasks import KINDS, tasks
from isthmus.router.learned.rating import seen
from isthmus.router.learned.router_file import shipped


def rows(count: int = 100, **more: Any) -> list[dict[str, Any]]:
    """The device is right on short talk, the cloud on everything; each knows its kind."""
    return [
        {
            "id": str(i),
            "source": "talk" if i % 2 else "maths",
            "prompt": f"Say hello to friend {i}" if i % 2 else f"Integrate x^{i} from 0 to {i}",
            "edge_correct": i % 2,
            "cloud_correct": 1,
            "edge_ms": 100,
            "cloud_ms": 500,
            "cloud_prompt_tokens": 10,
            "cloud_tokens": 5,
            "cloud_micro_usd": 7,
        }
        | more
        for i in range(count)
    ]


def by_kind(prompts: Sequence[str]) -> pairs.F64:
    return np.array([float("Integrate" in prompt) for prompt in prompts])


def test_a_router_that_knows_the_kinds_has_all_there_is_to_have() -> None:
    pair = pairs.pair_of(rows())
    score = by_kind(pair.prompts)
    report = pairs.report(pair, {"kinds_known": score})
    assert report["edge_alone"]["quality"] == 0.5
    assert report["cloud_alone"]["quality"] == 1.0
    assert report["random"]["0.4"]["quality"] == 0.7
    routed = report["routed"]["kinds_known"]
    assert routed["0.4"]["quality"] == 0.9
    assert routed["0.4"]["over_random"] == 0.2
    assert routed["0.6"]["quality"] == 1.0
    assert routed["apgr"] == pytest.approx(0.75)
    assert report["kinds"]["talk"]["kept_on_device"]["kinds_known"]["0.4"] == 1.0
    assert report["kinds"]["maths"]["kept_on_device"]["kinds_known"]["0.4"] == 0.2


def test_a_constant_score_is_a_random_router() -> None:
    pair = pairs.pair_of(rows())
    even = np.zeros(len(pair.prompts))
    assert pairs.apgr(even, pair.right) == pytest.approx(0.5)
    report = pairs.report(pair, {"even": even})
    assert report["routed"]["even"]["0.4"]["over_random"] == 0
    assert np.allclose(pairs.escalated(even, 0.3), 0.3)


def test_apgr_is_that_of_the_published_measure() -> None:
    """Against the trapezoids of RouteLLM's definition, point by point."""
    rng = np.random.default_rng(3)
    right = rng.integers(0, 2, (2, 60)).astype(float)
    right[1, :20] = 1.0
    score = rng.normal(size=60)
    order = np.argsort(-score)
    quality = [right[0].sum() + (right[1] - right[0])[order[:n]].sum() for n in range(61)]
    recovered = [(q - quality[0]) / (quality[-1] - quality[0]) for q in quality]
    area = sum((a + b) / 2 / 60 for a, b in pairwise(recovered))
    assert pairs.apgr(score, right) == pytest.approx(area)


def test_a_cloud_that_is_no_better_gives_no_measure() -> None:
    right = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert np.isnan(pairs.apgr(np.array([1.0, 2.0]), right))


def test_the_share_is_kept_exactly() -> None:
    score = np.array([3.0, 1.0, 2.0, 0.0])
    assert pairs.escalated(score, 0.5).tolist() == [1, 0, 1, 0]
    assert pairs.escalated(score, 0.6).tolist() == pytest.approx([1, 0.4, 1, 0])


def test_price_and_latency_are_of_what_is_sent() -> None:
    pair = pairs.pair_of(rows())
    report = pairs.report(pair, {})
    assert report["cloud_alone"]["usd_per_1000"] == pytest.approx(0.007)
    assert report["random"]["0.4"]["usd_per_1000"] == pytest.approx(0.0028)
    assert report["random"]["0.4"]["ms_mean"] == 260
    assert report["random"]["0.4"]["ms_p50"] == 100
    assert report["random"]["0.4"]["ms_p95"] == 500
    dear = pairs.pair_of(rows(), Price(Decimal(1), Decimal(4)))
    assert pairs.report(dear, {})["cloud_alone"]["usd_per_1000"] == pytest.approx(0.03)


def test_rows_answered_in_a_batch_do_not_count_for_latency_where_others_do() -> None:
    slow = rows(at_once=8, edge_ms=9000, cloud_ms=9000)
    pair = pairs.pair_of([*rows(50), *slow])
    report = pairs.report(pair, {})
    assert report["latency"] == {"rows": 50, "at_once": 1}
    assert (report["edge_alone"]["ms_mean"], report["cloud_alone"]["ms_mean"]) == (100, 500)
    assert pairs.report(pairs.pair_of([*rows(10), *slow]), {})["latency"]["at_once"] == 8


def test_no_question_is_scored_by_what_was_learnt_from_it() -> None:
    pair = pairs.pair_of(rows())
    learnt: list[set[str]] = []

    def learn(prompts: Sequence[str], edge: pairs.F64, cloud: pairs.F64) -> pairs.Score:
        known = set(prompts)
        learnt.append(known)
        assert len(prompts) == len(edge) == len(cloud)
        return lambda held: np.array([float(prompt in known) for prompt in held])

    assert not pairs.cross_validated(pair, learn, whole_kinds=False).any()
    assert not pairs.cross_validated(pair, learn, whole_kinds=True).any()
    assert {frozenset(known) for known in learnt[-2:]} == {
        frozenset(p for p in pair.prompts if "Say" in p),
        frozenset(p for p in pair.prompts if "Integrate" in p),
    }


def test_what_was_withheld_is_counted_and_in_no_figure() -> None:
    private = {"id": "x", "prompt": "p", "edge_correct": 1, "withheld": "privacy_local_only"}
    pair = pairs.pair_of([*rows(), private])
    assert pair.withheld == 1
    assert len(pair.prompts) == 100


@pytest.mark.parametrize(
    "labels", [rows(30), rows(100, edge_correct="yes"), [{"cloud_correct": 1}] * 50]
)
def test_what_are_no_labels_is_refused(labels: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest):
        pairs.pair_of(labels)


def test_what_is_learnt_of_a_pair_is_who_is_right_on_what() -> None:
    pair = pairs.pair_of(rows(200))
    x = seen(shipped().general, pair.prompts).astype(float)
    score = pairs.learn_from(x, pair.prompts)(pair.prompts[:100], *pair.right[:, :100])
    gain = score(pair.prompts[100:])
    talk = np.array(["Say" in prompt for prompt in pair.prompts[100:]])
    assert gain[~talk].min() > 0.7
    assert gain[talk].max() < 0.2


def test_tasks_are_the_same_every_time_and_all_can_be_graded() -> None:
    found = tasks()
    assert found == tasks()
    assert len(questions(list(enumerate(found, 1)))) == len(found) >= 150
    assert {row["source"] for row in found} == {f"task-{kind}" for kind in KINDS}
    assert len({row["prompt"] for row in found}) == len(found)


GOOD: dict[str, Callable[[dict[str, Any]], str]] = {
    "contains": lambda row: str(row["answer"]),
    "number": lambda row: f"#### {row['answer']}",
}


def test_a_right_answer_to_a_task_is_graded_right_and_an_empty_one_wrong() -> None:
    for question, row in zip(questions(list(enumerate(tasks(), 1))), tasks(), strict=True):
        assert not question.gold.grade("")
        if row["grader"] in GOOD:
            assert question.gold.grade(GOOD[row["grader"]](row))


def bench(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "routing", *arguments])
    return int(caught.value.code or 0)


def kept(path: Path, found: list[dict[str, Any]], **more: Any) -> str:
    path.write_text("".join(json.dumps(row | more) + "\n" for row in found))
    return str(path)


def test_the_command_reports_on_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = kept(tmp_path / "l.jsonl", rows(), edge_key="small", cloud_key="big", at_once=8)
    assert bench(labels, "--price", "1/4", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["edge_key"], report["cloud_key"], report["rows"]) == ("small", "big", 100)
    assert report["routed"]["kinds_known"]["apgr"] > 0.7
    assert report["cloud_alone"]["usd_per_1000"] == pytest.approx(0.03)
    assert set(report["routed"]["kinds_unseen"]) >= {"apgr", "apgr_ci", "0.2", "0.4", "0.6"}
    assert bench(labels) == 0
    shown = capsys.readouterr().out
    assert "random 40%" in shown
    assert "8 answers at a time, 100 rows" in shown


def test_labels_of_two_pairs_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = kept(tmp_path / "1.jsonl", rows(), edge_key="small")
    two = kept(tmp_path / "2.jsonl", rows(), edge_key="other")
    assert bench(one, two) == 2
    assert "more than one pair" in capsys.readouterr().err


def test_a_question_in_two_files_counts_once_as_the_last_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = kept(tmp_path / "1.jsonl", rows(), cloud_correct=0)
    two = kept(tmp_path / "2.jsonl", rows())
    assert bench(one, two, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["cloud_alone"]["quality"]) == (100, 1)


@pytest.mark.parametrize("arguments", [[], ["--cloud", "x"], ["l.jsonl", "--cloud", "x"]])
def test_it_is_told_either_labels_or_how_to_make_them(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*arguments) == 2
    assert "label" in capsys.readouterr().err
