"""Judged answers correct the expected quality, slowly and within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.core.decision import Target
from isthmus.router.online import OF_DOUBT, Correction, Lesson, Pace, learnt
from isthmus.router.quality import Quality

PACE = Pace()


def test_answers_become_as_good_as_they_are_said_to_be() -> None:
    rng = np.random.default_rng(5)
    correction = Correction()
    for _ in range(4000):
        base = Quality(edge=float(rng.uniform(0.6, 0.9)), cloud=0.9)
        expected = correction.apply(base).edge
        found = float(rng.random() < base.edge - 0.1)
        correction = correction.learn(Lesson(Target.EDGE, expected, found), Pace(step=0.01))
    assert correction.edge == pytest.approx(-0.1, abs=0.05)
    assert correction.cloud == 0.0


@given(
    st.lists(
        st.builds(
            Lesson,
            tier=st.sampled_from(Target),
            expected=st.floats(0, 1),
            found=st.floats(0, 1),
            weight=st.floats(0, 1),
        ),
        max_size=300,
    )
)
def test_no_series_of_lessons_leaves_the_bounds(lessons: list[Lesson]) -> None:
    correction = learnt(lessons, Pace(step=1.0, bound=0.15))
    assert abs(correction.edge) <= 0.15
    assert abs(correction.cloud) <= 0.15
    quality = correction.apply(Quality(edge=0.95, cloud=0.05))
    assert 0.0 <= quality.edge <= 1.0
    assert 0.0 <= quality.cloud <= 1.0


def test_a_hand_over_on_doubt_teaches_less_than_a_judgement() -> None:
    judged = learnt([Lesson(Target.EDGE, 0.8, 0.0)], PACE)
    doubted = learnt([Lesson(Target.EDGE, 0.8, 0.0, OF_DOUBT)], PACE)
    assert judged.edge < doubted.edge < 0.0


def test_a_correction_keeps_the_order_of_requests_and_is_explained() -> None:
    correction = Correction(edge=-0.1)
    hard, easy = Quality(edge=0.3, cloud=0.9), Quality(edge=0.8, cloud=0.9)
    assert correction.apply(hard).escalate > correction.apply(easy).escalate
    assert dict(correction.apply(hard).terms)["learnt_of_edge"] == -0.1
    assert Correction().apply(hard) is hard


def test_a_step_of_zero_learns_nothing() -> None:
    assert learnt([Lesson(Target.EDGE, 0.9, 0.0)] * 50, Pace(step=0.0)) == Correction()
