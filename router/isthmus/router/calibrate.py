"""A target ("at most 20% to the cloud", "95% of the cloud's quality") as a threshold, with a bound.

Requests whose score reaches the threshold are escalated. The threshold is chosen on prompts of the
user's own by conformal risk control (Angelopoulos et al., "Conformal Risk Control", ICLR 2024):
for a loss between its least value and `B` that only grows as the threshold moves one way, the
furthest threshold with (n R + B) / (n + 1) <= alpha, where R is the mean loss on n prompts, keeps
the expected loss of the next prompt of the same kind at alpha, whatever the score is worth. A poor
score costs escalations, not the promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from isthmus.core.errors import ConfigError, InvalidRequest

F64 = npt.NDArray[np.float64]

_ROUNDING = 1e-9
"""What 1 - 0.9 and its like may be off by: no prompt is lost to it."""


class Goal(StrEnum):
    """What a threshold is to reach."""

    MAX_CLOUD_SHARE = "max_cloud_share"
    """The largest share of requests that the cloud may answer."""
    MIN_QUALITY_SHARE = "min_quality_share"
    """The least share of the cloud's own quality that the routed pair has to keep."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A goal with its value, above 0 and below 1. Raises `ConfigError` otherwise."""

    goal: Goal
    value: float

    def __post_init__(self) -> None:
        if not 0.0 < self.value < 1.0:
            raise ConfigError(
                "must be a share above 0 and below 1", field=f"router.{self.goal.value}"
            )


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score from which on a request is escalated, and what it does on the prompts it is from.

    `cloud_share` is measured there; `quality_share` too where both tiers' answers were graded. What
    holds for the next prompt, in expectation, is the promise itself.
    """

    score: float
    promise: Promise
    prompts: int
    cloud_share: float
    quality_share: float | None = None


def calibrate(
    scores: F64, promise: Promise, *, edge: F64 | None = None, cloud: F64 | None = None
) -> Threshold:
    """The threshold that keeps `promise` and escalates as much, or as little, as it allows.

    Shapes: all (n,); `edge` and `cloud` are what each tier's answer is worth, 0 to 1: a promise of
    quality needs them, one of the cloud's share does without. Raises `InvalidRequest` when the
    prompts are too few for the promise, or the cloud too poor on them.
    """
    if not len(scores):
        raise InvalidRequest("there are no prompts to calibrate on", field="prompts")
    if not np.isfinite(scores).all():
        raise InvalidRequest("a score is not a finite number", field="score")
    if promise.goal is Goal.MAX_CLOUD_SHARE:
        score = _for_share(scores, promise.value)
    elif edge is None or cloud is None:
        raise InvalidRequest(
            "a promise of quality needs prompts that both tiers have answered and that are graded: "
            "isthmus route label",
            field="prompts",
        )
    else:
        score = _for_quality(scores, edge, cloud, promise.value)
    escalated = scores >= score
    kept = None
    if edge is not None and cloud is not None and cloud.sum() > 0:
        kept = float(np.where(escalated, cloud, edge).sum() / cloud.sum())
    return Threshold(score, promise, len(scores), float(escalated.mean()), kept)


def _for_quality(scores: F64, edge: F64, cloud: F64, share: float) -> float:
    """The highest score to escalate from that keeps `share` of the cloud's quality.

    The loss is what the cloud would have added to answers that stay on the device. What only the
    device has right is not set against it, so the promise errs on the safe side.
    """
    n, allowed = len(scores), 1.0 - share
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    lost = np.cumsum(np.maximum(cloud - edge, 0.0)[order])
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    # mean(lost) <= allowed * mean(cloud), with the cloud's quality moved to the left: the loss of a
    # prompt is lost + allowed * (1 - cloud), between 0 and 1. Nothing is kept, or all up to an end.
    total = np.r_[0.0, lost[ends]] + allowed * (1.0 - cloud).sum()
    held = np.flatnonzero((total + 1.0) / (n + 1) <= allowed + _ROUNDING)
    if not len(held):
        enough = math.ceil(share / (allowed * max(float(cloud.mean()), 1e-9)) - _ROUNDING)
        raise InvalidRequest(
            f"{n} graded prompts are too few to promise {share:.0%} of the cloud's quality: about "
            f"{enough} would do, or a lower share",
            field="prompts",
        )
    last = int(held[-1])
    return -math.inf if last == 0 else math.nextafter(float(ordered[ends[last - 1]]), math.inf)


def _for_share(scores: F64, share: float) -> float:
    """The lowest score to escalate from that sends no more than `share` to the cloud."""
    n = len(scores)
    # (k + 1) / (n + 1) <= share for k escalated prompts.
    most = math.floor(share * (n + 1) + _ROUNDING) - 1
    if most < 0:
        raise InvalidRequest(
            f"{n} prompts are too few to promise at most {share:.0%} to the cloud: "
            f"{math.ceil(1 / share - _ROUNDING) - 1} would do, or a larger share",
            field="prompts",
        )
    return math.nextafter(float(np.sort(scores)[n - 1 - most]), math.inf)
