"""What the answers themselves have taught since the calibration: a correction for each tier.

Every judged answer is a lesson: how good it was expected to be, and how good it was found. The
correction moves a small step towards what was found (a gradient step on the squared error of the
estimate's bias), so that in the long run answers are as good as they are said to be. It never
leaves its bounds: a hostile or moody judge cannot turn the router round, and what the calibration
knows of one request against another stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from isthmus.core.decision import Target
from isthmus.router.quality import Quality

OF_DOUBT = 0.25
"""The weight of an answer that was handed over on doubt: a suspicion, and nobody's judgement."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How far lessons may carry (`RouterConfig.feedback_step` and `feedback_bound`)."""

    step: float = 0.02
    """The part of one lesson's error that is learnt, 0 to 1; 0 learns nothing."""
    bound: float = 0.15
    """The largest correction, up or down, as a probability, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One judged answer. No text and no name."""

    tier: Target
    """Who gave it."""
    expected: float
    """How probably it was good enough, as the decision took it, corrections included; 0 to 1."""
    found: float
    """How good it was found, 0 to 1."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Correction:
    """What is added to each tier's expected quality."""

    edge: float = 0.0
    cloud: float = 0.0

    def learn(self, lesson: Lesson, pace: Pace) -> Correction:
        """The correction after one more lesson."""
        old = self.edge if lesson.tier is Target.EDGE else self.cloud
        new = old + pace.step * lesson.weight * (lesson.found - lesson.expected)
        new = min(pace.bound, max(-pace.bound, new))
        if lesson.tier is Target.EDGE:
            return replace(self, edge=new)
        return replace(self, cloud=new)

    def apply(self, quality: Quality) -> Quality:
        """`quality` as it is expected now, with the corrections among its terms."""
        if self == Correction():
            return quality
        return replace(
            quality,
            edge=min(1.0, max(0.0, quality.edge + self.edge)),
            cloud=min(1.0, max(0.0, quality.cloud + self.cloud)),
            terms=(
                *quality.terms,
                ("learnt_of_edge", self.edge),
                ("learnt_of_cloud", self.cloud),
            ),
        )


def learnt(lessons: Iterable[Lesson], pace: Pace) -> Correction:
    """The correction after all of `lessons`, oldest first."""
    correction = Correction()
    for lesson in lessons:
        correction = correction.learn(lesson, pace)
    return correction
