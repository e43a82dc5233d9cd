"""One answer: a task writes it, any number of readers follow, each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Final, TypeAlias

from isthmus.cloud.answers.log import Log, Place
from isthmus.cloud.answers.tab import Tab
from isthmus.cloud.faults import fault
from isthmus.cloud.identity.base import Caller
from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Status
from isthmus.core.errors import IsthmusError, Overloaded, PolicyRefused, Unavailable
from isthmus.core.events import Delta, Event, Finished, Started

MAX_READERS: Final = 8
"""Of one answer: its device has one, and a few that it does not know to be dead yet."""

_STOPPED: Final = Unavailable("the answer was stopped")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Begins an attempt when it is called; what it returns writes the answer."""
Key = tuple[str, str, str]
"""Tenant, device, request id."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request within all bounds, and who asked."""

    caller: Caller
    request: ChatRequest
    body: bytes
    """What tells it from another one under the same id (`wire.request_body`)."""
    prompt_tokens: int
    """An estimate, meant to be high."""
    arrived_s: float
    """Monotonic."""

    @property
    def key(self) -> Key:
        """What names the answer."""
        return self.caller.tenant, self.caller.device, self.request.request_id


@dataclass(eq=False, slots=True)
class Answer:
    """What is known of the answer to one request."""

    request_id: str
    body: bytes
    log: Log
    tab: Tab | None = None
    """Of the attempt that runs, or ran last."""
    task: asyncio.Task[None] | None = None
    """That attempt."""
    _readers: set[Reader] = field(default_factory=set)
    _read: bool = False
    """A reader has read the end."""
    _news: asyncio.Future[None] | None = None
    """What waits for that."""

    @property
    def running(self) -> bool:
        """Whether it is being written, and not told to stop."""
        return self.task is not None and self.log.end is None

    @property
    def complete(self) -> bool:
        """Whether it was written to its end."""
        return isinstance(self.log.end, Finished)

    def run(self, work: Work, ended: Callable[[], None]) -> None:
        """Have `work` write it, once an earlier run has let go; `ended` is told when it is over."""
        self.log.end = None
        self.was_read()  # by no one any more: the earlier run need not wait for that
        earlier = self.task
        # What it asks of others is asked now, and not when its task has its turn.
        begun = work() if earlier is None else None

        def over(task: asyncio.Task[None]) -> None:
            if begun is not None and getcoroutinestate(begun) == CORO_CREATED:
                begun.close()  # it was stopped at once
                if self.tab is not None:
                    self.tab.give_up()
            if self.task is task:
                self._end(_STOPPED)
                self.task = self.tab = None
            ended()

        self.task = asyncio.create_task(self._run(work, begun, earlier))
        self.task.add_done_callback(over)

    def stop(self, reason: IsthmusError) -> None:
        """Stop the work. Readers get what was written, and then `reason`."""
        if self.running and self.task is not None:
            self._end(reason)
            self.task.cancel()

    def reader(self, place: Place | None) -> Reader:
        """A reader from `place` on, or from the beginning. It must be closed by `left`."""
        if len(self._readers) >= MAX_READERS:
            raise Overloaded(f"{MAX_READERS} calls read this answer already; close one of them")
        reader = Reader(self, place)
        self._readers.add(reader)
        return reader

    def left(self, reader: Reader) -> bool:
        """`reader` reads no more; whether it was the last one."""
        self._readers.discard(reader)
        self._look()
        return not self._readers

    def was_read(self) -> None:
        """A reader has read the end."""
        self._read = True
        self._look()

    # --- for the work -------------------------------------------------------------------------

    def started(self, event: Started) -> None:
        """The work has begun. What a first run said of the prompt stays true."""
        if self.log.started is None:
            self.log.started = event
            self._tell()

    def wrote(self, delta: Delta) -> None:
        """The next piece."""
        self.log.add(delta)
        self._tell()

    def finished(self, event: Finished) -> None:
        """It is complete."""
        self._end(event)

    # --- inside -------------------------------------------------------------------------------

    async def _run(
        self,
        work: Work,
        begun: Coroutine[Any, Any, None] | None,
        earlier: asyncio.Task[None] | None,
    ) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._read = False
        status = Status.FAILED
        try:
            await (work() if begun is None else begun)
            status = Status.OK
        except asyncio.CancelledError:
            status = Status.CANCELLED
            raise
        except Exception as error:
            known = error if isinstance(error, IsthmusError) else fault(error, self.request_id)
            if isinstance(known, PolicyRefused):
                status = Status.REFUSED
            if self.task is asyncio.current_task():
                self._end(known)
        finally:
            # Shielded: whoever stops the work does not stop what is owed from being written down.
            await asyncio.shield(self._settle(status))

    async def _settle(self, status: Status) -> None:
        """Close the account once all was seen that will be: until then a kill leaves what was."""
        while self._readers and not self._read:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if self.tab is not None:
            await self.tab.settle(status)

    def _end(self, end: Finished | IsthmusError) -> None:
        if self.log.end is None:
            self.log.end = end
            self._tell()

    def _look(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _tell(self) -> None:
        for reader in self._readers:
            reader.wake()


class Reader:
    """One caller's way through an answer."""

    def __init__(self, answer: Answer, place: Place | None) -> None:
        self.answer = answer
        self._start = place
        self._place = Place()
        self.began = False
        """Whether it has read something."""
        self._news: asyncio.Future[None] | None = None

    async def next(self) -> tuple[Event, int]:
        """The next event, and how many pieces of the answer it holds. Raises the answer's error.

        Everything that came since the last call is one `Delta`.
        """
        answer = self.answer
        log = answer.log
        while True:
            if not self.began and log.started is not None:
                self.began = True
                self._place = log.begin if self._start is None else self._start
                return log.started, 0
            more = log.after(self._place) if self.began else None
            if more is not None:
                pieces = more[1].pieces - self._place.pieces
                self._place = more[1]
                if answer.tab is not None:
                    await answer.tab.showing(self._place.tokens - log.begin.tokens)
                return more[0], pieces
            if isinstance(log.end, Finished):
                answer.was_read()
                return log.end, 0
            if log.end is not None:
                answer.was_read()
                raise log.end.with_traceback(None)  # others may get it too
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None

    def wake(self) -> None:
        """There is something to read."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def close(self) -> bool:
        """Read no more; whether nobody else does."""
        return self.answer.left(self)
