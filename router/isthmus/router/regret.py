"""What a decision cost where both tiers answered: how much more the other one was worth.

The cloud's answer is the reference, as good as the decision expected it to be; the device's is as
good as it is like that. So an answer that the cloud had to give, and that the device gave too, is
regretted by what it cost more; one of the device that is unlike the cloud's by the quality that is
missing. It is an estimate: two good answers may well be unlike each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.core.decision import Target


def regret_micro_usd(scores: Mapping[str, float], route: Target, agreement: float) -> float | None:
    """By how much the tier that was not chosen was worth more, 0 or above, in micro-dollars.

    `scores` are the decision's; `agreement` tells how alike both answers are, 0 to 1. None where
    the decision did not weigh the tiers.
    """
    try:
        reference = scores["cloud.quality_micro_usd"]
        cost = {
            tier: scores[f"{tier}.quality_micro_usd"] - scores[f"{tier}.value_micro_usd"]
            for tier in Target
        }
    except KeyError:
        return None
    worth = {
        Target.EDGE: agreement * reference - cost[Target.EDGE],
        Target.CLOUD: reference - cost[Target.CLOUD],
    }
    return max(0.0, worth[route.other] - worth[route])
