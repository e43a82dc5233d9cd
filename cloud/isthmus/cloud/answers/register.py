"""Which answers there are: those being written, and for a while those that were.

A request that comes again by the same device, with the same body, reads the answer that is there:
the running one, the complete one, or what was written before it broke off, from where it goes on.
Another body under the same id is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isthmus.cloud.answers.answer import Answer, Asked, Key, Reader
from isthmus.cloud.answers.log import Log
from isthmus.core.errors import AlreadyExists, IsthmusError, Unavailable


@dataclass(frozen=True, slots=True)
class Window:
    """How long, how many and how much of the answers that ended are kept."""

    keep_s: float = 60.0
    max_answers: int = 10_000
    max_bytes: int = 64 * 2**20


class Found(StrEnum):
    """What a request found under its id."""

    NOTHING = "nothing"
    RUNNING = "running"
    """Being written: it reads along and pays nothing of its own."""
    COMPLETE = "complete"
    """Written to its end: it reads it again."""
    BROKEN_OFF = "broken_off"
    """Here, and not to its end: the work goes on behind it."""
    ELSEWHERE = "elsewhere"
    """Begun by another gateway, or written anew since: the work goes on behind what it brings."""


@dataclass(frozen=True, slots=True)
class _Ended:
    at_s: float
    size_bytes: int


class Answers:
    """The answers of one gateway, by device and request. For one event loop."""

    def __init__(
        self,
        work: Callable[[Asked, Answer], Coroutine[Any, Any, None]],
        window: Window,
        found: Callable[[Found], None] = lambda found: None,
    ) -> None:
        self._work = work
        self._window = window
        self._found = found
        self._known: dict[Key, Answer] = {}
        self._ended: OrderedDict[Key, _Ended] = OrderedDict()
        """Those that can be dropped, the oldest first."""
        self.kept_bytes = 0
        self.running = 0
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def kept(self) -> int:
        """How many are kept that have ended."""
        return len(self._ended)

    def attend(self, asked: Asked) -> Reader:
        """A reader of the answer to `asked`, from behind what it has received.

        Raises `AlreadyExists` when another body has the id, `Overloaded` when too many read along.
        """
        request, answer = asked.request, self._known.get(asked.key)
        if answer is None:
            answer = self._begin(asked)
            return answer.reader(None if request.received is None else answer.log.last)
        if answer.body != asked.body:
            raise AlreadyExists(
                "another request of this device has this id; give each one its own",
                field="request_id",
            )
        place = None
        if request.received is not None:
            known = answer.log.behind(request.received, request.received_tokens)
            if known is None:
                answer.stop(Unavailable("the device goes on with another text of this answer"))
                answer = self._begin(asked)
                return answer.reader(answer.log.last)
            place = known
        if not (answer.running or answer.complete):
            return self._go_on(asked, answer).reader(place)
        reader = answer.reader(place)
        self._found(Found.RUNNING if answer.running else Found.COMPLETE)
        return reader

    def leave(self, asked: Asked, reader: Reader) -> None:
        """The call of `reader` is over. Nobody else reading, the work is stopped at once."""
        if reader.close():
            reader.answer.stop(Unavailable("its caller went away"))

    def stop(self, reason: IsthmusError) -> None:
        """Stop every answer that is being written; what was written is still delivered."""
        for answer in list(self._known.values()):
            answer.stop(reason)

    async def close(self, patience_s: float) -> None:
        """Wait until all work has let go and is accounted for, for so long; forget what is kept."""
        tasks = [answer.task for answer in self._known.values() if answer.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
        if self._sweep is not None:
            self._sweep.cancel()
        self._ended.clear()
        self._known.clear()

    # --- inside -------------------------------------------------------------------------------

    def _begin(self, asked: Asked) -> Answer:
        request = asked.request
        if request.received is None:
            log, found = Log(), Found.NOTHING
        else:
            log, found = Log(request.received, request.received_tokens), Found.ELSEWHERE
        answer = Answer(request.request_id, asked.body, log)
        self._forget(asked.key)
        self._known[asked.key] = answer
        self._run(asked, answer, found)
        return answer

    def _go_on(self, asked: Asked, answer: Answer) -> Answer:
        if not answer.log.has_tool_calls:
            self._run(asked, answer, Found.BROKEN_OFF)
            return answer
        if asked.request.received is not None:
            raise Unavailable("the answer broke off in a tool call, which nobody can go on from")
        return self._begin(asked)

    def _run(self, asked: Asked, answer: Answer, found: Found) -> None:
        self._found(found)
        self._unlist(asked.key)
        self.running += 1
        answer.run(lambda: self._work(asked, answer), lambda: self._over(asked.key, answer))

    def _over(self, key: Key, answer: Answer) -> None:
        self.running -= 1
        if self._known.get(key) is not answer or answer.running:
            return
        if not (answer.complete or answer.log.last.pieces):
            del self._known[key]  # nothing came of it: the next attempt is a first one
            return
        size = answer.log.size_bytes
        self._ended[key] = _Ended(time.monotonic(), size)
        self.kept_bytes += size
        self._drop_old()

    def _unlist(self, key: Key) -> None:
        ended = self._ended.pop(key, None)
        if ended is not None:
            self.kept_bytes -= ended.size_bytes

    def _forget(self, key: Key) -> None:
        self._unlist(key)
        self._known.pop(key, None)

    def _drop_old(self) -> None:
        """Drop what is too old or too much, and come back when the next one is too old."""
        window, now_s = self._window, time.monotonic()
        while self._ended:
            key, oldest = next(iter(self._ended.items()))
            if (
                len(self._ended) <= window.max_answers
                and self.kept_bytes <= window.max_bytes
                and now_s - oldest.at_s < window.keep_s
            ):
                break
            self._forget(key)
        if self._ended and self._sweep is None:
            left_s = max(0.0, oldest.at_s + window.keep_s - now_s)
            self._sweep = asyncio.get_running_loop().call_later(left_s, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        self._drop_old()
