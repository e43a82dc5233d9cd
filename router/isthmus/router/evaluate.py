"""How well scores order requests: the measures of the RouteLLM paper, with intervals.

With the rows in the order of falling scores, `PGR(a)` is the share of the gap between the two
models' quality that is closed when a share `a` of the rows goes to the larger one. `APGR` is its
area, 0.5 for a router that guesses; `CPT50` and `CPT80` are the shares of calls, in per cent, that
close half and four fifths of the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.router.features import NAMES
from isthmus.router.train import Rows, fit, gram_matrix

SAMPLES = 500
"""Bootstrap samples of an interval."""
BASELINE = (
    "chars", "stem_chars", "words", "word_chars", "sentences", "lines", "digits", "numbers",
    "upper", "marks", "latex", "operators", "code", "options", "option_chars", "option_numbers",
    "question_marks", "except",
)  # fmt: skip
"""The features of the baseline: counts that any first attempt would take."""

LEAST = 100
"""Rows of a source from which on the baseline is fitted on it alone."""

Scores = NDArray[np.float64]


def curve(score: Scores, gain: Scores) -> Scores:
    """PGR after each row: [rows + 1]. Rows with one score share what they gain."""
    order = np.argsort(-score, kind="stable")
    ordered, gained = score[order], gain[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    shared = np.repeat(np.add.reduceat(gained, starts) / sizes, sizes)
    total = float(shared.sum())
    closed = np.r_[0.0, np.cumsum(shared)]
    return closed / total if total else np.full(len(closed), np.nan)


def measures(score: Scores, gain: Scores) -> dict[str, float]:
    """APGR, CPT50 and CPT80 of `score` [rows] where the larger model's answers gained `gain`."""
    pgr = curve(score, gain)
    share = np.linspace(0, 1, len(pgr))
    reached = {
        name: float(100 * share[np.argmax(pgr >= part)]) if (pgr >= part).any() else 100.0
        for name, part in (("cpt50", 0.5), ("cpt80", 0.8))
    }
    return {"apgr": float(np.trapezoid(pgr, share)), **reached}


def report(
    score: Scores, rows: Rows, baseline: Scores | None = None, samples: int = SAMPLES
) -> dict[str, dict[str, Any]]:
    """The measures for each source, with 95% intervals; against `baseline` row by row when given.

    A source whose interval reaches down to 0.5 is told to be unpredictable.
    """
    told: dict[str, dict[str, Any]] = {}
    for source in map(str, np.unique(rows.source)):
        at = np.flatnonzero(rows.source == source)
        gain = (rows.strong - rows.weak)[at]
        mine: dict[str, Any] = measures(score[at], gain)
        draws = np.random.default_rng(0).integers(0, len(at), (samples, len(at)))
        drawn = [measures(score[at][d], gain[d]) for d in draws]
        for name in ("apgr", "cpt50", "cpt80"):
            mine[f"{name}_ci"] = _interval([one[name] for one in drawn])
        mine |= {"rows": len(at), "unpredictable": mine["apgr_ci"][0] <= 0.5}
        if baseline is not None:
            theirs = [measures(baseline[at][d], gain[d])["apgr"] for d in draws]
            mine["baseline_apgr"] = measures(baseline[at], gain)["apgr"]
            ahead = [one["apgr"] - other for one, other in zip(drawn, theirs, strict=True)]
            mine["ahead_ci"] = _interval(ahead)
        told[source] = mine
    return told


def _interval(values: list[float]) -> list[float]:
    return [round(float(v), 4) for v in np.nanpercentile(values, [2.5, 97.5])]


def split(rows: Rows, by: str, folds: int, seed: int = 0) -> NDArray[np.int64]:
    """The fold of each row: whole questions, or whole subjects, or whole sources, stay together."""
    names: Mapping[str, NDArray[Any]] = {
        "question": rows.key, "subject": rows.domain, "source": rows.source,
    }  # fmt: skip
    unique, inverse = np.unique(names[by], return_inverse=True)
    sizes = np.bincount(inverse).astype(float)
    order = np.random.default_rng(seed).permutation(len(unique))
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
