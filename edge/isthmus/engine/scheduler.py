"""Which tokens go into the next step: continuous batching with chunked prefill.

Every running answer that is past its prompt adds its token to each step, and the tokens that are
guessed to follow it (`speculation`). The prompts share what room the pace leaves them, in equal
parts, so that a long one stalls neither the answers nor a short prompt. Prompts that begin alike
do not compute their common start twice: all but the furthest wait for its blocks. When the KV pool
is exhausted the youngest answer gives its blocks back and starts over from its tokens; when a
backend fails and another goes on, all do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import DeadlineExceeded, IsthmusError, Overloaded
from isthmus.core.events import Started
from isthmus.engine.answer import Answer
from isthmus.engine.fallback import PlanReplaced, Steps
from isthmus.engine.kv import KVPool, Lease
from isthmus.engine.pace import Pace
from isthmus.engine.speculation import MAX_DRAFT, MakeDrafter, SpeculationCount, Speculator
from isthmus.kernels.base import F32, Batch

MAX_RUNNING = 8
"""Answers in one batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What one answer computes in a step."""

    answer: Answer
    tokens: list[int]
    """Those fed, the first at the answer's next position."""
    wanted: int
    """How many of them, the last ones, want logits."""
    guessed: list[int]
    """Those of them, the last ones, that are guesses."""
    judged: int = 0
    """So many of the rows that are wanted, the first ones, judge the token that follows."""


class Scheduler:
    """The running and the waiting. Not thread safe: the engine's thread owns it."""

    def __init__(
        self,
        plan: Steps,
        pool: KVPool,
        *,
        model: str,
        drafter: MakeDrafter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._model = model
        self._drafter = drafter
        self.speculated = SpeculationCount()
        """Of all answers."""
        self.step_bytes: int | None = None
        """Bytes of weights that the last step read; None where the backend does not count."""
        self._clock = clock
        self._pace = Pace()
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._turn = 0
        self._crowded = False
        """An answer was put off for want of blocks: nobody comes in before one has ended."""

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
        """End everything with `error`; the pool is forgotten, a failed step may have spoilt it."""
        for answer in [*self._running, *self._waiting]:
            answer.fail(error)
        self._running.clear()
        self._waiting.clear()
        self._pool.forget_all()
        self._crowded = False

    def step(self) -> bool:
        """Run one step; False when there is nothing to do."""
        try:
            return self._step()
        except PlanReplaced:
            self.start_over()
            return True

    def start_over(self) -> None:
        """Compute every running answer again from its tokens: the pool is another, and empty."""
        for answer in reversed(self._running):
            answer.computed = 0
            answer.lease = Lease()
            self._waiting.appendleft(answer)
        self._running.clear()
        self._pool.forget_all()
        self._crowded = False
        self._pace = Pace()

    def _step(self) -> bool:
        self._drop_unwanted()
        self._admit()
        writing = self._writing()
        rows = sum(share.wanted for share in writing)
        reading = self._reading(rows)
        shares = [s for s in [*writing, *reading] if s.answer in self._running]
        if not shares:
            return False
        began = self._clock()
        step = self._plan.run(self._batch(shares))
        self.step_bytes = step.weight_bytes
        took_s = self._clock() - began
        rows = sum(share.wanted for share in writing if share in shares)
        self._pace.observe(rows, sum(len(s.tokens) for s in shares) - rows, took_s)
        row = 0
        for share in shares:
            rows_of = slice(row, row + share.wanted)
            hidden = None if step.hidden is None else step.hidden[rows_of]
            self._take(share, step.logits[rows_of], hidden)
            row += share.wanted
        return True

    def _take(self, share: Share, logits: F32, hidden: F32 | None) -> None:
        """Go on with an answer after its share was computed.

        logits: [share.wanted, vocab]; hidden: [share.wanted, hidden], when captured.
        """
        answer = share.answer
        answer.computed += len(share.tokens) - len(share.guessed)
        if share.judged:
            first = answer.computed - share.wanted + 1
            for position, row in enumerate(logits[: share.judged], start=first):
                answer.judge(position, row)
            logits = logits[share.judged :]
            hidden = None if hidden is None else hidden[share.judged :]
        ended = right = False
        self.speculated.proposed += len(share.guessed)
        # A row's logits are the answer's own as long as every guess before it was right.
        for at, (row, guess) in enumerate(zip(logits, [*share.guessed, None], strict=False)):
            try:
                choice = answer.choose(row, None if hidden is None else hidden[at])
                right = choice.token == guess
                self.speculated.accepted += right  # before the answer's end is told
                ended = answer.add(choice)
            except IsthmusError as error:  # its own: the others go on
                answer.fail(error)
                ended = True
            if ended or not right:
                break
            answer.computed += 1
        if share.wanted and answer.speculator is not None:
            answer.speculator.learn(answer.tokens)
        if ended:
            self._leave(answer)
            self._keep(answer)
            answer.tell_end()
        else:
            self._pool.publish(answer.lease, answer.tokens, answer.computed)

    def _leave(self, answer: Answer) -> None:
        """End an answer's part in the batch for good."""
        self._running.remove(answer)
        self._crowded = False

    def _drop_unwanted(self) -> None:
        for answer in [*self._running, *self._waiting]:
            if answer.job.deadline.expired:
                answer.fail(DeadlineExceeded("the time for this answer is used up"))
            elif not answer.cancelled:
                continue
            if answer in self._running:
                self._leave(answer)
                # What was computed is as good as of any other prefix: the client may come back.
                self._keep(answer)
            else:
                self._waiting.remove(answer)

    def _keep(self, answer: Answer) -> None:
        self._pool.keep(answer.lease, answer.tokens, answer.computed, answer.text_so_far())

    def _admit(self) -> None:
        while self._waiting and len(self._running) < MAX_RUNNING and not self._crowded:
            answer = self._waiting[0]
            answer.lease, answer.computed = self._pool.share(answer.reusable, answer.job.cache_salt)
            self._waiting.popleft()
            if answer.cached_tokens is None:
                answer.cached_tokens = min(answer.computed, len(answer.job.tokens))
                answer.job.sink(Started(self._model, len(answer.job.tokens), answer.cached_tokens))
            if self._drafter is not None and answer.speculator is None:
                answer.speculator = Speculator(self._drafter())
            self._running.append(answer)

    def _writing(self) -> list[Share]:
        """The answers that are past their prompts, each with what is guessed to follow."""
        answers = [
            answer
            for answer in list(self._running)
            # Making room for one may have put off another.
            if answer in self._running
            and answer.pending == 1
            and self._make_room(answer, len(answer.tokens))
        ]
        answers = [answer for answer in answers if answer in self._running]
        rows = len(answers)
        shares = []
        for answer in answers:
            guessed = self._guess(answer, rows)
            shares.append(Share(answer, [answer.tokens[-1], *guessed], 1 + len(guessed), guessed))
            rows += len(guessed)
        return shares

    def _guess(self, answer: Answer, rows: int) -> list[int]:
        """Tokens to feed behind the answer's last one, in a step that has `rows` already."""
        if answer.speculator is None:
            return []
        left = answer.job.max_tokens - answer.written - 1
        most = min(left, self._plan.max_tokens - rows, MAX_DRAFT)
        known = len(answer.tokens)
        if not self._pool.extend(answer.lease, known + most):
            # Nobody is put off for a guess.
            most = len(answer.lease.blocks) * self._pool.shape.block_tokens - known
        return answer.speculator.draft(answer.tokens, most, rows=rows, pace=self._pace)

    def _reading(self, rows: int) -> list[Share]:
        """The prompts' parts of a step in which `rows` are written on."""
        prompts = [answer for answer in self._running if answer.pending > 1]
        for answer in prompts:
            if answer.job.judged:
                continue
            ahead = self._pool.advance(answer.lease, answer.tokens, answer.computed)
            answer.skip_to(ahead)
        prompts = [answer for answer in prompts if not self._waits_for_another(answer, prompts)]
        room = self._pace.prompt_room(rows, self._plan.max_tokens - rows) if prompts else 0
        # Where there are more prompts than room, they take turns; short ones leave their rest.
        self._turn += 1
        at = self._turn % max(1, len(prompts))
        chosen = (prompts[at:] + prompts[:at])[:room]
        shares = []
        for index, answer in enumerate(sorted(chosen, key=lambda answer: answer.pending)):
            if answer not in self._running:
                continue  # it made room for one before it
            count = min(room // (len(chosen) - index), answer.pending)
            end = answer.computed + count
            if count and self._make_room(answer, end):
                last = end == len(answer.tokens)
                judged = _judged_rows(answer, end)
                fed = answer.tokens[answer.computed : end]
                shares.append(Share(answer, fed, judged + last, [], judged))
                room -= count
        return shares

    def _waits_for_another(self, answer: Answer, prompts: list[Answer]) -> bool:
        """Whether the block that it would compute now is about to come from another prompt."""
        size = self._pool.shape.block_tokens
        end = (answer.computed // size + 1) * size
        at = prompts.index(answer)
        return (
            end < len(answer.tokens)
            and any(
                other.computed // size == answer.computed // size
                and (other.computed, -index) > (answer.computed, -at)  # one of them never waits
                and other.job.cache_salt == answer.job.cache_salt
                and other.tokens[:end] == answer.tokens[:end]
                for index, other in enumerate(prompts)
            )
        )

    def _make_room(self, answer: Answer, positions: int) -> bool:
        while not self._pool.extend(answer.lease, positions):
            youngest = self._running[-1]
            if youngest is answer and len(self._running) == 1:
                # Cannot happen while the pool holds a whole context; said rather than spun on.
                self._leave(answer)
                self._pool.release(answer.lease)
                answer.fail(Overloaded("the KV pool is too small for this conversation"))
                return False
            self._running.remove(youngest)
            self._crowded = True
            self._pool.release(youngest.lease)
            youngest.computed = 0
            self._waiting.appendleft(youngest)
            if youngest is answer:
                return False
        return True

    def _batch(self, shares: list[Share]) -> Batch:
        tokens: list[int] = []
        positions: list[int] = []
        sequence: list[int] = []
        rows: list[int] = []
        widest = max(len(share.answer.lease.blocks) for share in shares)
        tables = np.full((len(shares), widest), -1, np.int32)
        for index, share in enumerate(shares):
            answer = share.answer
            tokens += share.tokens
            positions += range(answer.computed, answer.computed + len(share.tokens))
            sequence += [index] * len(share.tokens)
            tables[index, : len(answer.lease.blocks)] = answer.lease.blocks
            rows += range(len(tokens) - share.wanted, len(tokens))
        return Batch(
            np.asarray(tokens, np.int32),
            np.asarray(positions, np.int32),
            np.asarray(sequence, np.int32),
            tables,
            np.asarray(rows, np.int32),
            greedy=all(share.answer.wants_best_alone for share in shares if share.wanted),
            capture=any(share.answer.wants_hidden for share in shares if share.wanted),
        )


def _judged_rows(answer: Answer, end: int) -> int:
    """How many judged tokens come right behind the tokens from the computed ones to `end`."""
    if not answer.job.judged:
        return 0
    first = max(answer.computed + 1, answer.first_judged)
    return max(0, min(end, len(answer.job.tokens) - 1) - first + 1)
