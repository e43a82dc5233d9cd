"""Fits the head of the second look on labelled questions, and says honestly whether it helps.

Three heads are tried: the first look's estimate alone, with the first token's statistics, with the
hidden state besides. Each is rated on kinds of questions that it has not seen, half of the time
with a first look that knows the kind and half with one that does not: a device is asked more of
what was labelled, and other things. One that reads more is taken where that lowers the log loss by
`LEAST_GAIN`; else the first look's estimate is left as it is. Needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import InvalidRequest
from isthmus.core.events import FirstToken
from isthmus.router.doubt.second_look import FEATURES, Build, SecondLook, features
from isthmus.router.learned.measures import apgr, auroc

F64 = NDArray[np.float64]

LEAST_SOURCES: Final = 3
LEAST_QUESTIONS: Final = 100
LEAST_GAIN: Final = 0.01
"""Nats of log loss a question that reading more has to be worth."""
_FOLDS: Final = 8
_HIDDEN_WEIGHT: Final = 0.1
"""The spread of a value of the hidden state beside that of a statistic: there are hundreds."""
_KINDS: Final = {
    "prior": (1, False),
    "first_token": (len(FEATURES), False),
    "hidden": (len(FEATURES), True),
}
"""By name: how many features a head reads, and whether the hidden state too. The plainest first."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question that the device has answered."""

    first: FirstToken
    priors: tuple[float, ...]
    """What the first look says of it: fitted without the row, fitted without its whole kind."""
    good: bool
    source: str
    """Its kind: whole kinds are held out."""
    cloud: float | None = None
    """How good the cloud's answer was, 0 to 1, where that is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What came of it."""

    look: SecondLook | None
    """None: nothing beats the first look's estimate on kinds that were held out."""
    figures: dict[str, Any]
    """Of each head the AUROC and the log loss on kinds that were held out, and where the cloud's
    answers are known the APGR of escalating what it doubts most."""


def fit(build: Build, rows: Sequence[Labelled]) -> Fitted:
    """Fit and choose. Raises `InvalidRequest` where there is too little to learn from."""
    told = [(row, prior) for row in rows for prior in row.priors]
    good = np.array([row.good for row, _ in told], np.bool_)
    names = sorted({row.source for row in rows})
    if len(rows) < LEAST_QUESTIONS or len(names) < LEAST_SOURCES or good.all() or not good.any():
        raise InvalidRequest(
            f"a second look is learnt from {LEAST_QUESTIONS} questions or more, of {LEAST_SOURCES} "
            "kinds or more, some answered well and some badly"
        )
    gain = np.array([np.nan if row.cloud is None else row.cloud - row.good for row, _ in told])
    plain = np.array([features(row.first, prior) for row, prior in told], np.float64)
    one_width = len({len(row.first.hidden) for row in rows}) == 1
    hidden = np.array([row.first.hidden for row, _ in told], np.float64) if one_width else None
    source = np.array([names.index(row.source) for row, _ in told])
    figures: dict[str, Any] = {"questions": len(rows), "kinds": len(names)}
    losses: dict[str, F64] = {}
    for name, (count, reads_hidden) in _KINDS.items():
        if reads_hidden and (hidden is None or not hidden.size):
            continue
        p_good = _cross_validated(_table(plain, hidden, count, reads_hidden), good, source)
        loss = -np.log(np.where(good, p_good, 1 - p_good))
        losses[name] = np.array([loss[source == at].mean() for at in range(len(names))])
        figures[name] = {
            "auroc": round(auroc(p_good, good), 4),
            "log_loss": round(float(losses[name].mean()), 4),
        }
        if np.isfinite(gain).all():
            figures[name]["apgr"] = round(apgr(1 - p_good, gain), 4)
    chosen = _chosen(losses)
    figures["chosen"] = chosen
    if chosen == "prior":
        return Fitted(None, figures)
    count, reads_hidden = _KINDS[chosen]
    bias, weights = _logistic(_table(plain, hidden, count, reads_hidden), good)
    at = len(FEATURES)
    parts = weights[:at].astype(np.float32), weights[at:].astype(np.float32)
    look = SecondLook(build, bias, *parts, len(rows))
    return Fitted(look, figures)


def _table(plain: F64, hidden: F64 | None, count: int, reads_hidden: bool) -> F64:
    """What a head reads. [rows, width]"""
    if not reads_hidden or hidden is None:
        return plain[:, :count]
    return np.concatenate([plain, hidden], axis=1)


def _chosen(losses: dict[str, F64]) -> str:
    """The plainest head that no other beats by as much as counts."""
    least = min(float(loss.mean()) for loss in losses.values())
    return next(name for name, loss in losses.items() if loss.mean() < least + LEAST_GAIN)


def _cross_validated(table: F64, good: NDArray[np.bool_], source: NDArray[np.int64]) -> F64:
    """P(good) of each row by a head that has seen nothing of its kind. [rows]"""
    told = np.empty(len(good))
    fold = source % _FOLDS
    for held in np.unique(fold):
        seen = fold != held
        if good[seen].all() or not good[seen].any():
            told[~seen] = good[seen].mean()
            continue
        bias, weights = _logistic(table[seen], good[seen])
        told[~seen] = 1 / (1 + np.exp(-(bias + table[~seen] @ weights)))
    return np.clip(told, 1e-3, 1 - 1e-3)


def _logistic(table: F64, good: NDArray[np.bool_]) -> tuple[float, F64]:
    """Bias and weights of a logistic head, for the table as it is. [width]

    A first look that is wrong more often than right is not heeded, and not turned round.
    """
    bias, weights = _line(table, good)
    if weights[0] < 0:
        without = table.copy()
        without[:, 0] = 0
        bias, weights = _line(without, good)
    return bias, weights


def _line(table: F64, good: NDArray[np.bool_]) -> tuple[float, F64]:
    from sklearn.linear_model import LogisticRegression

    mean, width = table.mean(axis=0), table.shape[1]
    # Statistics are brought to one spread each, the hidden state's values to one together.
    scale = table.std(axis=0)
    if width > len(FEATURES):
        scale[len(FEATURES) :] = scale[len(FEATURES) :].mean() / _HIDDEN_WEIGHT
    scale[scale == 0] = 1.0
    model = LogisticRegression(C=1.0, max_iter=500).fit((table - mean) / scale, good)
    weights = model.coef_[0] / scale
    return float(model.intercept_[0] - mean @ weights), weights
