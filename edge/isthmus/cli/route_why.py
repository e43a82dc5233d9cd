"""A decision in one plain sentence, for people who do not know the reason codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from isthmus.core.decision import Reason, Target

if TYPE_CHECKING:
    from isthmus.core.decision import Decision

_WHY = {
    Reason.FORCED_EDGE: "the request or the preset allows nothing else",
    Reason.FORCED_CLOUD: "the request allows nothing else",
    Reason.PREFERRED_EDGE: "the request or the preset prefers it, and it can",
    Reason.PREFERRED_CLOUD: "the request prefers it, and nothing forbids it",
    Reason.PRIVACY_LOCAL_ONLY: "something in the conversation must not leave the device",
    Reason.PRIVACY_SCAN_FAILED: "the scan for private values did not finish, so everything stays",
    Reason.PRIVACY_NOT_REDACTABLE: (
        "a private value is in the conversation for which no placeholder can stand"
    ),
    Reason.PRIVACY_NO_CONSENT: "nobody has consented to the use of the cloud",
    Reason.CLOUD_OFFLINE: "no cloud is configured, or none can be reached",
    Reason.BREAKER_OPEN: "the cloud failed too often of late",
    Reason.EDGE_UNAVAILABLE: "the device has no model that works",
    Reason.CONTEXT_TOO_LONG_FOR_EDGE: "the conversation does not fit the device's model",
    Reason.CONTEXT_TOO_LONG_FOR_CLOUD: "the conversation does not fit the cloud's model",
    Reason.CAPABILITY_MISSING_ON_EDGE: "the device cannot do what the request needs",
    Reason.CAPABILITY_MISSING_IN_CLOUD: "the cloud's model cannot do what the request needs",
    Reason.PRICE_ABOVE_LIMIT: "the cloud would cost more than one request may",
    Reason.BUDGET_SPENT: "not enough is left of the budget",
    Reason.BATTERY_LOW: "the battery is below its floor",
    Reason.DEVICE_HOT: "the device is too hot to work",
    Reason.LATENCY_SLO: "it alone is expected to keep the promised time to the first token",
}
"""What follows "because", by the first reason of a decision."""
_BESIDES = {
    Reason.UNCALIBRATED: (
        "Nobody has labelled questions with this pair of models, so both probabilities are guesses."
    ),
    Reason.NO_THRESHOLD: (
        "The target that was set is not kept yet: isthmus route calibrate makes it a threshold."
    ),
    Reason.BUDGET_PACE: (
        "Spending runs ahead of its pace; at the plain price the cloud would have answered."
    ),
    Reason.STICKY_SESSION: (
        "The conversation stays where its cache is; without that the other tier would have it."
    ),
    Reason.RACE: "The promised time is at risk: both start, the first to show something answers.",
    Reason.PRIVACY_REDACTED: "Private values leave as placeholders.",
}
"""Sentences of their own, by a further reason."""


def why(decision: Decision) -> str:
    """What was decided and what decided it, in one sentence; one more for each further reason."""
    tier = "device" if decision.target is Target.EDGE else "cloud"
    first, *_ = decision.reasons
    because = _WHY.get(first) or _by_gain(first, decision.scores, decision.thresholds)
    besides = [_BESIDES[reason] for reason in decision.reasons if reason in _BESIDES]
    return " ".join([f"The {tier} answers, because {because}.", *besides])


def _by_gain(reason: Reason, scores: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """The comparison of both tiers, by worth or by a threshold."""
    gain = scores["gain"]
    believed = "" if reason in (Reason.HARD, Reason.EASY) or gain == _told(scores) else " believed"
    cloud, edge = _of_100(scores["cloud.quality"]), _of_100(scores["edge.quality"])
    chances = (
        f"of 100 such requests the cloud is expected to answer {cloud} well and the device {edge}, "
        f"a gain of {_of_100(gain)}{believed}"
    )
    if "gain" not in limits:
        return f"{chances}, and quality is worth nothing by these settings"
    needed = limits["gain"]
    if reason in (Reason.HARD, Reason.EASY):
        return f"{chances}, and the threshold asks for {_of_100(needed)}"
    if needed >= 1:
        return f"{chances}, and the cloud's cost is more than any gain is worth"
    if needed < 0:
        return f"{chances}, and here the cloud is worth more even if it answers no better"
    return f"{chances}, and the cloud is worth its cost from a gain of {_of_100(needed)} on"


def _told(scores: Mapping[str, float]) -> float:
    return scores["cloud.quality"] - scores["edge.quality"]


def _of_100(share: float) -> str:
    return f"{100 * share:.0f}"
