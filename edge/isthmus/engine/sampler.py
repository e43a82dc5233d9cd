"""Choosing the next token from its logits."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from isthmus.core.chat import Sampling
from isthmus.core.errors import InternalError
from isthmus.core.events import FirstToken
from isthmus.engine.constraint import Constraint
from isthmus.kernels.base import F32


@dataclass(frozen=True, slots=True)
class Choice:
    """A token, with the log-probabilities that were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    """(token, log-probability), best first"""


class Sampler:
    """The sampling of one answer: its random numbers and what its penalties have seen.

    Log-probabilities are the model's own, before a constraint, temperature and penalties change
    anything.
    """

    def __init__(
        self, sampling: Sampling, prompt: list[int], constraint: Constraint | None = None
    ) -> None:
        self._sampling = sampling
        self._constraint = constraint
        self._prompt = np.unique(np.asarray(prompt, np.int64)) if self._repeats else None
        self._written: Counter[int] = Counter()

    @cached_property
    def _random(self) -> np.random.Generator:
        # Made for the first draw: greedy answers do without numpy.random's 7 MB.
        seed = self._sampling.seed
        return np.random.default_rng((secrets.randbits(63) if seed is None else seed) & (2**63 - 1))

    @property
    def _repeats(self) -> bool:
        return self._sampling.repetition_penalty != 1.0

    @property
    def wants_best_alone(self) -> bool:
        """Whether it looks at nothing but the largest logit."""
        sampling = self._sampling
        return (
            self._is_greedy
            and sampling.top_logprobs is None
            and self._constraint is None
            and not self._penalizes
        )

    @property
    def _is_greedy(self) -> bool:
        return self._sampling.temperature == 0 or self._sampling.top_k == 1

    @property
    def _penalizes(self) -> bool:
        sampling = self._sampling
        return self._repeats or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0

    def choose(self, logits: F32) -> Choice:
        """Choose one token. logits: [vocab].

        Raises `NotSupported` as its constraint does, and `InternalError` when there is no largest
        logit: weights that are damaged make NaN of everything.
        """
        sampling = self._sampling
        adjusted = self._penalized(self._masked(logits))
        best = int(adjusted.argmax())  # of NaN the first
        if not np.isfinite(adjusted[best]):
            raise InternalError("the model's logits are no numbers: pull the model again")
        token = best if self._is_greedy else self._draw(adjusted, best)
        self._written[token] += 1
        if self._constraint is not None:
            self._constraint.accept(token)
        if sampling.top_logprobs is None:
            return Choice(token)
        return _with_logprobs(token, logits, sampling.top_logprobs)

    def _masked(self, logits: F32) -> F32:
        if self._constraint is None:
            return logits
        return np.where(self._constraint.allowed(len(logits)), logits, np.float32(-np.inf))

    def _penalized(self, logits: F32) -> F32:
        sampling = self._sampling
        if not self._penalizes:
            return logits
        logits = logits.copy()
        written = np.fromiter(self._written, np.int64, len(self._written))
        if self._prompt is not None:
            # CTRL's penalty (arXiv 1909.05858), over prompt and answer as llama.cpp and vLLM do.
            seen = np.union1d(self._prompt, written)
            values = logits[seen]
            penalty = sampling.repetition_penalty
            logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        if len(written):
            counts = np.fromiter(self._written.values(), np.float32, len(self._written))
            logits[written] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        return logits

    def _draw(self, logits: F32, best: int) -> int:
        sampling, tokens, largest = self._sampling, None, logits[best]
        if 0 < sampling.top_k < len(logits):
            tokens = np.argpartition(logits, -sampling.top_k)[-sampling.top_k :]
            logits = logits[tokens]
        weights = np.exp((logits - largest) / np.float32(sampling.temperature))
        if sampling.min_p > 0:
            weights[weights < sampling.min_p] = 0  # the best one's weight is 1
        if sampling.top_p < 1:
            weights = _nucleus(weights, sampling.top_p)
        below = np.cumsum(weights, dtype=np.float64)
        at = int(np.searchsorted(below, self._random.random() * below[-1], side="right"))
        at = min(at, int(np.flatnonzero(weights)[-1]))
        return at if tokens is None else int(tokens[at])


def _nucleus(weights: F32, top_p: float) -> F32:
    """The fewest largest weights that have `top_p` of the whole mass; 0 for the others."""
    total = weights.sum(dtype=np.float64)
    # Sorting a vocabulary takes longer than a step. What is below this is not in the nucleus: all
    # of it together would be less than the mass that is left out.
    candidates = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
    order = candidates[np.argsort(-weights[candidates], kind="stable")]
    mass = np.cumsum(weights[order], dtype=np.float64)
    kept = mass - weights[order] < top_p * total
    kept[0] = True  # something must be left, even of a mass of 0
    out = np.zeros_like(weights)
    out[order[kept]] = weights[order[kept]]
    return out


def first_token(logits: F32, hidden: F32 | None) -> FirstToken:
    """What the model says of its doubt. logits: [vocab]; hidden: [hidden], the state behind them.

    A vocabulary of one token leaves no doubt: its margin is 0.
    """
    second, best = np.partition(logits, -2)[-2:] if len(logits) > 1 else (logits[0], logits[0])
    below = logits - best
    weights = np.exp(below)
    total = float(weights.sum(dtype=np.float64))
    mean = float(weights @ np.where(weights > 0, below, 0)) / total
    return FirstToken(
        margin=float(best) - float(second),
        entropy=max(0.0, math.log(total) - mean),
        logprob=-math.log(total),
        hidden=() if hidden is None else tuple(hidden.tolist()),
    )


def _with_logprobs(token: int, logits: F32, count: int) -> Choice:
    largest = logits.max()
    total = float(largest) + float(np.log(np.exp(logits - largest, dtype=np.float64).sum()))
    count = min(count, len(logits))
    top = np.argpartition(logits, -count)[-count:] if count else np.empty(0, np.int64)
    top = top[np.argsort(-logits[top], kind="stable")]
    return Choice(
        token,
        float(logits[token]) - total,
        tuple((int(t), float(logits[t]) - total) for t in top),
    )
