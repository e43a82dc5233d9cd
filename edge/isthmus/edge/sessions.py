"""What each tier has of a conversation in its cache, as far as that can be told from here."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.core.decision import Target
from isthmus.edge.trail import Trail
from isthmus.router.signals import Session

CACHE_LIFE_S = 600.0
"""After so long without use a prefix is taken to have made room for others."""


@dataclass(frozen=True, slots=True)
class _Cached:
    tokens: int
    at_s: float


class Sessions:
    """The conversations of late, the oldest forgotten first. For one event loop."""

    def __init__(
        self, *, capacity: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._known: OrderedDict[str, tuple[Target, dict[Target, _Cached]]] = OrderedDict()

    def find(self, conversation: str, prompt_tokens: int) -> Session:
        """What is left of a conversation for a prompt of this length."""
        if conversation not in self._known:
            return Session()
        last, cached = self._known[conversation]

        def tokens(target: Target) -> int:
            known = cached.get(target)
            if known is None or self._clock() - known.at_s > CACHE_LIFE_S:
                return 0
            # The question itself is new.
            return min(known.tokens, max(0, prompt_tokens - 1))

        return Session(last, tokens(Target.EDGE), tokens(Target.CLOUD))

    def forget(self, conversation: str) -> None:
        """Forget a conversation."""
        self._known.pop(conversation, None)

    def remember(self, conversation: str, trail: Trail) -> None:
        """Note what the tiers that worked on an answer have of its conversation now."""
        _, cached = self._known.pop(conversation, (None, {}))
        now = self._clock()
        for target, usage in trail.usage_by_target().items():
            if usage.completion_tokens:
                cached[target] = _Cached(usage.prompt_tokens + usage.completion_tokens, now)
        if cached:
            self._known[conversation] = (trail.route, cached)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
