"""Bounded admission: so many requests at once, so many waiting, the rest told when to come back.

Who waits is served by priority, and within one by arrival. When the queue is full, a request takes
the place of the latest of a lower priority. One whose deadline would pass in the queue is refused
when it comes, not when it is too late. A backend that has a queue of its own gets no more to do: it
knows neither priorities nor deadlines.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

from isthmus.core.chat import Priority
from isthmus.core.deadline import Deadline
from isthmus.core.errors import IsthmusError, Overloaded

_NEW_SAMPLE_WEIGHT: Final = 0.2
_FIRST_GUESS_S: Final = 1.0
_LOOK_AGAIN_S: Final = 0.1


class Shed(StrEnum):
    """Why a request was refused."""

    QUEUE_FULL = "queue_full"
    PUSHED_OUT = "pushed_out"
    """One of a higher priority took its place in the queue."""
    DEADLINE = "deadline"
    """It would not have had its turn in time."""
    DRAINING = "draining"


class _Waiting:
    """A request in the queue. Its turn comes as the result of `turn`."""

    def __init__(self) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Admission:
    """`max_running` requests at once; `max_waiting` wait. For one event loop.

    `drowning` tells whether the backend has more to do than it can. `waited` hears how long each
    request waited for its turn (seconds), `shed` why one was refused.
    """

    def __init__(
        self,
        *,
        max_running: int,
        max_waiting: int,
        drowning: Callable[[], bool] = lambda: False,
        waited: Callable[[Priority, float], None] = lambda priority, seconds: None,
        shed: Callable[[Shed], None] = lambda why: None,
    ) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.running = 0
        self._queues: dict[Priority, deque[_Waiting]] = {one: deque() for one in Priority}
        """In the order in which they are served."""
        self._drowning = drowning
        self._waited = waited
        self._shed = shed
        self._typical_s: float | None = None
        """How long requests took of late."""
        self._look: asyncio.TimerHandle | None = None
        """To see whether the backend still drowns, while requests are held back for that alone."""

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def slot(
        self, priority: Priority = Priority.NORMAL, deadline: Deadline = Deadline.NEVER
    ) -> AsyncIterator[None]:
        """Hold one slot. Raises `Overloaded` at once where waiting is no use."""
        arrived_s = time.monotonic()
        if self._free and not self.waiting:
            self.running += 1
        else:
            await self._turn(priority, deadline)
        began_s = time.monotonic()
        self._waited(priority, began_s - arrived_s)
        try:
            yield
        finally:
            self._learn(time.monotonic() - began_s)
            self._pass_on()

    def turn_away(self, reason: IsthmusError) -> None:
        """Refuse everybody who waits."""
        for one in self._everybody():
            self._refuse(one, reason, Shed.DRAINING)

    def expected_wait_s(self, priority: Priority = Priority.NORMAL) -> float:
        """How long a newcomer would wait for a slot, from how long requests took of late."""
        ahead = sum(len(queue) for one, queue in self._queues.items() if not _before(priority, one))
        typical_s = _FIRST_GUESS_S if self._typical_s is None else self._typical_s
        return round(max(0.1, (ahead + 1) * typical_s / self.max_running), 3)

    # --- inside -------------------------------------------------------------------------------

    @property
    def _free(self) -> bool:
        """Whether one more may run. The only one always may: nobody else would pass a slot on."""
        return self.running < self.max_running and not (self.running and self._drowning())

    async def _turn(self, priority: Priority, deadline: Deadline) -> None:
        """Wait for a slot, which is then this request's."""
        wait_s, left_s = self.expected_wait_s(priority), deadline.remaining_s()
        if self._typical_s is not None and left_s is not None and left_s < wait_s:
            self._shed(Shed.DEADLINE)
            raise Overloaded(
                f"the queue takes about {wait_s:g} s, longer than the deadline allows; come back "
                "later or give it more time",
                retry_after_s=wait_s,
            )
        if self.waiting >= self.max_waiting:
            self._make_room(priority)
        waiting = _Waiting()
        self._queues[priority].append(waiting)
        self._look_later()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            turn = waiting.turn
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # it had come, and nobody takes it
            elif waiting in self._queues[priority]:
                self._queues[priority].remove(waiting)
            raise

    def _make_room(self, priority: Priority) -> None:
        """Push out the latest of a lower priority. Raises `Overloaded` when there is none."""
        full = Overloaded(
            f"the gateway is full ({self.running} running, {self.waiting} waiting); "
            "come back later",
            retry_after_s=self.expected_wait_s(priority),
        )
        for lower, queue in reversed(self._queues.items()):
            if queue and _before(priority, lower):
                self._refuse(queue.pop(), full, Shed.PUSHED_OUT)
                return
        self._shed(Shed.QUEUE_FULL)
        raise full

    def _pass_on(self) -> None:
        """A slot is free: to the next in line, if there is one, and another one that was held back
        while the backend was drowning.
        """
        self.running -= 1
        for _ in range(2):
            if not self._let_in():
                break
        self._look_later()

    def _let_in(self) -> bool:
        """Give a free slot to the first in line; whether there were both."""
        turn = self._next() if self._free else None
        if turn is None:
            return False
        self.running += 1
        turn.set_result(None)
        return True

    def _look_later(self) -> None:
        """What keeps a backend busy may be others' requests, whose end nobody tells."""
        if self._look is None and self.running < self.max_running and self.waiting:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._let_in()
        self._look_later()

    def _next(self) -> asyncio.Future[None] | None:
        """The turn of the first in line."""
        for queue in self._queues.values():
            while queue:
                turn = queue.popleft().turn
                if not turn.done():
                    return turn
        return None

    def _everybody(self) -> Iterator[_Waiting]:
        for queue in self._queues.values():
            while queue:
                yield queue.pop()

    def _refuse(self, waiting: _Waiting, reason: IsthmusError, why: Shed) -> None:
        if not waiting.turn.done():
            self._shed(why)
            waiting.turn.set_exception(reason)

    def _learn(self, took_s: float) -> None:
        known_s = took_s if self._typical_s is None else self._typical_s
        self._typical_s = known_s + _NEW_SAMPLE_WEIGHT * (took_s - known_s)


_ORDER: Final = {priority: place for place, priority in enumerate(Priority)}


def _before(one: Priority, other: Priority) -> bool:
    """Whether `one` is served before `other`."""
    return _ORDER[one] < _ORDER[other]
