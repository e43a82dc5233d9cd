"""The devices: each answers one request at a time, first come, first served, from its battery."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from isthmus.router.config import BudgetLimits
from isthmus.router.simulation.arrivals import DAY_S
from isthmus.router.simulation.requests import Floats, Ints
from isthmus.router.simulation.scenario import DeviceKind
from isthmus.router.value import shadow_price

UNPLUGGED_H = (7.0, 23.0)
"""Phones are charged at night."""
OTHER_USE = 0.7
"""What else takes out of a phone's battery from morning to night, assumed."""
MONTH_S = 30 * DAY_S


class Devices:
    """State of `count` devices in columns; the kinds have the shares that they should."""

    def __init__(self, count: int, kinds: tuple[DeviceKind, ...], budget: BudgetLimits) -> None:
        shares = np.cumsum([kind.share for kind in kinds])
        place = (np.arange(count) + 0.5) / count
        self.kind = np.searchsorted(shares / shares[-1], place).astype(np.int8)
        self.kind = np.minimum(self.kind, len(kinds) - 1)
        self.free_s = np.zeros(count)
        """When each has answered all that it has taken."""
        self.drained_j = np.zeros(count, np.float32)
        """Since it was last plugged in."""
        self.context_tokens = np.array([kind.context_tokens for kind in kinds])
        self.prefill_s = 1 / np.array([kind.prefill_tok_s for kind in kinds])
        self.decode_s = 1 / np.array([kind.decode_tok_s for kind in kinds])
        self.prefill_j = np.array([kind.prefill_j_per_tok for kind in kinds])
        self.decode_j = np.array([kind.decode_j_per_tok for kind in kinds])
        self.battery_wh = np.array([kind.battery_wh or np.nan for kind in kinds])
        self.limits = [
            (limit, length_s, np.zeros(count, np.int64), np.full(count, -1, np.int32))
            for limit, length_s in (
                (budget.micro_usd("day"), DAY_S),
                (budget.micro_usd("month"), MONTH_S),
            )
            if limit is not None
        ]
        """Each budget: its limit, its length, what each device spent, in which period."""

    def battery(self, device: Ints, time_of_day_s: Floats) -> Floats:
        """How full, 0 to 1; not a number where it is plugged in."""
        wh = self.battery_wh[self.kind[device]]
        hour = time_of_day_s % DAY_S / 3600
        begin, end = UNPLUGGED_H
        plugged = (hour < begin) | (hour >= end) | np.isnan(wh)
        self.drained_j[device[plugged]] = 0
        level = 1 - OTHER_USE * (hour - begin) / (end - begin)
        level = level - self.drained_j[device] / (np.nan_to_num(wh, nan=1.0) * 3600)
        return np.where(plugged, np.nan, np.maximum(level, 0.0))

    def drain(self, device: Ints, joules: Floats) -> None:
        """Take from batteries."""
        np.add.at(self.drained_j, device, joules.astype(np.float32))

    def serve(
        self, device: Ints, ready_s: Floats, prefill_tokens: Ints, answer_tokens: Ints
    ) -> tuple[Floats, Floats, Floats]:
        """Answer, at most one request a device in one call: first token, last token, joules."""
        kind = self.kind[device]
        start = np.maximum(ready_s, self.free_s[device])
        first = start + prefill_tokens * self.prefill_s[kind]
        last = first + np.maximum(answer_tokens - 1, 0) * self.decode_s[kind]
        self.free_s[device] = last
        joules = prefill_tokens * self.prefill_j[kind] + answer_tokens * self.decode_j[kind]
        self.drain(device, joules)
        return first, last, joules

    def budget(self, device: Ints, time_s: Floats) -> tuple[Floats, Floats]:
        """What is left to each device in micro-dollars (infinite without a limit), and the shadow
        price that its spending makes.
        """
        left = np.full(len(device), np.inf)
        shadow = np.zeros(len(device))
        for limit, length_s, spent, period in self.limits:
            now = (time_s / length_s).astype(np.int32)
            fresh = period[device] != now
            spent[device[fresh]] = 0
            period[device] = now
            here = spent[device].astype(np.float64)
            left = np.minimum(left, np.maximum(limit - here, 0.0))
            if limit > 0:
                elapsed = time_s % length_s / length_s
                shadow = np.maximum(shadow, np.asarray(shadow_price(here, limit, elapsed)))
        return left, shadow

    def pay(self, device: Ints, micro_usd: Ints) -> None:
        """Book what the cloud cost."""
        for _, _, spent, _ in self.limits:
            np.add.at(spent, device, micro_usd)


def one_by_one(device: Ints) -> Iterator[Ints]:
    """Rows in rounds: each device at most once a round, in the order of its rows."""
    if not len(device):
        return
    order = np.argsort(device, kind="stable")
    ordered = device[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]]
    place = np.arange(len(ordered))
    turn = place - np.maximum.accumulate(np.where(begins, place, 0))
    for number in range(int(turn.max()) + 1):
        yield order[turn == number]
