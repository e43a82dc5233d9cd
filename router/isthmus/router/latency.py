"""How long each tier will take, learned from what it took of late.

Nothing is assumed: a figure that was never measured is `None`. A time to the first token is
predicted as

    device: queue + (prompt - cached) · time per prompt token + a constant
    cloud:  round trip + (prompt - cached) · time per prompt token + a constant

where the constant and the slope are a line fitted to recent answers, the queue what now waits, and
the tail the spread of recent answers around the line. Spreads are kept of logarithms: times vary
by factors, and no prediction can become negative. An exponentially weighted mean and deviation,
as TCP keeps of its round trip (RFC 6298, section 2), forget what was long ago.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

NEWEST_WEIGHT = 0.1
"""What the latest measurement weighs, once there are enough of them."""
_P95 = 1.645 * math.sqrt(math.pi / 2)
"""The 95th percentile of a normal distribution, in mean absolute deviations."""
_FIRST_SPREAD = 0.35
"""The spread that a single measurement is taken to have: its 95th percentile is twice it."""
_FIRST_WEIGHT = 4
"""How many measurements that assumption counts for."""
_SETTLED = 5
"""After so many measurements a line is not bent by a single one."""
_LARGEST_STEP = 2.0
MEMORY_S = 900.0
"""After so long without an answer nothing is known of a tier any more. A tier that was slow once
would otherwise never be asked again, and never be found to have recovered."""
LEAST_MS = 0.01
MOST_MS = 1e9


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one tier is expected to take for one request, in milliseconds; `None`: not known."""

    ttft_p50_ms: float | None = None
    """To the first token, queue and round trip included."""
    ttft_p95_ms: float | None = None
    tpot_p50_ms: float | None = None
    """Each token after the first."""
    prefill_ms_per_token: float | None = None
    """Each token of the prompt that is in no cache."""


@dataclass(slots=True)
class Tail:
    """Median and 95th percentile of positive values that drift."""

    count: int = 0
    _mean: float = 0.0
    _spread: float = _FIRST_SPREAD

    def observe(self, value: float) -> None:
        """Learn one value; what is not a positive number is not one."""
        if not (math.isfinite(value) and value > 0):
            return
        log = math.log(min(MOST_MS, max(LEAST_MS, value)))
        self.count += 1
        if self.count == 1:
            self._mean = log
            return
        error = abs(log - self._mean)
        self._mean += max(NEWEST_WEIGHT, 1 / self.count) * (log - self._mean)
        weight = max(NEWEST_WEIGHT, 1 / (self.count + _FIRST_WEIGHT - 1))
        self._spread += weight * (error - self._spread)

    @property
    def p50(self) -> float | None:
        """Half of the values are below."""
        return math.exp(self._mean) if self.count else None

    @property
    def p95(self) -> float | None:
        """Nearly all of the values are below."""
        return math.exp(self._mean + _P95 * self._spread) if self.count else None


@dataclass(slots=True)
class Line:
    """The line through recent points by least squares, older points weighing less.

    Neither slope nor constant is ever negative: more tokens never take less time.
    """

    _n: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0

    def observe(self, x: float, y: float) -> None:
        """Learn one point."""
        keep = 1 - NEWEST_WEIGHT
        self._n = keep * self._n + 1
        self._x = keep * self._x + x
        self._y = keep * self._y + y
        self._xx = keep * self._xx + x * x
        self._xy = keep * self._xy + x * y

    @property
    def slope(self) -> float | None:
        """Of one step in x; None while all points have the same x, or there are none."""
        fit = self._fit()
        return None if fit is None else fit[1]

    def at(self, x: float) -> float | None:
        """The line's height; None while nothing was observed.

        Points of one x tell no slope from a constant: to their left all is taken to be constant,
        to their right all slope, so that neither side is promised too much.
        """
        if not self._n:
            return None
        fit = self._fit()
        if fit is None:
            mean_x, mean_y = self._x / self._n, self._y / self._n
            return mean_y * max(1.0, x / mean_x) if mean_x > 0 else mean_y
        constant, slope = fit
        return constant + slope * x

    def _fit(self) -> tuple[float, float] | None:
        if not self._n:
            return None
        mean_x, mean_y = self._x / self._n, self._y / self._n
        variance = self._xx / self._n - mean_x**2
        if variance <= 1e-3 * mean_x**2 or variance <= 0:
            return None
        slope = (self._xy / self._n - mean_x * mean_y) / variance
        if slope <= 0:
            return mean_y, 0.0
        constant = mean_y - slope * mean_x
        return (constant, slope) if constant >= 0 else (0.0, self._xy / self._xx)


@dataclass(slots=True)
class TierLatency:
    """What was measured of one tier. For one event loop."""

    rtt: Tail = field(default_factory=Tail)
    """Of the network; the device has none."""
    tpot: Tail = field(default_factory=Tail)
    service: Tail = field(default_factory=Tail)
    """From its first token to its last: what somebody who waits in line waits for."""
    clock: Callable[[], float] = time.monotonic
    _line: Line = field(default_factory=Line)
    _error: Tail = field(default_factory=Tail)
    _latest_s: float | None = None

    def observe(
        self,
        *,
        new_tokens: int,
        ttft_ms: float | None,
        tpot_ms: float | None,
        service_ms: float | None = None,
        queue_ms: float = 0.0,
        rtt_ms: float | None = None,
    ) -> None:
        """Learn from one answer. `new_tokens` of its prompt were not cached; `queue_ms` of its
        time to the first token was waiting in line.
        """
        self._forget()
        if rtt_ms is not None:
            self.rtt.observe(rtt_ms)
        if ttft_ms is not None and math.isfinite(ttft_ms):
            self._latest_s = self.clock()
            own = min(MOST_MS, max(LEAST_MS, ttft_ms - queue_ms - (self.rtt.p50 or 0.0)))
            expected = self._line.at(new_tokens)
            if expected is not None:
                expected = max(LEAST_MS, expected)
                self._error.observe(own / expected)
                if self._error.count >= _SETTLED:
                    # One hiccup is for the tail to know; a change that stays gets here in steps.
                    own = min(own, expected * _LARGEST_STEP)
            self._line.observe(new_tokens, own)
        if tpot_ms is not None:
            self.tpot.observe(tpot_ms)
        if service_ms is not None:
            self.service.observe(service_ms)

    def observe_at_least(self, *, new_tokens: int, ttft_ms: float) -> None:
        """Learn that a first token took longer than `ttft_ms`: nothing, when that was expected."""
        expected = self.predict(new_tokens=new_tokens).ttft_p50_ms
        if expected is not None and ttft_ms > expected:
            self.observe(new_tokens=new_tokens, ttft_ms=ttft_ms, tpot_ms=None)

    def predict(self, *, new_tokens: int, waiting: int = 0, at_once: int = 1) -> Prediction:
        """What a request takes of whose prompt `new_tokens` are not cached.

        `waiting` others are in line before it, of whom `at_once` are served at the same time. The
        95th percentile adds up those of the parts: they may well go wrong together.
        """
        self._forget()
        line_ms = self._line.at(new_tokens)
        ttft_p50, ttft_p95 = None, None
        if line_ms is not None:
            line_ms = max(LEAST_MS, line_ms)
            worst = self._error.p95 or math.exp(_P95 * _FIRST_SPREAD)
            turns = waiting / max(1, at_once)
            ttft_p50 = line_ms + (self.rtt.p50 or 0.0) + turns * (self.service.p50 or 0.0)
            ttft_p95 = (
                line_ms * max(1.0, worst)
                + (self.rtt.p95 or 0.0)
                + turns * (self.service.p95 or 0.0)
            )
        return Prediction(ttft_p50, ttft_p95, self.tpot.p50, self._line.slope)

    def _forget(self) -> None:
        """Know nothing any more of what was last measured `MEMORY_S` ago."""
        if self._latest_s is not None and self.clock() - self._latest_s > MEMORY_S:
            self.rtt, self.tpot, self.service = Tail(), Tail(), Tail()
            self._line, self._error = Line(), Tail()
            self._latest_s = None
