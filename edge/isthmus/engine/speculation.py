"""Guessing the tokens that follow and checking them all in one step, without a second model.

A drafter proposes; the scheduler feeds the proposal behind the answer's own token and samples from
each row in turn, as long as what it samples is what was proposed. Each token is so chosen from the
very logits that a plain step would have given, by the same sampler in the same order: the answer
is the same, greedy or sampled, with penalties or without. What was fed in vain is overwritten.

How much of a proposal is fed is a bet at measured odds: the cost of further rows (`pace`) against
the share of proposed tokens that this answer took before. Proposals are compared with what was
written even when they are not fed, so an answer in which they pay again is found out at no cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from isthmus.engine.pace import Pace

MAX_DRAFT = 15
"""Tokens fed beside an answer's own at most."""
_START = 0.3
"""The assumed share of tokens that are right before any was seen: too low to bet on."""
_DOUBT = 3
"""That assumption counts as much as so many observations."""
_WEIGHT = 0.05
"""Of a new observation in that share's moving mean, at least."""
_MARGIN = 1.05
"""The gain that a bet must promise."""
_CREDIT = 2.0
_CREDIT_PER_TOKEN = 0.02
"""How many tokens' time an answer may lose to bets, at first and for each token written."""
_MOST_CREDIT = 8.0
"""And of what it won before."""
_SHORTEST = 2
_LONGEST = 8
_CANDIDATES = 16


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may follow."""

    tokens: list[int]
    kind: int = 0
    """Drafts of a kind are thought to be right about equally often."""


class Drafter(Protocol):
    """Guesses how one answer goes on. A small model may do it, or a look into the prompt."""

    def propose(self, tokens: Sequence[int], most: int) -> Draft:
        """Up to `most` tokens that may follow `tokens`: prompt and answer, which only grow."""
        ...


MakeDrafter = Callable[[], Drafter]
"""Makes the drafter of one answer."""


class PromptLookup:
    """Proposes what followed the last tokens when they stood in prompt or answer before.

    Of the places where the last `_SHORTEST` tokens stood, the one with the longest common past is
    taken, the latest of equals (prompt lookup decoding, github.com/apoorvumang).
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], list[int]] = {}
        self._indexed = _SHORTEST

    def propose(self, tokens: Sequence[int], most: int) -> Draft:
        """What followed the same tokens before; the longer the common past, the higher its kind."""
        # The last tokens themselves are indexed once something follows them.
        for end in range(self._indexed, len(tokens)):
            self._places.setdefault(tuple(tokens[end - _SHORTEST : end]), []).append(end)
        self._indexed = max(self._indexed, len(tokens))
        places = self._places.get(tuple(tokens[-_SHORTEST:]), [])[-_CANDIDATES:]
        best, longest = None, 0
        for place in reversed(places):
            common = _common_past(tokens, place)
            if common > longest:
                best, longest = place, common
        return Draft([] if best is None else [*tokens[best : best + most]], longest // 3)


def _common_past(tokens: Sequence[int], place: int) -> int:
    """How many tokens before `place` are those that `tokens` end with."""
    size, end = _SHORTEST, len(tokens)
    while size < min(_LONGEST, place) and tokens[place - size - 1] == tokens[end - size - 1]:
        size += 1
    return size


@dataclass(slots=True)
class _Odds:
    """How often guesses of one kind are right."""

    right: float = _START
    seen: int = 0

    def see(self, right: bool) -> None:
        weight = max(_WEIGHT, 1 / (self.seen + _DOUBT))
        self.right += weight * (right - self.right)
        self.seen += 1


@dataclass(slots=True)
class SpeculationCount:
    """Tokens that were fed as guesses, and those of them that were right."""

    proposed: int = 0
    accepted: int = 0


class Speculator:
    """One answer's bets."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._guess = Draft([])
        self._odds: defaultdict[int, _Odds] = defaultdict(_Odds)
        self._fed = 0
        self._at = 0
        self._credit = _CREDIT
        self.count = SpeculationCount()

    def draft(self, tokens: Sequence[int], most: int, *, rows: int, pace: Pace) -> list[int]:
        """The tokens to feed behind the last of `tokens`, in a step of `rows` without them."""
        guess = self._guess = self._drafter.propose(tokens, max(0, most))
        self._at, self._fed = len(tokens), 0
        if not guess.tokens or not pace.measured or self._credit <= 0:
            return []
        size = len(guess.tokens)
        cost = pace.writing_s(rows, size)
        right = self._odds[guess.kind].right
        gain = np.cumsum(right ** np.arange(size + 1)) + (rows - 1)
        worth = gain / cost
        best = int(worth.argmax())
        if worth[best] < _MARGIN * worth[0]:
            return []
        self._fed = best
        self._credit -= rows * (float(cost[best] / cost[0]) - 1)
        self.count.proposed += best
        return guess.tokens[:best]

    def learn(self, tokens: Sequence[int]) -> None:
        """See what was written after the last `draft`."""
        written = tokens[self._at :]
        taken = 0
        # Behind a guess that was not fed only one token was written to compare it with.
        for guess, token in zip(self._guess.tokens, written, strict=False):
            self._odds[self._guess.kind].see(guess == token)
            if guess != token:
                break
            taken += 1
        accepted = min(taken, self._fed)
        self.count.accepted += accepted
        earned = accepted + _CREDIT_PER_TOKEN * len(written)
        self._credit = min(self._credit + earned, _MOST_CREDIT)
        self._guess = Draft([])
