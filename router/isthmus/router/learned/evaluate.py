"""How well the learned scores order labelled rows, source by source, against a simple baseline.

The measures are those of `isthmus.router.learned.measures`. What is trained here is trained anew
without the rows that it scores, and without the same questions in other sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.features import NAMES
from isthmus.router.learned.measures import RESAMPLES, difference, measure
from isthmus.router.learned.seen import LEAST_SHARE, Seen
from isthmus.router.learned.train import Rows, fit, gram_matrix

BASELINE = (
    "chars", "stem_chars", "words", "word_chars", "sentences", "lines", "digits", "numbers",
    "upper", "marks", "latex", "operators", "code", "options", "option_chars", "option_numbers",
    "question_marks", "except",
)  # fmt: skip
"""The features of the baseline: counts that any first attempt would take."""

LEAST = 100
"""Rows of a source from which on the baseline is fitted on it alone."""

Scores = NDArray[np.float64]


def report(
    score: Scores, rows: Rows, baseline: Scores | None = None, resamples: int = RESAMPLES
) -> dict[str, dict[str, Any]]:
    """The figures of each source, with 95% intervals; against `baseline` by paired bootstrap.

    A source whose interval reaches down to 0.5 is told to be unpredictable.
    """
    told: dict[str, dict[str, Any]] = {}
    for source in map(str, np.unique(rows.source)):
        at = rows.source == source
        gain = (rows.strong - rows.weak)[at]
        found = measure(score[at], gain, resamples=resamples)
        one: dict[str, Any] = {
            "rows": found.rows,
            "apgr": round(found.apgr, 4),
            "apgr_ci": [round(found.low, 4), round(found.high, 4)],
            "cpt50": round(found.cpt50, 2),
            "cpt80": round(found.cpt80, 2),
            "unpredictable": not found.low > 0.5,
        }
        if baseline is not None:
            ahead = difference(score[at], baseline[at], gain, resamples=resamples)
            one["ahead"], *interval = (round(value, 4) for value in ahead)
            one |= {"ahead_ci": interval, "baseline_apgr": round(one["apgr"] - one["ahead"], 4)}
        told[source] = one
    return told


def warn(told: dict[str, dict[str, Any]], rows: Rows, seen: Seen | None) -> None:
    """Say of each source which share of its questions the file was `trained_on`, and whether its
    figures flatter it therefore; nothing where the file does not tell.
    """
    if seen is not None:
        known = seen.knows(rows.key)
        for source, one in told.items():
            share = float(known[rows.source == source].mean())
            one |= {"trained_on": round(share, 3), "flatters": share >= LEAST_SHARE}


def split(rows: Rows, by: str, folds: int) -> NDArray[np.int64]:
    """The fold of each row: whole questions, or whole subjects, or whole sources, stay together."""
    names: Mapping[str, NDArray[Any]] = {
        "question": rows.key, "subject": rows.domain, "source": rows.source,
    }  # fmt: skip
    unique, inverse = np.unique(names[by], return_inverse=True)
    sizes = np.bincount(inverse).astype(float)
    order = np.random.default_rng(0).permutation(len(unique))
    if by != "question":  # a few large groups: the largest first, each to the emptiest fold
        order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of, load = np.zeros(len(unique), np.int64), np.zeros(folds)
    for at in order:
        fold_of[at] = int(np.argmin(load))
        load[fold_of[at]] += sizes[at]
    return fold_of[inverse]


def out_of_fold(rows: Rows, by: str, folds: int, scorer: Callable[[Rows, Rows], Scores]) -> Scores:
    """Scores of each row by heads that saw neither its group nor the same question elsewhere."""
    fold, scores = split(rows, by, folds), np.zeros(len(rows))
    for f in np.unique(fold):
        left = fold == f
        kept = ~left & ~np.isin(rows.key, rows.key[left])
        scores[left] = scorer(rows.take(kept), rows.take(left))
    return scores


def ours(seen: Rows, unseen: Rows) -> Scores:
    """The general heads' gain for `unseen`, fitted on `seen`."""
    return fit(seen).gain(unseen.x, unseen.found).astype(np.float64)


def simple(seen: Rows, unseen: Rows) -> Scores:
    """The baseline: 18 counts with boosted trees and n-grams with logistic regression, two heads.

    Scored by P(strong right) - P(weak right). It is fitted for each source apart, where rows of
    it are left: it is told what ours has to find out from the prompt.
    """
    scores = np.zeros(len(unseen))
    for source in np.unique(unseen.source):
        asked, own = unseen.source == source, seen.source == source
        known = seen.take(own) if own.sum() >= LEAST else seen
        scores[asked] = _simple(known, unseen.take(asked))
    return scores


def _simple(seen: Rows, unseen: Rows) -> Scores:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    at = [NAMES.index(name) for name in BASELINE]
    grams, asked = gram_matrix(seen.found), gram_matrix(unseen.found)
    scores = np.zeros(len(unseen))
    for good, sign in ((seen.strong >= 0.5, 1), (seen.weak >= 0.5, -1)):
        if good.all() or not good.any():
            continue
        trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0)
        scores += sign * trees.fit(seen.x[:, at], good).predict_proba(unseen.x[:, at])[:, 1]
        line = LogisticRegression(max_iter=60, tol=1e-3).fit(grams, good)
        scores += sign * line.predict_proba(asked)[:, 1]
    return scores
