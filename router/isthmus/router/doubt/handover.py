"""When an answer may be handed over to the cloud in its middle, and what that is tuned with. Pure.

The looks themselves are `second_look` (after prefill) and `cascade` (while decoding); the reasons
that they have are `DOUBTS` as reason codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from isthmus.core.chat import ChatRequest, ResponseKind, RouteMode
from isthmus.core.decision import Decision, Reason
from isthmus.core.errors import ConfigError
from isthmus.router.doubt.cascade import Doubt, WatchConfig

if TYPE_CHECKING:
    from isthmus.router.signals import DeviceHealth  # which needs the settings, and they these

DOUBTS: Final[Mapping[Doubt, Reason]] = {
    Doubt.UNSURE: Reason.DOUBT_WHILE_DECODING,
    Doubt.REPEATS: Reason.REPETITION,
    Doubt.BROKEN_FORM: Reason.BROKEN_JSON,
}
"""The reason code of each doubt while decoding."""

MOST_VOTES: Final = 8
_BATTERY_TO_SPARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class CascadeConfig:
    """What hand-overs are tuned with. Raises `ConfigError` with the field when out of range."""

    enabled: bool = True
    """Whether the device's answers are watched, where they may be handed over at all."""
    edge_floor: float = 0.3
    """After prefill: the probability of a good answer below which the cloud is asked instead. Only
    with a look that was fitted on the device's very model file."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """While decoding: what counts as a doubt, and how much is held back."""
    patience_s: float = 3.0
    """How long the device waits for the first piece of the cloud; then it goes on by itself."""
    verify_drafts: bool = True
    """Whether what was held back is offered to the cloud as a draft, where that pays."""

    votes: int = 0
    """How often the device answers again beside an answer that is not streamed, up to 64 tokens, to
    see whether it stands by it; where nobody waits in line, and the battery is half full or being
    charged. 0: never."""
    votes_floor: float = 0.3
    """The mean likeness to those other answers below which the cloud is asked instead."""

    def __post_init__(self) -> None:
        if not 0 <= self.votes <= MOST_VOTES:
            raise ConfigError(f"must be from 0 to {MOST_VOTES}", field="router.cascade.votes")
        if not 0 <= self.votes_floor <= 1:
            raise ConfigError("must be from 0 to 1", field="router.cascade.votes_floor")
        if not 0 <= self.edge_floor <= 1:
            raise ConfigError("must be from 0 to 1", field="router.cascade.edge_floor")
        if not (math.isfinite(self.patience_s) and self.patience_s > 0):
            raise ConfigError("must be above 0 seconds", field="router.cascade.patience_s")


@dataclass(frozen=True, slots=True)
class Moment:
    """Where an answer stands when somebody thinks of handing it over."""

    shown: bool
    """The client has seen a part of it."""
    has_tool_calls: bool
    """A tool call was begun: no other tier can go on with half of one."""
    cloud_available: bool
    """There is a gateway, and its breaker lets a request pass."""
    consented: bool
    elapsed_ms: float
    """Since the request arrived."""
    cloud_ttft_ms: float | None = None
    """What the cloud is expected to take to its first token; None: not known."""


def may_be_watched(request: ChatRequest, decision: Decision, config: CascadeConfig) -> bool:
    """Whether a doubt of the device's could lead anywhere: else nothing is held back for it.

    A request that wishes for the device (`only_on_device`, `prefer_on_device`, the preset
    `private`) keeps its answer there as long as that does not fail, and where the policy lets no
    other tier answer there is nobody to hand over to. Nor is there where even the worst answer of
    the device is worth more than the cloud's, for its price or for a budget that is running out.
    """
    return (
        config.enabled
        and decision.fallback_allowed
        and request.preference.mode is RouteMode.AUTO
        and Reason.PREFERRED_EDGE not in decision.reasons
        and break_even(decision) > 0
    )


def may_vote(request: ChatRequest, health: DeviceHealth, waiting: int) -> bool:
    """Whether there is time and power for a vote of samples. `waiting`: requests in line."""
    powered = health.charging or health.battery is None or health.battery >= _BATTERY_TO_SPARE
    free_text = request.response_format.kind is ResponseKind.TEXT and not request.tools
    return powered and free_text and waiting == 0 and request.preference.ttft_slo_ms is None


def break_even(decision: Decision) -> float:
    """The quality of the device's answer below which the cloud's is worth more, as it was decided.

    0 or less: it never is. 1 where the decision does not tell.
    """
    scores, needed = decision.scores, decision.thresholds.get("gain")
    if not {"gain", "edge.quality"} <= scores.keys():
        return 1.0
    # No gain is enough where a good answer is worth nothing.
    return 0.0 if needed is None else scores["edge.quality"] + scores["gain"] - needed


def may_hand_over(request: ChatRequest, moment: Moment) -> bool:
    """Whether the cloud may go on with the answer at this moment, as far as that is known here.

    Privacy is not judged here: what leaves is scanned as it is by then.
    """
    if moment.has_tool_calls or not (moment.cloud_available and moment.consented):
        return False
    if moment.shown and request.response_format.kind is not ResponseKind.TEXT:
        return False  # whoever is held to a form begins it anew, and what was shown cannot go back
    ttft_ms = moment.cloud_ttft_ms or 0.0
    slo_ms = request.preference.ttft_slo_ms
    if not moment.shown and slo_ms is not None and moment.elapsed_ms + ttft_ms > slo_ms:
        return False
    left_s = request.deadline.remaining_s()
    return left_s is None or left_s * 1000 > 2 * ttft_ms
