"""When an upstream is ejected for what came of its requests, and for how long. Pure but for chance.

As in Envoy's outlier detection: so many failures in a row, or too many of the last ones; each
ejection takes twice as long as the one before, and good times make up for bad ones.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from isthmus.cloud.upstreams.config import UpstreamsConfig

_WINDOW: Final = 20
_LEAST_OUTCOMES: Final = 10
_FAILING_SHARE: Final = 0.5
_JITTER: Final = 0.1


class Outlier:
    """One upstream's record. Times are of one monotonic clock, in seconds."""

    def __init__(self, config: UpstreamsConfig, *, rng: random.Random | None = None) -> None:
        self._config = config
        self._rng = rng or random.Random()
        self._late: deque[bool] = deque(maxlen=_WINDOW)
        self._in_a_row = 0
        self._times = 0
        self.ejected_until_s = 0.0

    def ejected(self, now_s: float) -> bool:
        """Whether it is to be left alone."""
        return now_s < self.ejected_until_s

    def succeeded(self, now_s: float) -> None:
        """A request ended as it should."""
        self._in_a_row = 0
        self._late.append(True)
        if self._times and now_s - self.ejected_until_s > self._length_s():
            # It has been well for as long as it was away the last time.
            self._times -= 1
            self.ejected_until_s = now_s

    def failed(self, now_s: float) -> bool:
        """A request failed; whether that is enough to eject it, which `eject` does."""
        self._in_a_row += 1
        self._late.append(False)
        if self._in_a_row >= self._config.eject_after:
            return True
        failing = self._late.count(False)
        return len(self._late) >= _LEAST_OUTCOMES and failing > _FAILING_SHARE * len(self._late)

    def eject(self, now_s: float) -> None:
        """Leave it alone for a while, longer each time."""
        self._times += 1
        self._in_a_row = 0
        self._late.clear()
        jitter = 1 + self._rng.uniform(-_JITTER, _JITTER)
        self.ejected_until_s = now_s + self._length_s() * jitter

    def _length_s(self) -> float:
        doubled: float = self._config.eject_s * 2 ** max(0, min(self._times - 1, 30))
        return min(doubled, self._config.max_eject_s)
