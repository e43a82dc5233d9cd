"""Names for what things are worth: how much quality, against money, time, battery and staying.

All worths are dollars, so only their ratios decide. They are opinions, stated openly: `balanced`
says that a good answer in place of a bad one is worth a cent, as much as half a minute of waiting
or ten percent of a battery, and that the cloud has to be better by 15 of a hundred answers before
a request leaves the device, by 35 where nobody told what it costs. Whoever thinks otherwise sets
the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CloudUse(StrEnum):
    """When a preset lets requests leave that do not ask for the cloud themselves."""

    WHEN_WORTH_MORE = "when_worth_more"
    WHEN_NEEDED = "when_needed"
    """Only what the device cannot answer at all (no model, context, capability)."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Weights:
    """What things are worth, in dollars."""

    good_answer_usd: float
    """A good answer in the place of a bad one: the worth of one unit of quality."""
    second_usd: float
    """A second that the user does not wait."""
    battery_percent_usd: float
    """A hundredth of the battery when it is full; it becomes dearer towards the floor."""
    leave_usd: float
    """That a request stays on the device."""
    unpriced_usd: float
    """What an answer of a cloud that told no price is taken to cost. What is not known is not free:
    else all that gains anything would leave."""


class Preset(StrEnum):
    """The names."""

    SAVER = "saver"
    BALANCED = "balanced"
    BEST = "best"
    PRIVATE = "private"
    OFFLINE = "offline"

    @property
    def weights(self) -> Weights:
        """What things are worth under this name."""
        return _WEIGHTS[self]

    @property
    def cloud_use(self) -> CloudUse:
        """When requests leave under this name."""
        return _CLOUD_USE.get(self, CloudUse.WHEN_WORTH_MORE)


_BALANCED = Weights(0.01, 0.0003, 0.001, 0.0015, 0.002)
_WEIGHTS = {
    Preset.SAVER: Weights(0.002, 0.00006, 0.0005, 0.0006, 0.0004),
    Preset.BALANCED: _BALANCED,
    Preset.BEST: Weights(0.1, 0.001, 0.001, 0.002, 0.003),
    Preset.PRIVATE: _BALANCED,
    Preset.OFFLINE: _BALANCED,
}
_CLOUD_USE = {Preset.PRIVATE: CloudUse.WHEN_NEEDED, Preset.OFFLINE: CloudUse.NEVER}
