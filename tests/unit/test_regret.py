"""What a decision cost where both tiers answered."""

from __future__ import annotations

import pytest

from isthmus.core.decision import Target
from isthmus.router.regret import regret_micro_usd

SCORES = {
    "edge.quality_micro_usd": 6000.0,
    "edge.value_micro_usd": 5900.0,
    "cloud.quality_micro_usd": 9000.0,
    "cloud.value_micro_usd": 8000.0,
}
"""The device's answer costs 100, the cloud's 1000."""


@pytest.mark.parametrize(
    ("route", "agreement", "regret"),
    [
        (Target.CLOUD, 1.0, 900.0),
        (Target.EDGE, 1.0, 0.0),
        (Target.EDGE, 0.5, 9000 - 1000 - (4500 - 100)),
        (Target.CLOUD, 0.5, 0.0),
    ],
    ids=["paid for nothing", "rightly kept", "should have left", "rightly paid"],
)
def test_the_regret_is_what_the_other_tier_was_worth_more(
    route: Target, agreement: float, regret: float
) -> None:
    assert regret_micro_usd(SCORES, route, agreement) == pytest.approx(regret)


def test_a_decision_that_weighed_nothing_is_not_regretted() -> None:
    assert regret_micro_usd({"edge.quality": 0.5}, Target.EDGE, 0.0) is None
