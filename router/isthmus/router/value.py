"""What an answer of each tier is worth: the arithmetic of the policy, on floats and arrays alike.

Every argument may be a float or a numpy array of any one shape, so that a simulation of a fleet
computes with the very functions that decide on the device. Money is micro-dollars, time
milliseconds. A term that is not known is left out by its caller, for both tiers, never set to
zero for one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from isthmus.core.money import MICRO_USD_PER_USD
from isthmus.router.presets import Weights

Numbers: TypeAlias = float | NDArray[np.float64]

MAX_SCARCITY = 20.0
"""How many times as dear as on a full battery its last percent above the floor is."""
_URGENCY = 20.0
_MAX_EXPONENT = 12.0
"""At most some hundred thousand times: by then nothing is worth its price."""


@dataclass(frozen=True, slots=True)
class Worth:
    """One tier's value and its terms, in micro-dollars: quality less all the others."""

    quality: Numbers
    price: Numbers = 0.0
    time: Numbers = 0.0
    energy: Numbers = 0.0
    moving: Numbers = 0.0
    """The time to compute again what the other tier has in its cache."""
    leaving: Numbers = 0.0
    """What staying on the device would have been worth, and a price that nobody told."""

    @property
    def cost(self) -> Numbers:
        """Everything that is taken from the quality's value."""
        return self.price + self.time + self.energy + self.moving + self.leaving

    @property
    def value(self) -> Numbers:
        """What decides."""
        return self.quality - self.cost


def quality_worth(quality: Numbers, weights: Weights) -> Numbers:
    """The worth of an answer that is good with probability `quality`."""
    return quality * (weights.good_answer_usd * MICRO_USD_PER_USD)


def believed(edge: Numbers, cloud: Numbers, trust: Numbers) -> Numbers:
    """The cloud's quality when its distance to the device's is believed to the part `trust`."""
    return edge + trust * (cloud - edge)


def felt_price(price_micro_usd: Numbers, shadow: Numbers) -> Numbers:
    """The price with the part that a budget puts on it (`shadow_price`)."""
    return price_micro_usd * (1.0 + shadow)


def time_worth(waiting_ms: Numbers, weights: Weights) -> Numbers:
    """What so much waiting costs."""
    return waiting_ms * (weights.second_usd * MICRO_USD_PER_USD / 1000.0)


def leaving_worth(weights: Weights, *, priced: bool = True) -> float:
    """What is given up when a request leaves the device, for a cloud that told its price or not."""
    return (weights.leave_usd + (0.0 if priced else weights.unpriced_usd)) * MICRO_USD_PER_USD


def waiting_ms(ttft_ms: Numbers, tpot_ms: Numbers, tokens: Numbers, reading_ms: Numbers) -> Numbers:
    """How long a reader waits for an answer of `tokens` that streams.

    A token that comes before the one before it is read (in `reading_ms`) costs no waiting; a
    program reads in no time at all, and waits for all of it.
    """
    return ttft_ms + tokens * positive(tpot_ms - reading_ms)


def energy_worth(
    joules: Numbers, battery_wh: Numbers, share: Numbers, floor: Numbers, weights: Weights
) -> Numbers:
    """What `joules` cost out of a battery of `battery_wh` that is full to `share` (0 to 1)."""
    percent = joules / (battery_wh * 36.0)
    price = percent * (weights.battery_percent_usd * MICRO_USD_PER_USD)
    return price * scarcity(share, floor)


def scarcity(share: Numbers, floor: Numbers) -> Numbers:
    """How dear a part of the battery is: 1 when full, `MAX_SCARCITY` at its floor."""
    left = positive(share - floor) / (1.0 - floor)
    return 1.0 / at_least(left, 1.0 / MAX_SCARCITY)


def shadow_price(spent: Numbers, limit: Numbers, elapsed: Numbers) -> Numbers:
    """What a budget adds to each unit of price: 0 while `spent` of `limit` keeps to its pace.

    `elapsed` is how much of the period is over, 0 to 1. Let a be the share that was spent ahead of
    it, and l the share that is left: the price is felt exp(20 a / l) times. It rises by itself
    until requests that are worth less stay away, and steeply as the budget runs out.
    Exponential in what was spent, as in Zhou, Chakrabarty and Lukose, "Budget constrained bidding
    in keyword auctions and online knapsack problems" (2008), but against the clock.
    """
    share = spent / limit
    ahead = positive(share - elapsed)
    left = at_least(1.0 - share, 1e-9)
    exponent = -at_least(-_URGENCY * ahead / left, -_MAX_EXPONENT)
    grown = np.exp(exponent) if isinstance(exponent, np.ndarray) else math.exp(exponent)
    return grown - 1.0


def positive(value: Numbers) -> Numbers:
    """`value` where it is above 0, else 0."""
    return at_least(value, 0.0)


def at_least(value: Numbers, least: Numbers) -> Numbers:
    """The larger of the two. On floats ten times as quick as numpy's."""
    if isinstance(value, np.ndarray) or isinstance(least, np.ndarray):
        return np.maximum(value, least)
    return max(value, least)
