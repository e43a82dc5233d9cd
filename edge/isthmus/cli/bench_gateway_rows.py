"""The rows of `isthmus bench gateway`: each starts what it measures, and tells numbers.

The gateway is the program itself, in a process of its own, with a scripted backend inside; the
loader runs in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.gateway_process import Served, ended, start_gateway, start_module

if TYPE_CHECKING:
    from isthmus.cloud.load.base import Order, Target
    from isthmus.cloud.load.runner import Report

CONTROL = "isthmus.cloud.load.control"
UPSTREAM = "isthmus.cloud.load.upstream"
_SAMPLE_S = 0.25
_ROOM: dict[str, Any] = {"max_running_requests": 10_000, "max_waiting_requests": 1_000}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 3
    """Pairs of a control run and a run through the gateway; medians are of these."""
    ttft_s: float = 15.0
    """Counted arrivals of one run."""
    streams: int = 2_000
    streams_s: float = 30.0
    tokens_s: float = 12.0
    cancellations: int = 300
    requests: int = 10_000
    """Of the row that watches memory over many requests."""


@dataclass(slots=True)
class Watched:
    """A run with the memory of the process that it asks."""

    report: Report
    samples: list[tuple[float, float, int]] = field(default_factory=list)
    """Seconds since the start, resident MB, tokens so far."""

    def between(self, low: float, high: float) -> list[tuple[float, float, int]]:
        """The samples from `low` to `high`, shares of the run's time."""
        end_s = self.samples[-1][0]
        return [one for one in self.samples if low * end_s <= one[0] <= high * end_s]

    def growth(self, low: float, high: float) -> float:
        """How much memory grew, as a share, between the first and last fifth of a part."""
        part = [rss for _, rss, _ in self.between(low, high)]
        fifth = max(1, len(part) // 5)
        return statistics.mean(part[-fifth:]) / statistics.mean(part[:fifth]) - 1.0

    def rate(self, low: float, high: float) -> float:
        """Tokens a second in a part of the run."""
        part = self.between(low, high)
        return (part[-1][2] - part[0][2]) / (part[-1][0] - part[0][0])


async def ttft(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    """200 streams of 20 tokens a second, 20 arrivals a second: with the gateway and without."""
    from isthmus.cloud.load.base import poisson, standing
    from isthmus.cloud.load.runner import run

    options = {"tokens_per_s": 20.0}
    runs: dict[str, list[Report]] = {"control": [], "gateway": []}
    with (
        ended(gateway(folder, "ttft", options)) as with_it,
        ended(control(folder, options)) as bare,
    ):
        for number in range(sizes.rounds):
            for name, served in (("control", bare), ("gateway", with_it)):
                arrivals = poisson(
                    20, requests=round(20 * sizes.ttft_s), tokens=200, from_s=3.0, seed=number
                )
                orders = [*standing(200, tokens=200, over_s=2.0, name=f"s{number}"), *arrivals]
                async with target(served) as asked:
                    runs[name].append(await run(asked, orders))
    pairs = list(zip(runs["control"], runs["gateway"], strict=True))
    added = {
        f"p{share}": [
            1e3 * (ours.ttft.quantile_s(share / 100) - bare.ttft.quantile_s(share / 100))
            for bare, ours in pairs
        ]
        for share in (50, 99)
    }
    told = {
        **{name: round(statistics.median(values), 3) for name, values in added.items()},
        "rounds": {name: [round(value, 3) for value in values] for name, values in added.items()},
        "gateway": [report.ttft.summary_ms() for report in runs["gateway"]],
        "control": [report.ttft.summary_ms() for report in runs["control"]],
    }
    return told, runs["gateway"]


async def streams(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    """All streams at once, slowly: does memory stay where it is?"""
    from isthmus.cloud.load.base import poisson

    pace = 2.0
    orders = poisson(
        sizes.streams / 5, requests=sizes.streams, tokens=round(sizes.streams_s * pace)
    )
    with ended(gateway(folder, "streams", {"tokens_per_s": pace})) as served:
        watched = await watch(served, orders)
    # Between the last arrival (5 of all seconds) and the first end.
    low, high = 8 / (sizes.streams_s + 5), (sizes.streams_s - 1) / (sizes.streams_s + 5)
    return {
        "streams": watched.report.most_streams,
        "rss_idle_mb": round(watched.samples[0][1], 1),
        "rss_mb": round(watched.between(low, high)[-1][1], 1),
        "growth": round(watched.growth(low, high), 4),
        "failed": dict(watched.report.failed),
    }, [watched.report]


async def tokens(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    """1,500 streams that want 30,000 tokens a second: what comes through?"""
    with ended(gateway(folder, "tokens", {"tokens_per_s": 20.0})) as served:
        return await _carried(served, sizes)


async def http(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    """The same from an upstream behind the gateway, which sends a chunk for each token."""
    options = [json.dumps({"tokens_per_s": 20.0})]
    with ended(start_module(folder, UPSTREAM, options)) as upstream:
        url = (await asyncio.to_thread(upstream.ready))["url"]
        behind = {"kind": "openai", "model": "scripted", "url": url}
        home = folder / "http-state"
        served = start_gateway(folder, name="http", home=home, backend=behind, **_ROOM)
        with ended(served):
            return await _carried(served, sizes)


async def _carried(served: Served, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    from isthmus.cloud.load.base import poisson

    orders = poisson(300, requests=1_500, tokens=round(20 * sizes.tokens_s))
    watched = await watch(served, orders)
    report = watched.report
    # All have come, and none has ended.
    low, high = 5.2 / report.wall_s, (sizes.tokens_s - 1) / report.wall_s
    return {
        "tokens_per_s": round(watched.rate(low, high), 1),
        "tokens_per_message": round(report.tokens / max(1, report.pieces), 2),
        "gap_ms": report.gap.summary_ms(),
        "failed": dict(report.failed),
    }, [report]


async def cancel(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    """Callers that go away in the middle: when does the engine stop?"""
    from isthmus.cloud.load.base import poisson
    from isthmus.cloud.load.journal import stopped_after
    from isthmus.cloud.load.runner import run

    journal = folder / "cancel.jsonl"
    orders = poisson(40, requests=sizes.cancellations, tokens=100, cancel_share=1.0)
    options = {"tokens_per_s": 50.0, "journal": str(journal)}
    with ended(gateway(folder, "cancel", options)) as served:
        async with target(served) as asked:
            report = await run(asked, orders)
            await asyncio.sleep(1.0)
        times, never = stopped_after(journal, report.left_at_s)
    return {"cancelled": report.cancelled, "never_stopped": never, **times.summary_ms()}, [report]


async def memory(folder: Path, sizes: Sizes) -> tuple[dict[str, Any], list[Report]]:
    """Many short requests: does memory stay where it is?"""
    from isthmus.cloud.load.base import poisson

    orders = poisson(250, requests=sizes.requests, tokens=8, cancel_share=0.05)
    # What is kept of answers that ended is full long before the part that is compared begins.
    limits = {"replay_max_answers": min(10_000, sizes.requests // 10)}
    with ended(gateway(folder, "memory", {}, limits=limits)) as served:
        watched = await watch(served, orders)
    return {
        "requests": watched.report.requests,
        "rss_mb": round(watched.samples[-1][1], 1),
        "growth": round(watched.growth(0.2, 1.0), 4),
        "failed": dict(watched.report.failed),
    }, [watched.report]


ROWS = {
    "ttft": ttft,
    "streams": streams,
    "tokens": tokens,
    "http": http,
    "cancel": cancel,
    "memory": memory,
}


def gateway(folder: Path, name: str, options: dict[str, Any], **settings: Any) -> Served:
    """A gateway with room for all of a load, and a scripted backend."""
    backend = {"kind": "scripted", "model": "scripted", "options": options}
    home = folder / f"{name}-state"
    return start_gateway(folder, name=name, home=home, backend=backend, **_ROOM | settings)


def control(folder: Path, options: dict[str, Any]) -> Served:
    """The same backend without a gateway."""
    return start_module(folder, CONTROL, [json.dumps(options)])


@contextlib.asynccontextmanager
async def target(served: Served) -> AsyncIterator[Target]:
    """Connections to it, once it listens."""
    from isthmus.cloud.load.base import poisson
    from isthmus.cloud.load.grpc_target import GrpcTarget
    from isthmus.cloud.load.runner import run

    told = await asyncio.to_thread(served.ready)
    asked = GrpcTarget(told["address"])
    try:
        await asked.ready()
        await run(asked, poisson(50, requests=25, tokens=2, name="w"))  # the first calls are slow
        gc.collect()
        gc.freeze()  # what lives since the start is not looked through in the middle of a run
        yield asked
    finally:
        gc.unfreeze()
        await asked.close()


async def watch(served: Served, orders: Iterable[Order]) -> Watched:
    """Run `orders` and sample the process."""
    from isthmus.cloud.load.runner import Report, run

    watched = Watched(Report())
    async with target(served) as asked:
        began_s = time.monotonic()

        async def sample() -> None:
            while True:
                at_s = time.monotonic() - began_s
                watched.samples.append((at_s, served.rss_mb, watched.report.tokens))
                await asyncio.sleep(_SAMPLE_S)

        sampling = asyncio.create_task(sample())
        try:
            await run(asked, orders, report=watched.report)
        finally:
            sampling.cancel()
    return watched
