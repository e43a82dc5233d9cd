"""Fits the general heads on published results. scikit-learn is needed here, and nowhere else."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.features import features
from isthmus.router.learned.general import CLIP, General
from isthmus.router.learned.ngrams import BINS, Grams, grams
from isthmus.router.learned.question import Question, parse
from isthmus.router.learned.trees import forest

LARGE, SMALL, OTHERS = (0.2, 0.15, 0.3, 0.25, 0.1), (0.4, 0.4, 0.4, 0.7, 0.3), (0, 0, 0, 0.7, 0.3)
"""What each part counts (`general.PARTS`), chosen by cross-validation (docs/routing.md)."""
LARGE_ROWS, SMALL_ROWS = 4000, 300
"""The rows from which on a kind has heads of its own: large, or small."""
SMALL_SUBJECTS = 5
"""A small kind with more subjects is a collection of many kinds, and none of its own."""
CONTRAST, CONTRAST_PRIOR = 0.01, 200.0
"""What a unit of `_contrast` counts in a large kind's n-grams, and how many rows doubt a bin."""
ALIKE = 0.8
"""The share of the questions of both sources that makes them one kind."""
FEW = 1500
"""Fewer rows get few and small trees."""
KEY_CHARS = 120
"""Two questions whose stems end in the same letters and digits, this many, are one question."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Labelled rows, read once. Sources and domains serve to split and to centre, never to rate."""

    x: NDArray[np.float32]
    """[rows, features]"""
    found: list[Grams]
    weak: NDArray[np.float64]
    strong: NDArray[np.float64]
    source: NDArray[np.str_]
    domain: NDArray[np.str_]
    key: NDArray[np.int64]
    """[rows]: the same number for the same question."""

    def __len__(self) -> int:
        return len(self.weak)

    def take(self, which: NDArray[Any]) -> Rows:
        """The rows at a mask or at indices."""
        at = np.flatnonzero(which) if which.dtype == bool else which
        return Rows(
            self.x[at], [self.found[i] for i in at], self.weak[at], self.strong[at],
            self.source[at], self.domain[at], self.key[at],
        )  # fmt: skip


def rows_of(labels: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows `{prompt, source, domain, weak_correct, strong_correct}`, read."""
    questions = [parse(row["prompt"]) for row in labels]
    sources = [str(row.get("source", "")) for row in labels]
    return Rows(
        x=np.array([features(question) for question in questions]),
        found=[grams(question) for question in questions],
        weak=np.array([float(row["weak_correct"]) for row in labels]),
        strong=np.array([float(row["strong_correct"]) for row in labels]),
        source=np.array(sources),
        domain=np.array(
            [f"{s}/{row.get('domain', '')}" for s, row in zip(sources, labels, strict=True)]
        ),
        key=np.array([key_of(question) for question in questions]),
    )


def key_of(question: Question) -> int:
    """The same number for the same question, in whatever form it is asked."""
    letters = re.sub(r"[\W_]", "", question.stem.lower())[-KEY_CHARS:]
    return zlib.crc32(letters.encode("utf-8", "surrogatepass"))


def kinds_of(rows: Rows) -> dict[str, str]:
    """The kind of each source: sources that ask the same questions, nearly all, are one kind."""
    keys = {
        source: set(rows.key[rows.source == source].tolist()) for source in np.unique(rows.source)
    }
    kinds: dict[str, str] = {}
    for source in sorted(keys, key=lambda name: (-len(keys[name]), name)):
        alike = (
            kind for kind in kinds
            if len(keys[source] & keys[kind]) >= ALIKE * max(len(keys[source]), len(keys[kind]))
        )  # fmt: skip
        kinds[str(source)] = kinds[kind] if (kind := next(alike, None)) else str(source)
    return kinds


def fit(rows: Rows, seed: int = 0) -> General:
    """The heads fitted on `rows`. The same rows and seed give the same heads."""
    from sklearn.linear_model import Ridge

    kind_of = kinds_of(rows)
    sizes = {kind: int(_of(rows, kind_of, kind).sum()) for kind in set(kind_of.values())}
    kinds = tuple(
        sorted(k for k, size in sizes.items() if size >= LARGE_ROWS or _small(rows, kind_of, k))
    )
    large = [sizes[kind] >= LARGE_ROWS for kind in kinds]
    level = _level(rows, kind_of)
    mean, deviation = rows.x.mean(axis=0), rows.x.std(axis=0)
    scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0).astype(np.float32)
    z = np.clip((rows.x - mean) * scale, -CLIP, CLIP)
    own = [_of(rows, kind_of, kind) for kind in kinds]
    targets = [
        level[which] - (0.0 if whole else level[which].mean())
        for which, whole in zip(own, large, strict=True)
    ]
    lines = [Ridge(alpha=1500.0).fit(z[which], y) for which, y in zip(own, targets, strict=True)]
    line = np.array([[*line.coef_, line.intercept_] for line in lines], np.float32)
    gain = rows.strong - rows.weak
    groups = [*zip(own, targets, strict=True), (np.ones(len(rows), bool), gain)]
    matrix = gram_matrix(rows.found)
    ngrams = [
        _ngrams(matrix[which], y, gain[which] if whole else None)
        for (which, y), whole in zip(groups, [*large, False], strict=True)
    ]
    return General(
        kinds=kinds,
        mean=mean.astype(np.float32),
        scale=scale,
        gate=_gate(z, own),
        line=line.reshape(len(kinds), z.shape[1] + 1).T,
        trees=forest([_trees(rows.x[which], y, seed) for which, y in groups]),
        ngrams=np.stack([weights for weights, _, _ in ngrams], axis=1),
        ngram_scale=np.array([unit for _, unit, _ in ngrams], np.float32),
        ngram_bias=np.array([bias for _, _, bias in ngrams], np.float32),
        blend=np.array([*(LARGE if whole else SMALL for whole in large), OTHERS], np.float32),
    )


def _small(rows: Rows, kind_of: Mapping[str, str], kind: str) -> bool:
    """Whether a kind has rows enough for heads of its own, and is one kind."""
    which = _of(rows, kind_of, kind)
    subjects = np.unique(rows.domain[which & (rows.source == kind)])
    return bool(which.sum() >= SMALL_ROWS and len(subjects) <= SMALL_SUBJECTS)


def _of(rows: Rows, kind_of: Mapping[str, str], kind: str) -> NDArray[np.bool_]:
    return np.isin(rows.source, [source for source, of in kind_of.items() if of == kind])


def _gate(z: NDArray[np.float32], own: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """The logits of each kind and of all others: [features + 1, kinds + 1]."""
    from sklearn.linear_model import LogisticRegression

    kind = np.full(len(z), len(own))
    for at, which in enumerate(own):
        kind[which] = at
    gate = np.zeros((z.shape[1] + 1, len(own) + 1), np.float32)
    seen = np.unique(kind)
    gate[-1] = np.where(np.isin(np.arange(len(own) + 1), seen), 0, -30)
    if len(seen) > 1:
        model = LogisticRegression(C=0.1, max_iter=50, tol=1e-3).fit(z, kind)
        coef, bias = model.coef_, model.intercept_
        if len(seen) == 2:
            coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
        gate[:-1, seen], gate[-1, seen] = coef.T, bias
    return gate


def _level(rows: Rows, kind_of: Mapping[str, str]) -> NDArray[np.float64]:
    """The gains, each source's mean moved to its kind's: of several pairs the order counts."""
    gain = rows.strong - rows.weak
    level = gain.copy()
    for source, kind in kind_of.items():
        at = rows.source == source
        level[at] += gain[_of(rows, kind_of, kind)].mean() - gain[at].mean()
    return level


def _trees(x: NDArray[np.float32], y: NDArray[np.float64], seed: int) -> Any:
    """Boosted trees; few rows get few and small ones."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    few, some, many = len(y) < FEW, len(y) < 5000, len(y) > 10_000
    model = HistGradientBoostingRegressor(
        max_iter=60 if few else 250 if many else 150,
        learning_rate=0.04 if few else 0.08 if some else 0.05,
        max_leaf_nodes=5 if few else 16 if many else 12,
        max_depth=7,
        min_samples_leaf=30 if few else 40,
        l2_regularization=20.0 if few else 5.0,
        max_features=0.3,
        early_stopping=False,
        random_state=seed,
    )
    return model.fit(x, y)


def gram_matrix(found: Sequence[Grams]) -> Any:
    """[rows, BINS] sparse: one over the root of how many bins occur, for each half."""
    from scipy.sparse import csr_matrix

    bins = [half for one in found for half in one]
    sizes = np.array([half.size for half in bins])
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    ends = np.concatenate([[0], np.cumsum(sizes.reshape(-1, 2).sum(axis=1))])
    return csr_matrix((values, np.concatenate(bins), ends), shape=(len(found), BINS))


def _ngrams(
    matrix: Any, y: NDArray[np.float64], gain: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int8], float, float]:
    """A line over n-grams, in 8 bits: weights [BINS], the worth of one unit, the intercept.

    The penalty is what blends them in by familiarity: bins that few rows have weigh next to
    nothing, and a question made of such bins is left to the features. With `gain` the contrast is
    added.
    """
    from sklearn.linear_model import Ridge

    ridge = Ridge(alpha=25.0, solver="sparse_cg", max_iter=80, tol=1e-3).fit(matrix, y)
    weights = ridge.coef_ + (0.0 if gain is None else _contrast(matrix, gain))
    unit = max(float(np.abs(weights).max()) / 127, 1e-12)
    return np.rint(weights / unit).astype(np.int8), unit, float(ridge.intercept_)


def _contrast(matrix: Any, gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much likelier each bin is where the larger model alone was right than where it alone was
    wrong: log ratios, as naive Bayes has them. [BINS]

    Where both models agree nothing is said of the order between them, and those rows, most of all,
    are what differs from subject to subject: without them more carries over to unseen subjects.
    """
    better, worse = gain > 0, gain < 0
    share = better.sum() / max(1, better.sum() + worse.sum())
    if not 0 < share < 1:
        return np.zeros(BINS)
    held = matrix.astype(bool).astype(np.float64)
    ups, downs = (np.asarray(held[which].sum(axis=0)).ravel() for which in (better, worse))
    ratio = (ups + CONTRAST_PRIOR * share) / (downs + CONTRAST_PRIOR * (1 - share))
    contrast: NDArray[np.float64] = np.log(ratio * (1 - share) / share)
    return CONTRAST / LARGE[2] * contrast
