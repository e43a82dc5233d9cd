"""Files of the device's answers: JSON lines `{id, weak_text, n_chars, weak_answer}`, joined on `id`
with the labelled prompts `{id, source, domain, prompt, weak_correct, strong_correct}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import InvalidRequest
from isthmus.router.doubt import answer_head
from isthmus.router.doubt.answer_head import Answered, AnswerHead
from isthmus.router.labels.graded import numbered_rows
from isthmus.router.learned.measures import Measured, measure

F64 = NDArray[np.float64]
FOLDS = 5


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, which may be gzipped. Raises `InvalidRequest`."""
    return [row for _, row in numbered_rows(path)]


def join(prompts: Sequence[Mapping[str, Any]], answers: Path) -> dict[str, Answered]:
    """The device's answers to `prompts`, by id. Raises `InvalidRequest`."""
    asked = {str(row.get("id")): row.get("prompt") for row in prompts}
    joined = {}
    for number, row in enumerate(read_rows(answers), 1):
        key, text = str(row.get("id")), row.get("weak_text")
        prompt = asked.get(key)
        if prompt is None:
            continue
        if not isinstance(prompt, str) or not isinstance(text, str):
            raise InvalidRequest(f"{answers.name}, row {number}: no prompt or no weak_text")
        letter, chars = row.get("weak_answer"), row.get("n_chars")
        is_letter = isinstance(letter, str) and len(letter) == 1 and "A" <= letter <= "P"
        joined[key] = Answered(
            prompt, text, chars if isinstance(chars, int) else None, letter if is_letter else None
        )
    return joined


def score(answered: Mapping[str, Answered], head: AnswerHead) -> dict[str, float]:
    """By id what the cloud's answer is expected to gain; those without options get the mean."""
    edge, cloud = head.rate(list(answered.values()))
    gain = np.asarray(cloud - edge, np.float64)
    known = np.isfinite(gain)
    gain[~known] = gain[known].mean() if known.any() else 0.0
    return dict(zip(answered, gain.tolist(), strict=True))


def cross_validate(
    prompts: Sequence[Mapping[str, Any]], answered: Mapping[str, Answered]
) -> Measured:
    """The figures on questions with options, whole subjects (`domain`) held out at a time."""
    rows = [row for row in prompts if str(row["id"]) in answered]
    table = answer_head.features([answered[str(row["id"])] for row in rows])
    has_options = answer_head.rated(table)
    rows = [row for row, kept in zip(rows, has_options, strict=True) if kept]
    table = table[has_options]
    edge, cloud = _labels(rows)
    domains = {name: at for at, name in enumerate(sorted({str(row["domain"]) for row in rows}))}
    fold = np.array([domains[str(row["domain"])] % FOLDS for row in rows])
    gain = np.empty(len(rows))
    for held in np.unique(fold):
        head = answer_head.fit(table[fold != held], edge[fold != held], cloud[fold != held])
        told_edge, told_cloud = head.rate_rows(table[fold == held])
        gain[fold == held] = told_cloud - told_edge
    return measure(gain, cloud.astype(np.float64) - edge)


def train(prompts: Sequence[Mapping[str, Any]], answered: Mapping[str, Answered]) -> AnswerHead:
    """The head, from the questions with options that both have answered. Needs scikit-learn."""
    rows = [row for row in prompts if str(row["id"]) in answered]
    table = answer_head.features([answered[str(row["id"])] for row in rows])
    kept = answer_head.rated(table)
    edge, cloud = _labels(rows)
    return answer_head.fit(table[kept], edge[kept], cloud[kept])


def _labels(rows: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    try:
        edge, cloud = (
            np.array([float(row[name]) >= 0.5 for row in rows], np.bool_)
            for name in ("weak_correct", "strong_correct")
        )
    except (KeyError, TypeError, ValueError):
        raise InvalidRequest("a row has no weak_correct or strong_correct") from None
    for good in (edge, cloud):
        if good.all() or not good.any():
            raise InvalidRequest("a model is right everywhere or nowhere: nothing to learn")
    return edge, cloud
