"""How good each tier's answer to a request is expected to be, before anything has run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from isthmus.core.chat import ChatRequest
from isthmus.router.difficulty import difficulty
from isthmus.router.learned.asked import asked
from isthmus.router.learned.features import NAMES, features
from isthmus.router.learned.ngrams import grams
from isthmus.router.learned.pair import Calibration, Pair, inputs
from isthmus.router.learned.question import parse
from isthmus.router.learned.router_file import RouterFile

TERMS = 8
"""How many features an estimate names: those that weighed most."""


class Basis(StrEnum):
    """What an estimate rests on."""

    CALIBRATED = "calibrated"
    """Both models of this pair have answered graded questions; the estimate was fitted on them."""
    UNCALIBRATED = "uncalibrated"
    """Nothing is known of this pair: conservative defaults, until its user labels questions."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The probability, 0 to 1, that each tier's answer is good enough. No text of the user's."""

    edge: float
    cloud: float
    reason: Basis = Basis.UNCALIBRATED
    version: str = ""
    """The trained file that the estimate comes from; empty: none."""
    terms: tuple[tuple[str, float], ...] = ()
    """Name and value of what the estimate was made from, for explaining."""

    @property
    def escalate(self) -> float:
        """What the cloud's answer is expected to gain, -1 to 1: what requests are ordered by."""
        return self.cloud - self.edge


def estimate(
    request: ChatRequest, file: RouterFile | None = None, pair: Pair | None = None
) -> Quality:
    """The quality to expect of an answer to what `request` asks.

    When `file` knows `pair`, its calibration is read. Else nothing is known: what other pairs did
    says nothing of how often this one is right, so that a weighted count of what makes a request
    hard stands in, by which the cloud is never the worse choice.
    """
    calibration = None if file is None else file.calibration(pair)
    if file is None or calibration is None:
        rated = difficulty(request)
        terms = tuple((term.name, term.contribution) for term in rated.terms)
        return Quality(edge=1.0 - rated.score, cloud=1.0, terms=terms)
    question = parse(asked(request))
    x, found = features(question)[None], [grams(question)]
    seen = inputs(file.general.standard(x), file.general.gain(x, found), found)
    edge, cloud = (float(p) for p in calibration.rate(seen)[0])
    return Quality(edge, cloud, Basis.CALIBRATED, file.version, _terms(seen[0], calibration))


def _terms(seen: NDArray[np.float32], calibration: Calibration) -> tuple[tuple[str, float], ...]:
    """What each input adds to the difference of the two logits, the largest first."""
    f = len(NAMES)
    added = seen * (calibration.weights[:, 1] - calibration.weights[:, 0])
    named = dict(zip(NAMES, added.tolist(), strict=False))
    named |= {"general_gain": float(added[f + 1]), "words": float(added[f + 2 :].sum())}
    most = sorted(named.items(), key=lambda term: -abs(term[1]))[:TERMS]
    return tuple((name, round(value, 4)) for name, value in most)
