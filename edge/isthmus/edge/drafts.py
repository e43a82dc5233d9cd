"""Whether it pays to offer the cloud a draft of what the device wrote and nobody has seen.

Judging a draft takes the cloud one more step before its first token; every token that it lets stand
saves it one. The draft leaves with the request that is sent anyway, so no round trip is added. What
judging takes is measured here, end to end, as the difference between first tokens with a draft and
without, round trip and all; where that is more than the accepted tokens are expected to save, and
where the gateway does not judge what it is offered (because it cannot, or because judging does not
pay it), drafts stay here, but for one now and then that shows whether it is still so.
"""

from __future__ import annotations

from isthmus.core.events import DraftVerdict
from isthmus.router.signals import text_tokens

_NEWEST_WEIGHT = 0.2
_FIRST_ACCEPTANCE = 0.2
"""The share of a draft that is taken to stand before any was judged. A 1.5B model let 16% stand of
seven answers of the 135M (greedy, graded questions)."""
_PROBE_EVERY = 16
_UNHEARD = 3
"""A gateway that judges leaves one now and then alone too, to compare."""
LEAST_TOKENS = 4
"""A shorter draft saves less than it costs to tell of."""


class DraftGain:
    """Learns from each hand-over. For one event loop."""

    def __init__(self) -> None:
        self.acceptance = _FIRST_ACCEPTANCE
        """The share of a draft's tokens that stands, smoothed."""
        self._plain_ms: float | None = None
        self._judged_ms: float | None = None
        self._tpot_ms: float | None = None
        self._declined = 0
        self._unheard = 0
        """Drafts in a row that were not judged."""

    def pays(self, draft: str) -> bool:
        """Whether to offer `draft`."""
        tokens = text_tokens(draft)
        if tokens < LEAST_TOKENS:
            return False
        judging_ms, tpot_ms = self.judging_ms, self._tpot_ms
        pays = True  # until something shows that it does not
        if judging_ms is not None and tpot_ms is not None:
            pays = tokens * self.acceptance * tpot_ms > judging_ms
        if pays and self._unheard < _UNHEARD:
            return True
        self._declined += 1
        return self._declined % _PROBE_EVERY == 0

    @property
    def judging_ms(self) -> float | None:
        """What a draft adds to the cloud's time to its first token; None: not measured."""
        if self._judged_ms is None or self._plain_ms is None:
            return None
        return self._judged_ms - self._plain_ms

    def observe(
        self, verdict: DraftVerdict | None, ttft_ms: float | None, tpot_ms: float | None
    ) -> None:
        """One hand-over: what became of its draft (None: it had none), and the cloud's times."""
        self._tpot_ms = _smoothed(self._tpot_ms, tpot_ms)
        if verdict is not None:
            self._unheard = 0 if verdict.judged else self._unheard + 1
        if verdict is None or not verdict.judged:
            self._plain_ms = _smoothed(self._plain_ms, ttft_ms)
        elif verdict.tokens:
            share = min(1.0, verdict.accepted_tokens / verdict.tokens)
            self.acceptance += _NEWEST_WEIGHT * (share - self.acceptance)
            self._judged_ms = _smoothed(self._judged_ms, ttft_ms)


def _smoothed(old: float | None, new: float | None) -> float | None:
    if old is None or new is None:
        return old if new is None else new
    return old + _NEWEST_WEIGHT * (new - old)
