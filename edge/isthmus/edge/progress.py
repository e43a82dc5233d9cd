"""What came of a request that was sent to the cloud, over all attempts, and whether to try again.

A stream that breaks is asked for again with what it brought (`ChatRequest.received`): a gateway
that knows the answer sends what follows, another one goes on behind it. Before anything was shown
this goes unnoticed, after it too; only what cannot be put together again is an error.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from isthmus.core.chat import ChatRequest
from isthmus.core.errors import IsthmusError, Overloaded, Unauthenticated, Unavailable
from isthmus.core.events import Delta, Event, Finished, Started

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_MAX_ATTEMPTS: Final = 12
"""Of one request that came to a gateway: fewer than its ledger allows."""


class Broken(Unavailable):
    """The connection went away under a call; what it asked for may be had by another one."""


class Unreachable(Unavailable):
    """No connection comes about. An answer that is not begun is better given by another tier."""


class Progress:
    """One request on its way. `silent_s` and `broken_s` bound how long it is tried again: before
    its first piece of text, when there is another tier to ask, and after it.
    """

    def __init__(
        self,
        request: ChatRequest,
        *,
        silent_s: float,
        broken_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._silent_s = silent_s
        self._broken_s = broken_s
        self._clock = clock
        self._started = False
        self._pieces: list[str] = []
        self._tokens = 0
        self._has_tool_calls = False
        self._broken_since_s: float | None = None
        self._broken_by: IsthmusError | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._unreached = 0
        self._refused = 0
        self.attempts = 0

    @property
    def heard(self) -> bool:
        """Whether a piece of the answer came."""
        return bool(self._tokens) or any(self._pieces)

    def next(self) -> ChatRequest:
        """The request of the next attempt."""
        self.attempts += 1
        if not self._started:
            return self._request
        received = "".join(self._pieces)
        self._pieces = [received]
        return replace(self._request, received=received, received_tokens=self._tokens)

    def take(self, event: Event) -> Event | None:
        """Note `event`; None when the caller has heard it already."""
        match event:
            case Started():
                if self._started:
                    return None
                self._started = True
                if event.draft is not None and event.draft.accepted_bytes:
                    accepted = self._request.draft.encode()[: event.draft.accepted_bytes]
                    self._pieces.append(accepted.decode(errors="ignore"))
                    self._tokens += event.draft.accepted_tokens
            case Delta():
                self._broken_since_s = self._broken_by = None
                self._pause_s = _FIRST_PAUSE_S
                self._pieces.append(event.text)
                self._tokens += event.tokens
                self._has_tool_calls = self._has_tool_calls or bool(event.tool_calls)
            case Finished():
                pass
        return event

    def pause_s(self, error: IsthmusError) -> float | None:
        """How long to wait (seconds) before the next attempt; None: `error` is how it ends."""
        if self._broken_by is None:
            self._broken_by = error
        self._unreached += isinstance(error, Unreachable)
        self._refused += isinstance(error, Unauthenticated)
        asked = self.attempts - self._unreached
        if not self._curable(error) or self._has_tool_calls or asked >= _MAX_ATTEMPTS:
            return None
        now_s = self._clock()
        if self._broken_since_s is None:
            self._broken_since_s = now_s
        patience_s = self._broken_s if self.heard else self._silent_s
        patience_left_s = self._broken_since_s + patience_s - now_s
        advice_s = getattr(error, "retry_after_s", None) or 0.0
        # Spread: the streams of one gateway break together. The last try is at the very end.
        pause_s = max(advice_s, min(self._pause_s, patience_left_s)) * random.uniform(0.5, 1.0)
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        if patience_left_s < _FIRST_PAUSE_S or pause_s > patience_left_s:
            return None
        left_s = self._request.deadline.remaining_s()
        return None if left_s is not None and left_s <= pause_s else pause_s

    def failure(self, error: IsthmusError) -> IsthmusError:
        """What the caller is told when `error` ended the last attempt: what went wrong first."""
        return error if self._broken_by is None else self._broken_by

    def _curable(self, error: IsthmusError) -> bool:
        """Whether the same request, sent again, may bring what is missing."""
        match error:
            case Broken():
                return True
            case Unreachable():
                return self.attempts > 1
            case Unavailable():
                return error.retry_after_s is not None
            case Unauthenticated():
                # The token ended under the answer; there may be another one by now.
                return self.heard and self._refused == 1
            case Overloaded():
                return self.heard and self.attempts > 1
            case _:
                return False
