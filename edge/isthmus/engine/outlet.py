"""An answer's way from the engine's thread to the event loop of whoever reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from isthmus.core.deadline import Deadline
from isthmus.core.errors import DeadlineExceeded, IsthmusError
from isthmus.core.events import Event, Finished

_GRACE_S: Final = 1.0
"""A step may end this long after a deadline before the answer ends without it."""


class Outlet:
    """The events of one answer, in order. Made in the loop that reads it."""

    def __init__(self, deadline: Deadline) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | IsthmusError] = asyncio.Queue()
        self._deadline = deadline

    def put(self, event: Event | IsthmusError) -> None:
        """The next event, or the error that ends the answer. From any thread; never blocks."""
        # A loop that was closed has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def events(self) -> AsyncGenerator[Event, None]:
        """All of them, the last one `Finished`. Raises the error that ended the answer."""
        # The engine's thread heeds the deadline between two steps; one may never end.
        late = DeadlineExceeded("the time for this answer is used up")
        left_s = self._deadline.remaining_s()
        alarm = None
        if left_s is not None:
            alarm = self._loop.call_later(left_s + _GRACE_S, self.put, late)
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, IsthmusError):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            if alarm is not None:
                alarm.cancel()
