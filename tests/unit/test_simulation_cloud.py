"""The cloud's queue is held against formulas, and against GPUs simulated iteration by iteration."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from isthmus.router.simulation.cloud import Cloud, Done, Job
from isthmus.router.simulation.requests import Floats, Ints
from isthmus.router.simulation.scenario import Gpu

ROOMY = Gpu(prefill_tok_s=10_000.0, max_sequences=100_000, kv_tokens=10**12)


def play(
    cloud: Cloud, arrival_s: Floats, prompts: Ints, answers: Ints
) -> tuple[Floats, Floats, Floats]:
    """Arrival, first token and last token of every request, in the order of arrival."""
    rows = (arrival_s.tolist(), prompts.tolist(), answers.tolist(), (prompts + answers).tolist())
    cloud.offer(Job(key, *row) for key, row in enumerate(zip(*rows, strict=True)))
    cloud.run(1e12)
    done = np.array(sorted(cloud.done))
    assert len(done) == len(arrival_s)
    return arrival_s, done[:, 1], done[:, 2]


def poisson(rate_rps: float, count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).exponential(1 / rate_rps, count).cumsum()


def erlang_c_wait_s(servers: int, load: float, service_s: float) -> float:
    """Mean wait in M/M/c (Erlang C); `load` is the offered load in servers."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last) * service_s / (servers - load)


@pytest.mark.parametrize(("servers", "use"), [(1, 0.7), (3, 0.8), (20, 0.9)])
def test_prompts_wait_as_in_a_queue_with_several_servers(servers: int, use: float) -> None:
    count = 40_000
    prompts = np.random.default_rng(1).exponential(10_000, count).astype(np.int64) + 1
    arrival = poisson(use * servers, count, 2)
    _, first, _ = play(Cloud(ROOMY, servers), arrival, prompts, np.ones(count, np.int64))
    wait = np.mean(first - arrival - prompts / ROOMY.prefill_tok_s)
    assert wait == pytest.approx(erlang_c_wait_s(servers, use * servers, 1.0), rel=0.1)


@pytest.mark.parametrize("lengths", [(10_000, 10_000), (1_000, 40_000)])
def test_prompts_of_any_lengths_wait_as_pollaczek_and_khinchine_say(
    lengths: tuple[int, int],
) -> None:
    count, rate = 40_000, 0.5 / (sum(lengths) / 2 / ROOMY.prefill_tok_s)
    prompts = np.random.default_rng(3).choice(lengths, count)
    _, first, _ = play(
        Cloud(ROOMY, 1), arrival := poisson(rate, count, 4), prompts, np.ones(count, np.int64)
    )
    service_s = prompts / ROOMY.prefill_tok_s
    expected = rate * np.mean(service_s**2) / 2 / (1 - rate * service_s.mean())
    assert np.mean(first - arrival - service_s) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["exponential", "all alike"])
def test_answers_share_a_gpu_as_processor_sharing_with_a_speed_that_depends_on_the_load(
    kind: str,
) -> None:
    """A birth-death chain; the mean does not depend on the lengths' distribution (Kelly, 1979)."""
    gpu = replace(ROOMY, prefill_tok_s=1e12, step_ms=6.0, sequence_ms=0.5)
    count, mean_tokens, rate = 30_000, 400, 3.0
    drawn = np.random.default_rng(5).exponential(mean_tokens, count).round().astype(np.int64)
    tokens = np.maximum(1, drawn) if kind == "exponential" else np.full(count, mean_tokens)
    arrival = poisson(rate, count, 6)
    _, first, last = play(Cloud(gpu, 1), arrival, np.ones(count, np.int64), tokens + 1)
    weights, weight = [1.0], 1.0
    for busy in range(1, 400):
        each_s = (gpu.step_ms + gpu.sequence_ms * busy) / 1e3
        weight *= rate * tokens.mean() * each_s / busy
        weights.append(weight)
    inside = sum(n * w for n, w in enumerate(weights)) / sum(weights)
    assert np.mean(last - first) == pytest.approx(inside / rate, rel=0.04)


@dataclass
class OneGpu:
    """A GPU by iterations: a token for each sequence, and up to a chunk of prompts."""

    gpu: Gpu
    now_s: float = 0.0
    queue: deque[list[int]] = field(default_factory=deque)
    """[key, prompt tokens that are left, tokens of the answer]"""
    running: list[list[int]] = field(default_factory=list)
    """[key, tokens that are left]"""
    begun: list[list[int]] = field(default_factory=list)
    under_way: int = 0

    def begin(self) -> None:
        """Start an iteration: what it takes in is fixed, and when it ends."""
        room, took_s, self.begun = self.gpu.chunk_tokens, 0.0, []
        if self.running:
            took_s = (self.gpu.step_ms + self.gpu.sequence_ms * len(self.running)) / 1e3
        while self.queue and room:
            part = min(room, self.queue[0][1])
            self.queue[0][1] -= part
            room -= part
            if not self.queue[0][1]:
                self.begun.append(self.queue.popleft())
        self.under_way = self.gpu.chunk_tokens - room
        took_s += (self.gpu.chunk_tokens - room) / self.gpu.prefill_tok_s
        self.now_s += took_s

    def end(self, first_s: Floats, last_s: Floats) -> None:
        """End it: a token for each sequence, a first token for each prompt that is through."""
        self.under_way = 0
        for sequence in self.running:
            sequence[1] -= 1
            if not sequence[1]:
                last_s[sequence[0]] = self.now_s
        self.running = [sequence for sequence in self.running if sequence[1]]
        for key, _, tokens in self.begun:
            first_s[key] = last_s[key] = self.now_s
            if tokens > 1:
                self.running.append([key, tokens - 1])
        self.begun = []

    @property
    def prompt_tokens(self) -> int:
        return sum(prompt for _, prompt, _ in self.queue) + self.under_way

    @property
    def load(self) -> int:
        return len(self.queue) + len(self.begun) + len(self.running)


def iterate(
    gpu: Gpu, count: int, arrival_s: Floats, prompts: Ints, answers: Ints
) -> tuple[Floats, Floats]:
    """First and last tokens on GPUs of their own behind a balancer that sees the prompts."""
    gpus = [OneGpu(gpu) for _ in range(count)]
    first_s, last_s = np.zeros(len(arrival_s)), np.zeros(len(arrival_s))
    clock: list[tuple[float, int]] = []
    for key, at in enumerate([*arrival_s.tolist(), math.inf]):
        while clock and clock[0][0] <= at:
            gpus[number := heapq.heappop(clock)[1]].end(first_s, last_s)
            if gpus[number].load:
                gpus[number].begin()
                heapq.heappush(clock, (gpus[number].now_s, number))
        if at < math.inf:
            number = min(range(count), key=lambda n: (gpus[n].prompt_tokens, gpus[n].load))
            idle = not gpus[number].load
            gpus[number].queue.append([key, int(prompts[key]), int(answers[key])])
            if idle:
                gpus[number].now_s = at
                gpus[number].begin()
                heapq.heappush(clock, (gpus[number].now_s, number))
    return first_s, last_s


@pytest.mark.parametrize(("gpus", "rate_rps"), [(2, 14.0), (6, 60.0)])
def test_the_pool_takes_as_long_as_single_gpus_that_batch_iteration_by_iteration(
    gpus: int, rate_rps: float
) -> None:
    count, rng = 2500, np.random.default_rng(7)
    arrival = poisson(rate_rps, count, 8)
    prompts, answers = rng.integers(100, 2000, count), rng.integers(2, 200, count)
    gpu = Gpu()
    _, first, last = play(Cloud(gpu, gpus), arrival, prompts, answers)
    one_first, one_last = iterate(gpu, gpus, arrival, prompts, answers)
    for percent in (50, 95):
        ttft = np.percentile(first - arrival, percent)
        assert ttft == pytest.approx(np.percentile(one_first - arrival, percent), rel=0.12)
    total = np.mean(last - arrival)
    assert total == pytest.approx(np.mean(one_last - arrival), rel=0.03)


def test_requests_wait_for_a_sequence_and_for_blocks_of_the_cache() -> None:
    two = Gpu(prefill_tok_s=1000.0, max_sequences=2, step_ms=10.0, sequence_ms=0.0)
    cloud = Cloud(two, 1)
    cloud.offer(Job(key, 0.0, 1, 101, 102) for key in range(3))
    cloud.run(0.5)
    assert (len(cloud.decoding), len(cloud.waiting)) == (2, 1)
    assert cloud.wait_s() > 0.2
    cloud.run(100.0)
    assert [done.key for done in sorted(cloud.done, key=lambda d: d.last_s)] == [0, 1, 2]
    assert cloud.kv_used == 0
    small = Cloud(replace(two, kv_tokens=150), 1)
    small.offer(Job(key, 0.0, 1, 101, 102) for key in range(2))
    small.run(0.5)
    assert (len(small.decoding), len(small.waiting)) == (1, 1)


def test_gpus_that_go_take_their_share_of_what_runs_with_them_and_the_rest_goes_on() -> None:
    cloud = Cloud(Gpu(), 4)
    cloud.offer(Job(key, 0.0, 10, 1000, 1010) for key in range(40))
    cloud.run(2.0)
    lost = cloud.resize(2)
    assert len(lost) == 20
    assert all(one.first_s is not None and 50 < one.answered_tokens < 1000 for one in lost)
    cloud.run(1e6)
    assert {done.key for done in cloud.done} == set(range(40)) - {one.key for one in lost}


def test_a_cloud_without_gpus_answers_nothing_and_says_so() -> None:
    cloud = Cloud(Gpu(), 2)
    cloud.offer([Job(0, 0.0, 10, 10, 20)])
    assert [one.key for one in cloud.resize(0)] == [0]
    assert (cloud.wait_s(), cloud.done) == (math.inf, [])
    cloud.offer([Job(1, 1.0, 10, 10, 20)])
    cloud.run(50.0)
    assert not cloud.resize(1)
    cloud.run(100.0)
    assert [type(one) for one in cloud.done] == [Done]
    assert cloud.done[0].first_s > 50
