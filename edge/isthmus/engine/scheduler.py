"""Which tokens go into the next step: continuous batching with chunked prefill.

Every running answer that is past its prompt adds one token to each step; what room is left goes
to the prompts, first come first served, in chunks, so that a long prompt stalls nobody. When the
KV pool is exhausted the youngest answer gives its blocks back and starts over from its tokens.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from isthmus.core.errors import DeadlineExceeded, IsthmusError, Overloaded
from isthmus.core.events import Started
from isthmus.engine.answer import Answer
from isthmus.engine.kv import KVPool
from isthmus.kernels.base import Batch, Plan

MAX_RUNNING = 8
"""Answers in one batch."""


class Scheduler:
    """The running and the waiting. Not thread safe: the engine's thread owns it."""

    def __init__(self, plan: Plan, pool: KVPool, *, model: str) -> None:
        self._plan = plan
        self._pool = pool
        self._model = model
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []

    @property
    def waiting(self) -> int:
        """Answers that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Answers in the batch."""
        return len(self._running)

    def add(self, answer: Answer) -> None:
        """Queue an answer."""
        self._waiting.append(answer)

    def fail_all(self, error: IsthmusError) -> None:
        """End everything with `error`."""
        for answer in [*self._running, *self._waiting]:
            answer.fail(error)
            self._pool.release(answer.lease)
        self._running.clear()
        self._waiting.clear()

    def step(self) -> bool:
        """Run one step; False when there is nothing to do."""
        self._drop_unwanted()
        self._admit()
        shares = self._shares()
        if not shares:
            return False
        step = self._plan.run(self._batch(shares))
        row = 0
        for answer, count in shares:
            answer.computed += count
            self._pool.publish(answer.lease, answer.tokens, answer.computed)
            if answer.computed == len(answer.tokens):
                choice = answer.choose(step.logits[row])
                row += 1
                if answer.add(choice):
                    self._running.remove(answer)
                    self._keep(answer)
        return True

    def _drop_unwanted(self) -> None:
        for answer in [*self._running, *self._waiting]:
            if answer.job.deadline.expired:
                answer.fail(DeadlineExceeded("the time for this answer is used up"))
            elif not answer.cancelled:
                continue
            if answer in self._running:
                self._running.remove(answer)
                # What was computed is as good as of any other prefix: the client may come back.
                self._keep(answer)
            else:
                self._waiting.remove(answer)

    def _keep(self, answer: Answer) -> None:
        self._pool.keep(answer.lease, answer.tokens, answer.computed, answer.text_so_far())

    def _admit(self) -> None:
        while self._waiting and len(self._running) < MAX_RUNNING:
            answer = self._waiting.popleft()
            answer.lease, answer.computed = self._pool.share(answer.tokens)
            if answer.cached_tokens is None:
                answer.cached_tokens = min(answer.computed, len(answer.job.tokens))
                answer.job.sink(Started(self._model, len(answer.job.tokens), answer.cached_tokens))
            self._running.append(answer)

    def _shares(self) -> list[tuple[Answer, int]]:
        """How many tokens of each running answer the next step computes."""
        room = self._plan.max_tokens
        decoding = [a for a in self._running if len(a.tokens) - a.computed == 1]
        prefilling = [a for a in self._running if len(a.tokens) - a.computed > 1]
        shares = []
        for answer in [*decoding, *prefilling]:
            if answer not in self._running:
                continue  # it made room for one before it
            count = min(room, len(answer.tokens) - answer.computed)
            if count and self._make_room(answer, answer.computed + count):
                shares.append((answer, count))
                room -= count
        return [(answer, count) for answer, count in shares if answer in self._running]

    def _make_room(self, answer: Answer, positions: int) -> bool:
        while not self._pool.extend(answer.lease, positions):
            youngest = self._running[-1]
            if youngest is answer and len(self._running) == 1:
                # Cannot happen while the pool holds a whole context; said rather than spun on.
                self._running.remove(answer)
                self._pool.release(answer.lease)
                answer.fail(Overloaded("the KV pool is too small for this conversation"))
                return False
            self._running.remove(youngest)
            self._pool.release(youngest.lease)
            youngest.computed = 0
            self._waiting.appendleft(youngest)
            if youngest is answer:
                return False
        return True

    def _batch(self, shares: list[tuple[Answer, int]]) -> Batch:
        tokens: list[int] = []
        positions: list[int] = []
        sequence: list[int] = []
        rows: list[int] = []
        widest = max(len(answer.lease.blocks) for answer, _ in shares)
        tables = np.full((len(shares), widest), -1, np.int32)
        for index, (answer, count) in enumerate(shares):
            end = answer.computed + count
            tokens += answer.tokens[answer.computed : end]
            positions += range(answer.computed, end)
            sequence += [index] * count
            tables[index, : len(answer.lease.blocks)] = answer.lease.blocks
            if end == len(answer.tokens):
                rows.append(len(tokens) - 1)
        return Batch(
            np.asarray(tokens, np.int32),
            np.asarray(positions, np.int32),
            np.asarray(sequence, np.int32),
            tables,
            np.asarray(rows, np.int32),
        )
