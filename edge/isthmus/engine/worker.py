"""The engine's thread: takes answers as they arrive, steps through them, and uses its idleness."""

from __future__ import annotations

import atexit
import logging
import threading
import time

from isthmus.core.errors import InternalError, IsthmusError, Overloaded, Unavailable
from isthmus.engine.answer import Answer
from isthmus.engine.fallback import FallbackPlan
from isthmus.engine.kv import KVPool
from isthmus.engine.scheduler import MAX_RUNNING, Scheduler

_log = logging.getLogger(__name__)


class Worker:
    """One thread that computes, and no other. `submit` may be called from any thread."""

    def __init__(
        self,
        plan: FallbackPlan,
        pool: KVPool,
        scheduler: Scheduler,
        *,
        name: str,
        max_waiting: int,
        idle_unload_s: float | None,
    ) -> None:
        """Starts it. After `idle_unload_s` without work the plan and the pool are emptied."""
        self._plan = plan
        self._pool = pool
        self._scheduler = scheduler
        self._name = name
        self._max_waiting = max_waiting
        self._idle_unload_s = idle_unload_s
        self._wake = threading.Condition()
        self._arrived: list[Answer] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="isthmus-engine", daemon=True)
        self._thread.start()
        # A program that ends without `close` would pull the plan from under its thread.
        atexit.register(self.close)

    @property
    def queue_depth(self) -> int:
        """Answers that wait for a place in the batch."""
        return self._scheduler.waiting + len(self._arrived)

    def submit(self, answer: Answer) -> None:
        """Have `answer` computed. Raises `Unavailable` and `Overloaded`."""
        with self._wake:
            if self._closed:
                raise Unavailable("the engine is closed")
            if self.queue_depth >= self._max_waiting + MAX_RUNNING:
                raise Overloaded(f"{self.queue_depth} requests wait already; try again in a while")
            self._arrived.append(answer)
            self._wake.notify()

    def close(self) -> None:
        """Stop the thread; answers that still run end with `Unavailable`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()
        atexit.unregister(self.close)

    def _work(self) -> None:
        idle_since = time.monotonic()
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, self._patience_s(idle_since))
                arrived, self._arrived = self._arrived, []
                closed = self._closed
            for answer in arrived:
                self._scheduler.add(answer)
            if closed:
                self._scheduler.fail_all(Unavailable("the engine was closed"))
                self._plan.close()
                return
            if not self._busy:
                self._use_idleness(idle_since)
                continue
            try:
                self._scheduler.step()
            except IsthmusError as error:  # the model did not come back
                _log.error("a step failed: %s", error.message)
                self._scheduler.fail_all(error)
            except Exception as error:
                # The type alone: an exception's text could quote a user's.
                _log.error("a step failed: %s", type(error).__name__)
                self._scheduler.fail_all(InternalError("the engine failed; its log has more"))
            idle_since = time.monotonic()

    def _has_work(self) -> bool:
        return bool(self._arrived) or self._closed or self._busy

    def _patience_s(self, idle_since: float) -> float | None:
        """How long to wait for work before there is something else to do."""
        if not self._plan.loaded:
            return None
        waits = [wait for wait in (self._plan.retry_in_s,) if wait is not None]
        if self._idle_unload_s is not None:
            waits.append(max(0.0, idle_since + self._idle_unload_s - time.monotonic()))
        return min(waits, default=None)

    def _use_idleness(self, idle_since: float) -> None:
        unload_s = self._idle_unload_s
        if unload_s is not None and time.monotonic() - idle_since >= unload_s:
            self._pool.forget_all()
            self._plan.unload()
            _log.info("%s was unloaded after %s s without work", self._name, unload_s)
        elif self._plan.retry_in_s == 0 and self._plan.retry():
            self._scheduler.start_over()

    @property
    def _busy(self) -> bool:
        return self._scheduler.running + self._scheduler.waiting > 0
