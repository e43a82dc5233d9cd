"""An answer on its way to one caller: at once while the loop keeps up, in larger pieces when not.

A message costs the gateway as much work as three tokens. When many streams run the loop falls
behind; every stream then waits a little between two messages, and what came meanwhile is one. The
first piece of an answer never waits, and few streams hardly do: where a loop is late that writes
little, something else has the processor, and waiting would not give it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

from isthmus.cloud.answers import Reader
from isthmus.core import wire
from isthmus.core.events import Finished, Started

_LOOK_S: Final = 0.05
_LATE_S: Final = 0.004
"""The loop is behind when it wakes later than this."""
_LEAST_S: Final = 0.01
MOST_S: Final = 0.25
"""A reader of text sees no difference below it."""
_WRITE_S: Final = 0.00025
"""No pause is longer than lets all streams write in turn, one message in this time: about four
times what it takes."""
_MORE: Final = 1.5
_LESS: Final = 0.9


class Pace:
    """How long a stream waits between two messages."""

    def __init__(self) -> None:
        self.streams = 0
        """How many answers are on their way."""
        self._wanted_s = 0.0
        self._watch: asyncio.Task[None] | None = None

    @property
    def pause_s(self) -> float:
        """In seconds; 0 while the loop keeps up."""
        pause_s = min(self._wanted_s, self.streams * _WRITE_S)
        return pause_s if pause_s >= _LEAST_S else 0.0

    def start(self) -> None:
        """Watch the running loop."""
        self._watch = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Watch no more. Idempotent."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def saw(self, late_s: float) -> None:
        """The loop woke so much later than it was asked to."""
        if late_s > _LATE_S:
            self._wanted_s = min(MOST_S, max(_LEAST_S, self._wanted_s * _MORE))
        else:
            self._wanted_s = self._wanted_s * _LESS if self._wanted_s > _LEAST_S else 0.0

    async def _look(self) -> None:
        while True:
            due_s = time.monotonic() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self.saw(time.monotonic() - due_s)


async def deliver(
    reader: Reader, context: Any, pace: Pace, merged: Callable[[int], None] = lambda pieces: None
) -> None:
    """Write what `reader` reads, up to the end. Raises the answer's error.

    `merged` hears how many pieces went in another one's message.
    """
    pace.streams += 1
    try:
        while True:
            event, pieces = await reader.next()
            for message in wire.event_to_wire(event):
                await context.write(message)
            if isinstance(event, Finished):
                return
            if pieces > 1:
                merged(pieces - 1)
            if pace.pause_s and not isinstance(event, Started):
                await asyncio.sleep(pace.pause_s)
    finally:
        pace.streams -= 1
