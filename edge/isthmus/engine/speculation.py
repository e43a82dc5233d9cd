"""Guessing the tokens that follow and checking them all in one step, without a second model.

A drafter proposes; the scheduler feeds the proposal behind the answer's own token and samples from
each row in turn, as long as what it samples is what was proposed. Each token is so chosen from the
very logits that a plain step would have given, by the same sampler in the same order: the answer
is the same, greedy or sampled, with penalties or without. What was fed in vain is overwritten.

How much of a proposal is fed is a bet at measured odds: the cost of further rows (`pace`) against
the share of guesses of the same kind that were right in this answer. Proposals are compared with
what was written even when they are not fed, so an answer in which they pay is found out at no cost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Protocol

import numpy as np

from isthmus.engine.pace import Pace

MAX_DRAFT = 15
"""Tokens fed beside an answer's own at most."""
_DOUBT = 8
"""What a drafter says of its guesses counts as much as so many observations."""
_WEIGHT = 0.05
"""Of a new observation in the moving mean of a kind's odds, at least."""
_MARGIN = 1.05
"""The gain that a bet must promise."""
_CREDIT = 2.0
_CREDIT_PER_TOKEN = 0.02
"""How many tokens' time an answer may lose to bets, at first and for each token written."""
_MOST_CREDIT = 8.0
"""And of what it won before."""
_CANDIDATES = 16
_PASTS = (1, 2, 3, 4, 6, 9, 13, 20)
"""Tokens in common from which on a guess of `PromptLookup` is of the next kind."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may follow."""

    tokens: list[int]
    kinds: list[int]
    """Of each token: those of a kind are thought to be right about equally often, when all before
    them are."""


class Drafter(Protocol):
    """Guesses how one answer goes on. A small model may do it, or a look into the prompt."""

    @property
    def odds(self) -> Sequence[float]:
        """For each kind the share of right tokens to assume before any was seen."""
        ...

    def propose(self, tokens: Sequence[int], most: int) -> Draft:
        """Up to `most` tokens that may follow `tokens`: prompt and answer, which only grow."""
        ...


MakeDrafter = Callable[[], Drafter]
"""Makes the drafter of one answer."""


class PromptLookup:
    """Proposes what followed the last tokens when they stood in prompt or answer before.

    Of the places where they stood, the one with the longest common past is taken, the latest of
    equals (prompt lookup decoding, github.com/apoorvumang). What follows there is the more likely
    the longer that past is, and each right guess lengthens it; where places with the same past go
    on differently, the first guess is a kind of its own.
    """

    odds = (0.2, 0.3, 0.5, 0.65, 0.75, 0.8, 0.85, 0.9, 0.95)
    """On the low side of what two models of 0.1 and 1.5 billion weights gave on editing prompts:
    a guess too many costs more than one too few."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], list[int]] = {}
        self._indexed = 1

    def propose(self, tokens: Sequence[int], most: int) -> Draft:
        """What followed the same tokens before."""
        # The last tokens themselves are indexed once something follows them.
        for end in range(self._indexed, len(tokens)):
            for size in range(1, min(end, 2) + 1):
                self._places.setdefault(tuple(tokens[end - size : end]), []).append(end)
        self._indexed = max(self._indexed, len(tokens))
        places = self._places.get(tuple(tokens[-2:])) or self._places.get(tuple(tokens[-1:]), [])
        best, longest, disputed = 0, 0, False
        for place in reversed(places[-_CANDIDATES:]):
            common = _common_past(tokens, place)
            if common > longest:
                best, longest, disputed = place, common, False
            elif common == longest:
                disputed = disputed or tokens[place] != tokens[best]
        if not longest:
            return Draft([], [])
        guesses = [*tokens[best : best + most]]
        while len(guesses) < most:  # a repetition that has come up to now goes on
            guesses.append(guesses[best - len(tokens)])
        kinds = [bisect_right(_PASTS, longest + i) for i in range(most)]
        return Draft(guesses, [0, *kinds[1:]] if disputed else kinds)


def _common_past(tokens: Sequence[int], place: int) -> int:
    """How many tokens before `place`, up to the last of `_PASTS`, are those `tokens` end with."""
    size, end, most = 0, len(tokens), min(_PASTS[-1], place)
    while size < most and tokens[place - size - 1] == tokens[end - size - 1]:
        size += 1
    return size


@dataclass(slots=True)
class SpeculationCount:
    """Tokens that were fed as guesses, and those of them that were right."""

    proposed: int = 0
    accepted: int = 0


class Speculator:
    """One answer's bets."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._guess = Draft([], [])
        self._odds = list(drafter.odds)
        self._seen = [_DOUBT] * len(self._odds)
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
        cost = pace.writing_s(rows, len(guess.tokens))
        gain = np.cumsum([rows, *accumulate((self._odds[k] for k in guess.kinds), mul)])
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
        if not self._at:  # the prompt was read: all before the first token is not written
            return
        written = tokens[self._at :]
        taken = 0
        # Behind a guess that was not fed only one token was written to compare it with.
        for guess, kind, token in zip(self._guess.tokens, self._guess.kinds, written, strict=False):
            self._seen[kind] += 1
            weight = max(_WEIGHT, 1 / self._seen[kind])
            self._odds[kind] += weight * ((guess == token) - self._odds[kind])
            if guess != token:
                break
            taken += 1
        accepted = min(taken, self._fed)
        self.count.accepted += accepted
        earned = accepted + _CREDIT_PER_TOKEN * len(written)
        self._credit = min(self._credit + earned, _MOST_CREDIT)
        self._guess = Draft([], [])
