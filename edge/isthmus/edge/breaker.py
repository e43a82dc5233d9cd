"""A circuit breaker: stops asking a tier that keeps failing, and tries again after a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """The three states of the pattern (M. Nygard, Release It!, chapter 5)."""

    CLOSED = "closed"
    """All is well: requests pass."""
    OPEN = "open"
    """Too many failures of late: nothing passes."""
    HALF_OPEN = "half_open"
    """The pause is over: one request at a time passes and decides."""


class CircuitBreaker:
    """`failures` in a row open it for `open_s` seconds; then one trial closes or opens it again.

    Pure but for `clock` (seconds, monotonic). Every `try_acquire` that says yes must be followed
    by `succeed`, `fail` or `release`; a request that went well at first may still fail later.
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        open_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1 or open_s < 0:
            raise ValueError("failures must be at least 1 and open_s not negative")
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened_at_s: float | None = None
        self._trial_running = False

    @property
    def state(self) -> BreakerState:
        """The state now; an open breaker turns half open by itself."""
        if self._opened_at_s is None:
            return BreakerState.CLOSED
        if self._clock() - self._opened_at_s < self._open_s:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    @property
    def retry_after_s(self) -> float:
        """Seconds until a request may pass again; 0 unless open."""
        if self._opened_at_s is None:
            return 0.0
        return max(0.0, self._opened_at_s + self._open_s - self._clock())

    @property
    def allows(self) -> bool:
        """Whether `try_acquire` would say yes now."""
        state = self.state
        return state is BreakerState.CLOSED or (
            state is BreakerState.HALF_OPEN and not self._trial_running
        )

    def try_acquire(self) -> bool:
        """Ask to send one request; half open, only one at a time gets a yes."""
        if not self.allows:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._trial_running = True
        return True

    def succeed(self) -> None:
        """The request was answered: close."""
        self._failures = 0
        self._opened_at_s = None
        self._trial_running = False

    def fail(self) -> None:
        """The request failed by the tier's fault: count it, and open when it was one too many."""
        self._failures += 1
        if self._trial_running or self._failures >= self._limit:
            self._opened_at_s = self._clock()
        self._trial_running = False

    def release(self) -> None:
        """The request ended without saying anything about the tier (its caller went away)."""
        self._trial_running = False
