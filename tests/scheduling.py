"""A plan without a model and a clock without time, to watch the scheduler at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

import tiny_qwen2
from isthmus.core.chat import Sampling
from isthmus.core.deadline import Deadline
from isthmus.core.errors import IsthmusError
from isthmus.core.events import Event
from isthmus.engine.answer import Answer, Job
from isthmus.engine.kv import KVPool
from isthmus.engine.scheduler import Scheduler
from isthmus.engine.speculation import MakeDrafter
from isthmus.engine.tokens.tokenizer import Segment, Tokenizer
from isthmus.kernels.base import Batch, KVShape, Step

VOCAB = tiny_qwen2.CONFIG.vocab
TOKENIZER = Tokenizer(tiny_qwen2.model().tokenizer)
BLOCK = 8
GREEDY = Sampling(temperature=0, ignore_eos=True)


class FakePlan:
    """After each token comes the one that `follow` says; a step takes as long as `cost` says."""

    max_tokens = 128

    def __init__(self, cost: Callable[[int], float], follow: Callable[[int, int], int]) -> None:
        self.now_s = 0.0
        self.batches: list[Batch] = []
        self._cost = cost
        self._follow = follow

    def clock(self) -> float:
        return self.now_s

    def run(self, batch: Batch) -> Step:
        self.batches.append(batch)
        self.now_s += self._cost(len(batch.tokens))
        logits = np.zeros((len(batch.rows), VOCAB), np.float32)
        for index, row in enumerate(batch.rows):
            following = self._follow(int(batch.tokens[row]), int(batch.positions[row]))
            logits[index, following] = 1
        return Step(logits)

    def close(self) -> None:
        pass


class Bench:
    """A scheduler over a fake plan; a step costs 10 ms and 1 ms a token unless told otherwise."""

    def __init__(
        self,
        *,
        blocks: int = 400,
        cost: Callable[[int], float] = lambda tokens: 0.010 + 0.001 * tokens,
        follow: Callable[[int, int], int] = lambda token, position: (token + 1) % 256,
        drafter: MakeDrafter | None = None,
    ) -> None:
        self.plan = FakePlan(cost, follow)
        self.pool = KVPool(KVShape(blocks, BLOCK), copy=lambda source, target: None)
        self.scheduler = Scheduler(
            self.plan, self.pool, model="fake", drafter=drafter, clock=self.plan.clock
        )
        self.events: dict[Answer, list[Event | IsthmusError]] = {}

    def ask(
        self,
        tokens: list[int],
        *,
        max_tokens: int = 1000,
        sampling: Sampling = GREEDY,
        cache_salt: str = "",
    ) -> Answer:
        events: list[Event | IsthmusError] = []
        segments = (Segment("x"),)
        job = Job(segments, tokens, sampling, max_tokens, Deadline.NEVER, events.append)
        answer = Answer(replace(job, cache_salt=cache_salt), TOKENIZER)
        self.events[answer] = events
        self.scheduler.add(answer)
        return answer

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.scheduler.step()

    def finish(self) -> None:
        while self.scheduler.step():
            pass

    @property
    def tokens_computed(self) -> int:
        return sum(len(batch.tokens) for batch in self.plan.batches)
