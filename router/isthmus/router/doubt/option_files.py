"""Files of option logits: CSV rows of `task, qid, weak_model, strong_model, logit_A …` and, where
both have answered, `weak_pred, strong_pred`. The label is that both picked the same letter.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import InvalidRequest
from isthmus.router.doubt import option_logits
from isthmus.router.doubt.option_logits import F64, OptionHead, OptionHeads, Task
from isthmus.router.learned.measures import Measured, difference, measure

_PREFIX = "logit_"
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class OptionRows:
    """A file of them, in the file's order."""

    tasks: Sequence[Task]
    """[rows]"""
    ids: Sequence[str]
    """[rows]"""
    logits: F64
    """[rows, options]"""
    weak: NDArray[np.int64] | None
    """[rows] the option that the device's model picked; -1: none. None: the file does not say."""
    strong: NDArray[np.int64] | None

    def by_task(self) -> Iterator[tuple[Task, NDArray[np.int64]]]:
        """Each task, with the numbers of its rows."""
        rows: dict[Task, list[int]] = {}
        for at, task in enumerate(self.tasks):
            rows.setdefault(task, []).append(at)
        for task, at_rows in rows.items():
            yield task, np.array(at_rows)

    @property
    def gain(self) -> F64:
        """1 where the cloud's letter is another than the device's. [rows]

        Raises `InvalidRequest` where the file does not tell both.
        """
        if self.weak is None or self.strong is None:
            raise InvalidRequest("the file has no weak_pred and strong_pred to measure against")
        return np.asarray(self.weak != self.strong, np.float64)


@dataclass(frozen=True, slots=True)
class OptionFigures:
    """What the head reaches on one task, beside the largest probability alone."""

    task: Task
    fitted: bool
    """Whether there is a head for this task; else both are the same."""
    head: Measured
    baseline: Measured
    better: float
    low: float
    high: float
    """APGR of the head less the baseline's, with its 95% interval by paired bootstrap"""


def is_option_file(path: Path) -> bool:
    """Whether its name says so: `.csv` or `.csv.gz`."""
    return path.name.endswith((".csv", ".csv.gz"))


def read(path: Path) -> OptionRows:
    """Read a file. Raises `InvalidRequest` with the line that makes no sense."""
    opener = gzip.open if path.suffix == ".gz" else open
    tasks, ids, logits, weak, strong = [], [], [], [], []
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            letters = _letters(rows.fieldnames or (), path)
            for row in rows:
                try:
                    tasks.append(Task(row["task"], row["weak_model"], row["strong_model"]))
                    ids.append(row["qid"])
                    logits.append([float(row[_PREFIX + letter]) for letter in letters])
                except (KeyError, TypeError, ValueError):
                    raise InvalidRequest(
                        f"{path.name}, line {rows.line_num}: not a row of option logits"
                    ) from None
                weak.append(_option(letters, row.get("weak_pred")))
                strong.append(_option(letters, row.get("strong_pred")))
            told = {"weak_pred", "strong_pred"} <= set(rows.fieldnames or ())
    except (OSError, EOFError, UnicodeDecodeError, csv.Error):
        raise InvalidRequest(f"{path.name} cannot be read as CSV") from None
    values = np.array(logits, np.float64).reshape(-1, len(letters))
    if not np.isfinite(values).all():
        raise InvalidRequest(f"{path.name} has a logit that is no number")
    return OptionRows(
        tasks,
        ids,
        values,
        np.array(weak, np.int64) if told else None,
        np.array(strong, np.int64) if told else None,
    )


def score(rows: OptionRows, heads: OptionHeads) -> F64:
    """For each row the probability that the cloud would answer otherwise. [rows]"""
    out = np.empty(len(rows.tasks))
    for task, at in rows.by_task():
        out[at] = 1 - heads.agrees(task, rows.logits[at])[0]
    return out


def evaluate(rows: OptionRows, heads: OptionHeads, *, resamples: int = 200) -> list[OptionFigures]:
    """The figures of each task, in the file's order."""
    gain = rows.gain
    figures = []
    for task, at in rows.by_task():
        told, fitted = heads.agrees(task, rows.logits[at])
        plain = option_logits.largest_probability(rows.logits[at])
        figures.append(_figures(task, fitted, -told, -plain, gain[at], resamples))
    return figures


def cross_validate(rows: OptionRows, *, resamples: int = 200) -> list[OptionFigures]:
    """As `evaluate`, each row rated by a head that has not seen it. Needs scikit-learn."""
    gain = rows.gain
    rng = np.random.default_rng(0)
    figures = []
    for task, at in rows.by_task():
        told = np.empty(len(at))
        fold = rng.permutation(len(at)) % FOLDS
        for held in range(FOLDS):
            head = _fit(rows, at[fold != held])
            told[fold == held] = head.agrees(rows.logits[at[fold == held]])
        plain = option_logits.largest_probability(rows.logits[at])
        figures.append(_figures(task, True, -told, -plain, gain[at], resamples))
    return figures


def train(rows: OptionRows) -> OptionHeads:
    """A head for each task of the file. Needs scikit-learn."""
    return OptionHeads({task: _fit(rows, at) for task, at in rows.by_task()})


def provenance(figures: Sequence[OptionFigures], source: str) -> Mapping[str, Any]:
    """What a trained file says of its heads: where from, and how good by cross-validation."""
    return {
        "source": source,
        "label": "the cloud's model picked the same option",
        "figures": [
            {
                "task": f.task.name,
                "weak": f.task.weak,
                "apgr": round(f.head.apgr, 4),
                "baseline": round(f.baseline.apgr, 4),
                "better": [round(v, 4) for v in (f.better, f.low, f.high)],
            }
            for f in figures
        ],
    }


def _figures(
    task: Task, fitted: bool, told: F64, plain: F64, gain: F64, resamples: int
) -> OptionFigures:
    return OptionFigures(
        task,
        fitted,
        measure(told, gain, resamples=resamples),
        measure(plain, gain, resamples=resamples),
        *difference(told, plain, gain, resamples=resamples),
    )


def _fit(rows: OptionRows, at: NDArray[np.int64]) -> OptionHead:
    if rows.strong is None:
        raise InvalidRequest("the file has no strong_pred to learn from")
    return option_logits.fit(rows.logits[at], rows.strong[at])


def _letters(fields: Sequence[str], path: Path) -> list[str]:
    letters = [name.removeprefix(_PREFIX) for name in fields if name.startswith(_PREFIX)]
    if len(letters) < 2:
        raise InvalidRequest(f"{path.name} has no columns logit_A, logit_B …")
    return letters


def _option(letters: Sequence[str], told: str | None) -> int:
    return letters.index(told) if told in letters else -1
