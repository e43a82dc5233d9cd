"""How long a device waits between calls of the fleet's: spread, and longer after each failure."""

from __future__ import annotations

import random
from collections.abc import Callable

_SPREAD = 0.2
_FIRST_S = 1.0
_LONGEST_S = 3600.0


class Pauses:
    """The pauses of one kind of call. Ten thousand devices must not come at once."""

    def __init__(self, usual_s: float, *, draw: Callable[[], float] = random.random) -> None:
        """`draw` gives numbers from 0 to 1."""
        self.usual_s = usual_s
        self._draw = draw
        self._failures = 0

    def at_start(self) -> float:
        """Before the first call, in seconds."""
        return min(5.0, self.usual_s) * self._draw()

    def after_success(self) -> float:
        """The usual pause, in seconds."""
        self._failures = 0
        return self.usual_s * (1 + _SPREAD * (2 * self._draw() - 1))

    def after_failure(self, at_least_s: float = 0.0) -> float:
        """Twice as long each time, up to an hour, drawn from its upper half; in seconds.

        `at_least_s`: what the gateway asked for.
        """
        longest = max(_LONGEST_S, self.usual_s)
        pause_s = min(longest, min(_FIRST_S, self.usual_s) * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return at_least_s + pause_s * (0.5 + 0.5 * self._draw())
