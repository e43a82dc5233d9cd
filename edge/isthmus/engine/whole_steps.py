"""Whole steps of a model with one choice of kernels beside those with another, in turns."""

from __future__ import annotations

from statistics import median

import numpy as np

from isthmus.engine.prepared import LoadedModel
from isthmus.engine.timing import CHUNK, Timing, time_plan
from isthmus.kernels.base import Backend, Batch, KVShape, KVType, Plan

_SIZES = (1, 4, 8, 16, 64)
_CONTEXT = 4 * CHUNK
_TURNS = 5


class WholeSteps:
    """A model planned as the engine plans it, for measuring. `close` frees it."""

    def __init__(self, model: LoadedModel, backend: Backend) -> None:
        shape = KVShape.for_tokens(_CONTEXT, KVType.INT8)
        self._blocks = np.arange(shape.blocks, dtype=np.int32)
        self._vocab = model.config.vocab
        self._plan: Plan = backend.plan(model.ops, kv=shape, max_tokens=CHUNK)

    def warm_up(self) -> None:
        """Run steps of every size, so that a driver which compiles at the first launch has."""
        for first in range(0, _CONTEXT, CHUNK):
            self._step(first, CHUNK, 1)  # in order: what was never written is no number
        for tokens in _SIZES:
            for wanted in {1, tokens}:
                self._step(0, tokens, wanted)
            self._step(_CONTEXT - tokens, tokens, 1)

    def _step(self, first: int, tokens: int, wanted: int) -> None:
        ids = np.arange(first, first + tokens, dtype=np.int32) % self._vocab
        for greedy in (False, True):
            self._plan.run(
                Batch.of_one(ids, self._blocks, first=first, wanted=wanted, greedy=greedy)
            )

    def measure(self) -> Timing:
        """One measurement."""
        return time_plan(self._plan, self._vocab)

    def close(self) -> None:
        """Free the plan."""
        self._plan.close()


def exchange_s(timing: Timing) -> float:
    """The seconds of a short exchange: a prompt of 128 tokens, an answer of 64."""
    return 128 / timing.prefill_tok_s + 64 / timing.decode_tok_s


def in_turns(one: WholeSteps, other: WholeSteps) -> tuple[Timing, Timing]:
    """The timings of two, each the median of turns with the other."""
    pairs = [(one.measure(), other.measure()) for _ in range(_TURNS)]

    def middle(timings: tuple[Timing, ...]) -> Timing:
        return Timing(
            median(timing.prefill_tok_s for timing in timings),
            median(timing.decode_tok_s for timing in timings),
            median(timing.copy_block_s for timing in timings),
        )

    ones, others = zip(*pairs, strict=True)
    return middle(ones), middle(others)
