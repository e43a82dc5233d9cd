"""Bounded admission: so many requests at once, so many waiting in order, the rest refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from isthmus.core.errors import Overloaded

_NEW_SAMPLE_WEIGHT: Final = 0.2
_FIRST_GUESS_S: Final = 1.0


class Admission:
    """`max_running` requests at once; `max_waiting` wait, first come first served."""

    def __init__(self, *, max_running: int, max_waiting: int) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.running = 0
        self.waiting = 0
        self._slots = asyncio.Semaphore(max_running)
        self._typical_s = _FIRST_GUESS_S

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one slot. Raises `Overloaded` at once when the queue is full."""
        if self._slots.locked() and self.waiting >= self.max_waiting:
            raise Overloaded(
                f"the gateway is full ({self.running} running, {self.waiting} waiting); "
                "come back later",
                retry_after_s=self.expected_wait_s(),
            )
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
            self._typical_s += _NEW_SAMPLE_WEIGHT * (time.monotonic() - began_s - self._typical_s)

    def expected_wait_s(self) -> float:
        """How long a newcomer would wait for a slot, from how long requests took of late."""
        return round(max(0.1, (self.waiting + 1) * self._typical_s / self.max_running), 3)
