"""Callers are looked at again while they are answered: an answer may run for minutes.

A device that is revoked, whose token or certificate ends, or whose token's key is dropped, hears
nothing more within seconds. A shared token that is replaced serves what began with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from isthmus.cloud.identity.base import Refused
from isthmus.cloud.identity.door import Door

_LOOK_S: Final = 2.0
_AT_ONCE: Final = 50
"""Calls that are looked at before the loop may do something else: about a millisecond."""


@dataclass(eq=False, slots=True)
class Look:
    """One call that is being answered."""

    context: Any
    limit: asyncio.Timeout
    refused: Refused | None = None
    """Why `limit` ran out, where that was the patrol's doing."""


class Patrol:
    """Ends the calls of those whom `door` would not let in any more. For one event loop."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._looks: set[Look] = set()
        self._walk: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to walk."""
        self._walk = asyncio.create_task(self._walking())

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        walk, self._walk = self._walk, None
        if walk is not None:
            walk.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await walk

    @contextlib.contextmanager
    def over(self, context: Any, limit: asyncio.Timeout) -> Iterator[Look]:
        """Watch the caller of `context` in this block; `limit` runs out when it is refused."""
        look = Look(context, limit)
        self._looks.add(look)
        try:
            yield look
        finally:
            self._looks.discard(look)

    async def _walking(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            for number, look in enumerate(list(self._looks), 1):
                if look in self._looks and not look.limit.expired():
                    try:
                        self._door.look_again(look.context)
                    except Refused as refused:
                        look.refused = refused
                        look.limit.reschedule(loop.time())
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
