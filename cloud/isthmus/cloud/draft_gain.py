"""Whether it pays the cloud to judge drafts, from what judging them has cost and saved.

Judging is a prefill of its own, which reads nothing of the prefix cache, but leaves what it
computed there: the answer that follows begins sooner for it. So its price is the difference between
first tokens of judged and of plain answers, queue and all, counted from the turn of the request;
its gain is the tokens that need not be decoded. Both are measured on requests that bring drafts:
while judging pays a few of them go without, while it does not a few are judged all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from isthmus.core.events import DraftVerdict

_NEWEST_WEIGHT: Final = 0.2
_LEAST_ANSWERS: Final = 2
_OTHER_WAY_EVERY: Final = 16
_OTHER_WAY_EVERY_AT_FIRST: Final = 4
_CHARS_A_TOKEN: Final = 4.0


@dataclass(slots=True)
class _Mean:
    """An exponentially weighted mean."""

    value: float = 0.0
    count: int = 0

    def add(self, sample: float) -> None:
        self.count += 1
        # The first few weigh alike.
        self.value += max(_NEWEST_WEIGHT, 1 / self.count) * (sample - self.value)


class DraftGain:
    """Learns from every answer to a request with a draft. For one event loop."""

    def __init__(self) -> None:
        self._judged_s = _Mean()
        self._plain_s = _Mean()
        self._token_s = _Mean()
        self._chars_a_token = _Mean(_CHARS_A_TOKEN)
        self._acceptance = _Mean()
        self._drafts = 0

    @property
    def judging_s(self) -> float | None:
        """What judging adds to the time to the first token; none: not measured."""
        if not (self._judged_s.count and self._plain_s.count):
            return None
        return self._judged_s.value - self._plain_s.value

    def wants(self, draft: str) -> bool:
        """Whether to judge `draft`."""
        self._drafts += 1
        pays = self._pays(len(draft) / max(1.0, self._chars_a_token.value))
        if pays is None:
            return self._drafts % _OTHER_WAY_EVERY_AT_FIRST != 0
        return pays != (self._drafts % _OTHER_WAY_EVERY == 0)

    def _pays(self, tokens: float) -> bool | None:
        judging_s = self.judging_s
        if judging_s is None or min(self._judged_s.count, self._plain_s.count) < _LEAST_ANSWERS:
            return None
        return tokens * self._acceptance.value * self._token_s.value > judging_s

    def observe(
        self, verdict: DraftVerdict, draft: str, first_s: float, token_s: float | None
    ) -> None:
        """One answer: from its turn to its first token, and between two tokens."""
        if token_s is not None:
            self._token_s.add(token_s)
        if not verdict.judged:
            self._plain_s.add(first_s)
            return
        self._judged_s.add(first_s)
        if verdict.tokens:
            self._acceptance.add(verdict.accepted_tokens / verdict.tokens)
            self._chars_a_token.add(len(draft) / verdict.tokens)
