"""How well a model predicts a text: the exponential of the mean negative log-likelihood."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import InvalidRequest
from isthmus.engine.fallback import FallbackPlan, PlanReplaced, Runner, Steps
from isthmus.engine.prepared import LoadedModel
from isthmus.engine.tokens.tokenizer import Tokenizer
from isthmus.kernels.base import F32, Backend, Batch, KVShape, KVType

_CHUNK = 128
WINDOW = 2048
"""Tokens that are predicted from those before them in the same window; each starts afresh."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The perplexity of `tokens` predicted tokens."""

    perplexity: float
    tokens: int
    prefill_backend: str
    decode_backend: str
    """Those that computed the end of the text."""


def measure(
    model: LoadedModel, backend: Backend, text: str, *, standbys: Sequence[Runner] = ()
) -> Perplexity:
    """The perplexity of `text`, on the next of `standbys` whenever a backend fails.

    Raises `InvalidRequest` when it has fewer than two tokens, and as `FallbackPlan` does.
    """
    tokens = Tokenizer(model.tokenizer).encode(text)
    if len(tokens) < 2:
        raise InvalidRequest("the text has no two tokens to predict one from the other")
    window = min(WINDOW, model.config.context)
    shape = KVShape.for_tokens(window)
    runners = [Runner.of(backend, model.ops), *standbys]
    plan = FallbackPlan(runners, kv=shape, max_tokens=_CHUNK)
    losses: list[float] = []
    start = 0
    try:
        while start < len(tokens):
            # A window that a backend did not end is another one's from its start.
            with contextlib.suppress(PlanReplaced):
                losses += _losses(plan, shape, tokens[start : start + window])
                start += window
    finally:
        plan.close()
    mean = math.fsum(losses) / len(losses)
    return Perplexity(math.exp(mean), len(losses), plan.prefill_backend, plan.decode_backend)


def logits_of(plan: Steps, shape: KVShape, tokens: Sequence[int]) -> Iterator[F32]:
    """The logits after each of `tokens`, in pieces of [chunk, vocab]; the pool is overwritten."""
    blocks = np.arange(shape.blocks, dtype=np.int32)
    for start in range(0, len(tokens), plan.max_tokens):
        chunk = tokens[start : start + plan.max_tokens]
        yield plan.run(Batch.of_one(chunk, blocks, first=start)).logits


def all_logits(
    model: LoadedModel, backend: Backend, tokens: Sequence[int], kv: KVType = KVType.FLOAT32
) -> F32:
    """The logits after each of `tokens`, with a cache of that form. [tokens, vocab]"""
    shape = KVShape.for_tokens(len(tokens), kv)
    plan = backend.plan(model.ops, kv=shape, max_tokens=_CHUNK)
    try:
        return np.concatenate(list(logits_of(plan, shape, tokens)))
    finally:
        plan.close()


def largest_shortfall(
    model: LoadedModel, backend: Backend, prompt: Sequence[int], answer: Sequence[int]
) -> float:
    """How far a greedy answer's tokens fall short of the best logits, at most; 0 for never.

    The logits are those of the whole head over the engine's usual cache, so this finds what a
    cheaper choice got wrong.
    """
    tokens = [*prompt, *answer][:-1]
    rows = all_logits(model, backend, tokens, KVType.FLOAT16)[len(prompt) - 1 :]
    chosen = rows[np.arange(len(answer)), list(answer)]
    return float((rows.max(axis=1) - chosen).max())


def _losses(plan: Steps, shape: KVShape, tokens: list[int]) -> list[float]:
    """Minus the natural log-probability of every token but the first."""
    losses: list[float] = []
    for logits in logits_of(plan, shape, tokens):
        for row, after in zip(logits, tokens[len(losses) + 1 :], strict=False):
            wide = row.astype(np.float64)
            largest = wide.max()
            total = largest + math.log(np.exp(wide - largest).sum())
            losses.append(total - float(wide[after]))
    return losses
