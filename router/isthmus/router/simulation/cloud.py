"""The cloud's queue: M GPUs that batch continuously, simulated event by event.

Each GPU runs iterations as vLLM does with chunked prefill: one token for every sequence that
decodes, and up to a chunk of prompt tokens. An iteration lasts

    step(b) + c / prefill_tok_s,    step(b) = step_ms + sequence_ms * b  (0 without decoders)

for `b` decoding sequences and `c` prompt tokens. The balancer is taken to be a good one: it spreads
sequences evenly and sends a prompt where it can start first, so the GPUs are one pool with one
queue in front (first come, first served; admitted when a sequence and the KV blocks of prompt and
answer are free). One that only counts requests lets some wait behind a prompt that it cannot see.
All sequences that decode then advance at the same speed, and so do all prompts in prefill, one a
GPU: two clocks that count tokens instead of seconds. A sequence finishes when the clock reaches the
count it had at its start plus its own length, which makes each event a heap operation: it costs
microseconds a request, whatever the lengths.

With answers of one token this is M/G/c (M/M/c for exponential prompts); without prompts it is
processor sharing with a speed that depends on the load. The tests hold it against both formulas,
and against GPUs simulated one by one, iteration by iteration, behind such a balancer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import NamedTuple

from isthmus.router.simulation.scenario import Gpu

NEVER = float("inf")
LEARNING = 0.01
"""The weight of the latest prompt in their moving mean."""


class Job(NamedTuple):
    """One request in the cloud."""

    key: int
    """The caller's own number for it."""
    arrival_s: float
    prefill_tokens: int
    """Prompt tokens to compute: those in the prefix cache left out. At least 1."""
    answer_tokens: int
    kv_tokens: int
    """What it holds of the KV pool from admission to its end."""


class Done(NamedTuple):
    """A request whose last token was made."""

    key: int
    first_s: float
    last_s: float


class Lost(NamedTuple):
    """A request that was thrown out, with what had been answered by then."""

    key: int
    first_s: float | None
    answered_tokens: int


@dataclass(slots=True)
class Cloud:
    """A pool of `gpus`; `offer` jobs in the order of their arrival, collect from `done`."""

    gpu: Gpu
    gpus: int
    now_s: float = 0.0
    busy_gpu_s: float = 0.0
    """GPU-seconds with at least one sequence on the GPU."""
    sequence_s: float = 0.0
    """Seconds that sequences spent on GPUs: over the time it is how many there were."""
    done: list[Done] = field(default_factory=list)
    waiting: deque[Job] = field(default_factory=deque)
    prefilling: list[tuple[float, int, Job]] = field(default_factory=list)
    """Heap: the prefill clock at the end of the prompt, the key, the job."""
    decoding: list[tuple[float, int, float, Job]] = field(default_factory=list)
    """Heap: the decode clock at the last token, the key, the time of the first token, the job."""
    kv_used: int = 0
    waiting_prefill_tokens: int = 0
    waiting_answer_tokens: int = 0
    mean_prompt: float = 512.0
    """A moving mean of the prompts' tokens."""
    prefill_clock: float = 0.0
    decode_clock: float = 0.0

    def offer(self, jobs: Iterable[Job]) -> None:
        """Take in jobs, in the order of their arrival, none earlier than `now_s`."""
        self._play(jobs, self.now_s)

    def run(self, until_s: float) -> None:
        """Let everything happen that happens up to `until_s`."""
        self._play((), until_s)

    def _play(self, jobs: Iterable[Job], until_s: float) -> None:
        """The events in their order: jobs arrive, prompts end, answers end.

        Most of a simulation's time goes by in here, hence the local names.
        """
        waiting, prefilling, decoding, done = (
            self.waiting,
            self.prefilling,
            self.decoding,
            self.done,
        )
        gpus, kv_tokens, now_s = self.gpus, self.gpus * self.gpu.kv_tokens, self.now_s
        sequences = gpus * self.gpu.max_sequences
        prefill_clock, decode_clock = self.prefill_clock, self.decode_clock
        kv_used, busy_gpu_s, sequences_s = self.kv_used, self.busy_gpu_s, self.sequence_s
        chunk_tokens, prefill_tok_s = self.gpu.chunk_tokens, self.gpu.prefill_tok_s
        step_s, sequence_s = self.gpu.step_ms / 1e3, self.gpu.sequence_ms / 1e3
        for job in chain(jobs, (None,)):
            until_s = max(now_s, until_s) if job is None else job.arrival_s
            while True:
                prompts, answers = len(prefilling), len(decoding)
                if gpus:
                    # Below one sequence a GPU, a share of them decodes one each, the others none.
                    batch = answers / gpus
                    full = batch if batch > 1.0 else 1.0
                    iteration_s = step_s + sequence_s * full
                    # Prompts that are in line are packed into one iteration, up to a chunk.
                    packed = (prompts + len(waiting)) / gpus
                    part = self.mean_prompt * (packed if packed > 1.0 else 1.0)
                    part = part if part < chunk_tokens else chunk_tokens
                    chunk_s = part / prefill_tok_s
                    prefill_speed = part / (chunk_s + batch / full * iteration_s)
                    share = prompts / gpus
                    decode_speed = share / (iteration_s + chunk_s) + (1.0 - share) / iteration_s
                else:
                    prefill_speed = decode_speed = 0.0
                prompt_s = answer_s = NEVER
                if prompts:
                    prompt_s = (prefilling[0][0] - prefill_clock) / prefill_speed
                if answers:
                    answer_s = (decoding[0][0] - decode_clock) / decode_speed
                pass_s = prompt_s if prompt_s <= answer_s else answer_s
                over = now_s + pass_s > until_s
                if over:
                    pass_s = until_s - now_s
                if pass_s > 0:
                    prefill_clock += pass_s * prefill_speed
                    decode_clock += pass_s * decode_speed
                    running = prompts + answers
                    busy_gpu_s += pass_s * (running if running < gpus else gpus)
                    sequences_s += pass_s * running
                    now_s += pass_s
                if over:
                    break
                if prompt_s <= answer_s:
                    prefill_clock, key, first = heappop(prefilling)
                    self.mean_prompt += LEARNING * (first.prefill_tokens - self.mean_prompt)
                    # It waited for the iteration that was under way, half of it on average.
                    first_s = now_s + batch / full * iteration_s / 2
                    if first.answer_tokens > 1:
                        last = decode_clock + first.answer_tokens - 1
                        heappush(decoding, (last, key, first_s, first))
                    else:
                        kv_used -= first.kv_tokens
                        done.append(Done(key, first_s, first_s))
                else:
                    decode_clock, key, first_s, last_job = heappop(decoding)
                    kv_used -= last_job.kv_tokens
                    done.append(Done(key, first_s, first_s if first_s > now_s else now_s))
                if waiting:
                    kv_used = self._admit(kv_used, kv_tokens, sequences, prefill_clock)
            now_s = until_s
            if job is not None:
                waiting.append(job)
                self.waiting_prefill_tokens += job.prefill_tokens
                self.waiting_answer_tokens += job.answer_tokens
                if len(waiting) == 1:
                    kv_used = self._admit(kv_used, kv_tokens, sequences, prefill_clock)
        self.now_s, self.kv_used = now_s, kv_used
        self.busy_gpu_s, self.sequence_s = busy_gpu_s, sequences_s
        self.prefill_clock, self.decode_clock = prefill_clock, decode_clock

    def _admit(self, kv_used: int, kv_tokens: int, sequences: int, clock: float) -> int:
        """Start what can start. Returns the KV tokens that are then in use."""
        waiting, prefilling = self.waiting, self.prefilling
        free = min(self.gpus, sequences - len(self.decoding)) - len(prefilling)
        while waiting and free > 0:
            job = waiting[0]
            if kv_used and kv_used + job.kv_tokens > kv_tokens:
                break
            waiting.popleft()
            self.waiting_prefill_tokens -= job.prefill_tokens
            self.waiting_answer_tokens -= job.answer_tokens
            kv_used += job.kv_tokens
            heappush(prefilling, (clock + job.prefill_tokens, job.key, job))
            free -= 1
        return kv_used

    def wait_s(self) -> float:
        """What a request that arrives now is expected to wait before its prefill, as a gateway
        can tell from its queue: the prompts ahead of it, and the sequences that have to end.
        """
        if not self.gpus:
            return NEVER
        if not self.waiting:
            return 0.0
        wait = self.waiting_prefill_tokens / (self.gpus * self.gpu.prefill_tok_s)
        if len(self.prefilling) < self.gpus and self.decoding:
            # The queue stands for want of sequences or KV blocks, not of prefill.
            wait += self.waiting_answer_tokens / len(self.decoding) * self.tpot_s()
        return wait

    def tpot_s(self) -> float:
        """The time a token takes in a sequence that decodes now."""
        gpus, gpu = max(1, self.gpus), self.gpu
        iteration_s = (gpu.step_ms + gpu.sequence_ms * max(1.0, len(self.decoding) / gpus)) / 1e3
        chunk_s = min(self.mean_prompt, gpu.chunk_tokens) / gpu.prefill_tok_s
        share = len(self.prefilling) / gpus
        return 1 / (share / (iteration_s + chunk_s) + (1 - share) / iteration_s)

    def resize(self, gpus: int) -> list[Lost]:
        """Go on with `gpus`. What ran on GPUs that are gone is lost (evenly spread), and all that
        waits when none is left.
        """
        lost: list[Lost] = []
        if gpus < self.gpus:
            gone = 1 - gpus / self.gpus
            running = sorted(self._running())
            keys = {k for i, k in enumerate(running) if int((i + 1) * gone) > int(i * gone)}
            lost = self.drop(keys | ({job.key for job in self.waiting} if not gpus else set()))
        self.gpus = gpus
        self._restart()
        return lost

    def drop(self, keys: set[int]) -> list[Lost]:
        """Throw these out, wherever they are; keys that are not here are passed over."""
        if not keys:
            return []
        lost = [Lost(job.key, None, 0) for job in self.waiting if job.key in keys]
        lost += [Lost(key, None, 0) for _, key, _ in self.prefilling if key in keys]
        for last, key, first_s, job in self.decoding:
            if key in keys:
                answered = job.answer_tokens - (last - self.decode_clock)
                lost.append(Lost(key, first_s, int(answered)))
        here = [e[2] for e in self.prefilling if e[1] in keys]
        here += [e[3] for e in self.decoding if e[1] in keys]
        self.kv_used -= sum(job.kv_tokens for job in here)
        self.waiting = deque(job for job in self.waiting if job.key not in keys)
        self.waiting_prefill_tokens = sum(job.prefill_tokens for job in self.waiting)
        self.waiting_answer_tokens = sum(job.answer_tokens for job in self.waiting)
        self.prefilling = [e for e in self.prefilling if e[1] not in keys]
        self.decoding = [e for e in self.decoding if e[1] not in keys]
        heapify(self.prefilling)
        heapify(self.decoding)
        self._restart()
        return lost

    def _restart(self) -> None:
        self.kv_used = self._admit(
            self.kv_used,
            self.gpus * self.gpu.kv_tokens,
            self.gpus * self.gpu.max_sequences,
            self.prefill_clock,
        )

    def keys(self) -> list[int]:
        """All that wait or run."""
        return [job.key for job in self.waiting] + self._running()

    def _running(self) -> list[int]:
        return [entry[1] for entry in self.prefilling] + [entry[1] for entry in self.decoding]


class Unbounded(Cloud):
    """A cloud in which nobody waits: for the demand that the policy has when all is well."""

    def offer(self, jobs: Iterable[Job]) -> None:
        """Answer at once, each on a GPU of its own."""
        step_s = (self.gpu.step_ms + self.gpu.sequence_ms) / 1e3
        for job in jobs:
            first_s = job.arrival_s + job.prefill_tokens / self.gpu.prefill_tok_s
            self.done.append(Done(job.key, first_s, first_s + (job.answer_tokens - 1) * step_s))
