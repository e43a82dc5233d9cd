"""How good each tier's answer to a request is expected to be, before anything has run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isthmus.core.chat import ChatRequest
from isthmus.router.difficulty import difficulty


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


def estimate(request: ChatRequest) -> Quality:
    """The quality to expect for the last user message of `request`, in its conversation."""
    rated = difficulty(request)
    terms = tuple((term.name, term.contribution) for term in rated.terms)
    return Quality(edge=1.0 - rated.score, cloud=1.0, terms=terms)
