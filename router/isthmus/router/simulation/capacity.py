"""How many GPUs keep a promise: the smallest number that does in the busiest hour.

The demand is what the policy sends to a cloud in which nobody waits, so that a cloud that is too
small does not look sufficient because the policy avoids it. As telephone networks are, the cloud
is dimensioned for its busiest hour; ten minutes before it fill the queues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import ConfigError
from isthmus.router.simulation.cloud import Cloud, Job
from isthmus.router.simulation.fleet import BLOCK_S, ENDLESS_S, simulate
from isthmus.router.simulation.requests import Flags, Floats, Workload
from isthmus.router.simulation.scenario import Gpu, Scenario

HOUR_S = 3600.0
MOST_GPUS = 100_000
CHUNK = 20_000
"""Jobs that are queued at once."""


@dataclass(frozen=True, slots=True)
class Slo:
    """What is promised of the cloud's answers, round trip included."""

    ttft_ms: float = 1000.0
    tpot_ms: float = 50.0
    share: float = 0.95
    """Of the answers, that keep either."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """The number of GPUs, and what was tried on the way."""

    gpus: int
    slo: Slo
    busy_from_s: float
    tried: tuple[tuple[int, float, float], ...]
    """GPUs, the share of answers that kept the time to the first token, and that a token."""


def size_cloud(
    scenario: Scenario,
    workload: Workload,
    slo: Slo,
    *,
    devices: int,
    seed: int = 0,
    start_s: float = 0.0,
    step: Callable[[float], None] = lambda hours: None,
) -> Sizing:
    """The smallest cloud that keeps `slo`. Raises `ConfigError` when none does."""
    begin_s, end_s = busiest_hour(workload, seed)
    window = (max(0.0, begin_s - BLOCK_S), end_s)
    demand = simulate(
        scenario,
        workload,
        devices=devices,
        gpus=None,
        seed=seed,
        start_s=start_s,
        window=window,
        keep_jobs=True,
        step=step,
    )
    jobs = np.concatenate(demand.jobs) if demand.jobs else np.zeros((0, 5))
    counted = jobs[:, 0] >= begin_s
    if not counted.any():
        return Sizing(1, slo, begin_s, ())
    gpu = scenario.gpu
    alone_ms = (jobs[counted, 1] / gpu.prefill_tok_s) * 1e3 + jobs[counted, 4]
    if np.mean(alone_ms <= slo.ttft_ms) < slo.share:
        reached = float(np.quantile(alone_ms, slo.share))
        raise ConfigError(
            f"no number of GPUs keeps it: round trip and prefill alone take {reached:.0f} ms for "
            f"{slo.share:.0%} of the requests",
            field="slo_ttft_ms",
        )
    if gpu.step_ms + gpu.sequence_ms > slo.tpot_ms:
        raise ConfigError(
            f"no number of GPUs keeps it: a sequence alone takes "
            f"{gpu.step_ms + gpu.sequence_ms:.1f} ms a token",
            field="slo_tpot_ms",
        )
    tried: dict[int, tuple[float, float]] = {}

    def keeps(gpus: int) -> bool:
        tried[gpus] = _shares(gpu, gpus, jobs, counted, slo)
        return min(tried[gpus]) >= slo.share

    busy_s = end_s - window[0]
    most = max(1, int(np.sum(jobs[:, 1]) / gpu.prefill_tok_s / busy_s))
    least = most - 1
    while not keeps(most):
        least, most = most, max(most + 1, int(most * 1.5))
        if most > MOST_GPUS:
            raise ConfigError(f"more than {MOST_GPUS:,} GPUs would be needed", field="devices")
    while most - least > 1:
        middle = (least + most) // 2
        if keeps(middle):
            most = middle
        else:
            least = middle
    if most + 1 not in tried:
        keeps(most + 1)  # what one more would give
    return Sizing(most, slo, begin_s, tuple((n, *tried[n]) for n in sorted(tried)))


def busiest_hour(workload: Workload, seed: int) -> tuple[float, float]:
    """From when to when most prompt tokens arrive; all of a run that is no longer than an hour."""
    end_s = workload.hours * 3600
    starts = np.arange(0.0, end_s, BLOCK_S)
    tokens = []
    for number, begin_s in enumerate(starts):
        rng = np.random.default_rng((seed, number))
        block = workload.between(begin_s, min(end_s, begin_s + BLOCK_S), rng)
        tokens.append(float(block.prompt_tokens.sum()))
    blocks = int(HOUR_S / BLOCK_S)
    if len(tokens) <= blocks:
        return 0.0, end_s
    hours = np.convolve(tokens, np.ones(blocks), "valid")
    begin_s = float(starts[int(np.argmax(hours))])
    return begin_s, min(end_s, begin_s + HOUR_S)


def _shares(gpu: Gpu, gpus: int, jobs: Floats, counted: Flags, slo: Slo) -> tuple[float, float]:
    """The shares of the counted jobs that keep each promise on so many GPUs."""
    cloud = Cloud(gpu, gpus, now_s=float(jobs[0, 0]))
    first_s, last_s = np.empty(len(jobs)), np.empty(len(jobs))
    for begin in range(0, len(jobs), CHUNK):
        rows = jobs[begin : begin + CHUNK]
        columns = (rows[:, 0].tolist(), *rows[:, 1:4].astype(np.int64).T.tolist())
        cloud.offer(Job(begin + key, *row) for key, row in enumerate(zip(*columns, strict=True)))
        if begin + CHUNK >= len(jobs):
            cloud.run(ENDLESS_S)
        done = np.array(cloud.done).reshape(-1, 3)
        cloud.done.clear()
        keys = done[:, 0].astype(np.int64)
        first_s[keys], last_s[keys] = done[:, 1], done[:, 2]
    ttft_ms = (first_s - jobs[:, 0]) * 1e3 + jobs[:, 4]
    tpot_ms = (last_s - first_s) * 1e3 / np.maximum(1.0, jobs[:, 2] - 1)
    return (
        float(np.mean(ttft_ms[counted] <= slo.ttft_ms)),
        float(np.mean(tpot_ms[counted] <= slo.tpot_ms)),
    )
