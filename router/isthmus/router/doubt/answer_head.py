"""Whether a finished answer of the device is good, and whether the cloud's would be: trees over it.

Two heads of boosted trees over the answer's features (`answer_text`), fitted on questions with
options that both models have answered. An answer without options to compare it with is not rated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.router.doubt import answer_text
from isthmus.router.learned.question import parse
from isthmus.router.learned.section import Section
from isthmus.router.learned.trees import Forest, forest

F32 = NDArray[np.float32]

SECTION: Final = "answer_text"


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, and what the device said to it."""

    prompt: str
    text: str
    chars: int | None = None
    """The answer's length where `text` is a part of it."""
    letter: str | None = None
    """The option that was read from it, where somebody has."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerHead:
    """P(good) of each tier's answer, from the text of the device's."""

    trees: Forest
    """Two heads: the device's answer, the cloud's."""

    def rate(self, answered: Sequence[Answered]) -> tuple[F32, F32]:
        """P(the device's answer is good), P(the cloud's would be), each [rows].

        NaN for a question without options: nothing is known of those.
        """
        return self.rate_rows(features(answered))

    def rate_rows(self, rows: F32) -> tuple[F32, F32]:
        """As `rate`. rows: as `features` gives"""
        unknown = ~rated(rows)
        good = 1 / (1 + np.exp(-np.clip(self.trees(rows), -30, 30)))
        good[unknown] = np.nan
        return np.asarray(good[:, 0], np.float32), np.asarray(good[:, 1], np.float32)

    def section(self, provenance: Mapping[str, Any]) -> Section:
        """What `of` reads."""
        names = [field.name for field in fields(Forest) if field.name != "depth"]
        says = {
            "features": list(answer_text.NAMES),
            "depth": self.trees.depth,
            "provenance": dict(provenance),
        }
        return Section(says, {name: getattr(self.trees, name) for name in names})

    @classmethod
    def of(cls, section: Section | None) -> AnswerHead | None:
        """The head in a file; None where there is none.

        Raises `ValueError` for one that makes no sense or reads other features than this program.
        """
        if section is None:
            return None
        if section.says.get("features") != list(answer_text.NAMES):
            raise ValueError("the answer head reads other features: train it again")
        try:
            trees = Forest(**section.arrays, depth=int(section.says["depth"]))
            trees.check(len(answer_text.NAMES))
        except (KeyError, TypeError, ValueError):
            raise ValueError("the answer head of the trained file makes no sense") from None
        if len(trees.bias) != 2:
            raise ValueError("the answer head of the trained file has not two heads")
        return cls(trees)


def features(answered: Sequence[Answered]) -> F32:
    """[rows, len(answer_text.NAMES)]"""
    rows = np.empty((len(answered), len(answer_text.NAMES)), np.float32)
    for at, one in enumerate(answered):
        rows[at] = answer_text.vector(
            parse(one.prompt), one.text, chars=one.chars, letter=one.letter
        )
    return rows


def rated(rows: F32) -> NDArray[np.bool_]:
    """Which rows are of questions with options, the only ones that are rated. [rows]"""
    return np.asarray(rows[:, answer_text.NAMES.index("options")] > 0)


def fit(rows: F32, edge_good: NDArray[np.bool_], cloud_good: NDArray[np.bool_]) -> AnswerHead:
    """Fit on labelled answers. rows: as `features` gives; the labels: [rows].

    Needs scikit-learn.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    heads = [
        HistGradientBoostingClassifier(
            max_iter=120,
            max_leaf_nodes=8,
            learning_rate=0.05,
            min_samples_leaf=40,
            l2_regularization=5,
            max_features=0.3,
            early_stopping=False,
            random_state=0,
        ).fit(rows, good)
        for good in (edge_good, cloud_good)
    ]
    return AnswerHead(forest(heads))
