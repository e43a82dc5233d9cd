"""Heads over option logits: what a model likes too much is learnt, what nobody taught is not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from isthmus.core.errors import InvalidRequest
from isthmus.router.doubt import option_files
from isthmus.router.doubt.option_logits import (
    OptionHeads,
    Task,
    fit,
    largest_probability,
    log_softmax,
)
from isthmus.router.learned.section import Section

TASK = Task("quiz", "small", "large")


def biased(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A small model that knows the truth dimly and likes A; a large one that knows it."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, rows)
    logits = rng.normal(size=(rows, 4)) + 1.5 * np.eye(4)[truth] * rng.uniform(0, 2, (rows, 1))
    logits[:, 0] += 1.5
    return logits, truth


def written(path: Path, logits: np.ndarray, strong: np.ndarray, *, task: str = "quiz") -> Path:
    lines = [
        "task,qid,weak_model,strong_model,logit_A,logit_B,logit_C,logit_D,weak_pred,strong_pred"
    ]
    for at, (row, pick) in enumerate(zip(logits, strong, strict=True)):
        numbers = ",".join(f"{value:.3f}" for value in row)
        lead = "ABCD"[row.argmax()]
        lines.append(f"{task},{at},small,large,{numbers},{lead},{'ABCD'[pick]}")
    data = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(data.encode()) if path.suffix == ".gz" else data.encode())
    return path


def test_a_head_orders_questions_better_than_the_largest_probability(tmp_path: Path) -> None:
    heads = option_files.train(option_files.read(written(tmp_path / "a.csv", *biased())))
    held_out = option_files.read(written(tmp_path / "b.csv.gz", *biased(seed=1)))
    (figures,) = option_files.evaluate(held_out, heads, resamples=50)
    assert figures.fitted
    assert figures.low > 0.02
    assert figures.head.apgr == pytest.approx(figures.baseline.apgr + figures.better)
    (crossed,) = option_files.cross_validate(held_out, resamples=50)
    assert crossed.low > 0.02


def test_a_head_says_probabilities() -> None:
    head = fit(*biased())
    logits, truth = biased(seed=1)
    told = head.agrees(logits)
    agrees = logits.argmax(axis=1) == truth
    for low, high in ((0, 0.4), (0.4, 0.6), (0.6, 1)):
        inside = (told >= low) & (told < high)
        assert told[inside].mean() == pytest.approx(agrees[inside].mean(), abs=0.06)


def test_an_option_that_the_cloud_never_picks_is_never_agreed_with() -> None:
    logits, truth = biased()
    head = fit(logits, np.minimum(truth, 1))
    lead = np.array([[0.0, 0, 9, 0]])
    assert head.agrees(lead)[0] < 1e-6


def test_another_task_gets_the_largest_probability_and_is_told_so(tmp_path: Path) -> None:
    heads = option_files.train(option_files.read(written(tmp_path / "a.csv", *biased())))
    rows = option_files.read(written(tmp_path / "b.csv", *biased(seed=1), task="other"))
    (figures,) = option_files.evaluate(rows, heads, resamples=20)
    assert not figures.fitted
    assert figures.better == 0
    expected = 1 - largest_probability(rows.logits)
    assert option_files.score(rows, heads) == pytest.approx(expected)


def test_heads_come_back_from_the_trained_file() -> None:
    logits, truth = biased()
    heads = OptionHeads({TASK: fit(logits, truth)})
    again = OptionHeads.of(heads.section({"source": "here"}))
    told, fitted = again.agrees(TASK, logits)
    assert fitted
    assert told == pytest.approx(heads.agrees(TASK, logits)[0])
    assert again.heads[TASK].rows == 2000


@pytest.mark.parametrize(
    "section",
    [
        Section({}),
        Section({"tasks": [{"task": "a", "weak": "b", "strong": "c", "rows": 1}]}),
        Section(
            {"tasks": [{"task": "a", "weak": "b", "strong": "c", "rows": 1}]},
            {"bias0": np.zeros(3, np.float32), "weights0": np.zeros((3, 2), np.float32)},
        ),
    ],
)
def test_a_section_without_sense_is_refused(section: Section) -> None:
    with pytest.raises(ValueError, match="option heads"):
        OptionHeads.of(section)


def test_log_probabilities_of_huge_logits_stay_finite() -> None:
    assert np.isfinite(log_softmax(np.array([[1e6, -1e6]]))).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "no columns"),
        ("task,qid,weak_model,strong_model,logit_A,logit_B\nt,1,w,s,0.5,x\n", "line 2"),
        ("task,qid,weak_model,strong_model,logit_A,logit_B\nt,1,w,s,0.5\n", "line 2"),
        ("task,qid,weak_model,strong_model,logit_A,logit_B\nt,1,w,s,0.5,nan\n", "no number"),
    ],
)
def test_what_is_no_file_of_option_logits_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InvalidRequest, match=told):
        option_files.read(tmp_path / "x.csv")


def test_a_file_without_labels_is_scored_and_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("task,qid,weak_model,strong_model,logit_A,logit_B\nt,7,w,s,0.5,0.1\n")
    rows = option_files.read(path)
    assert option_files.score(rows, OptionHeads({})).shape == (1,)
    with pytest.raises(InvalidRequest, match="weak_pred"):
        option_files.evaluate(rows, OptionHeads({}))


def test_a_damaged_gzip_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        option_files.read(tmp_path / "x.csv.gz")
