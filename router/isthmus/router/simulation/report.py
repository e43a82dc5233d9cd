"""What a run says: one dictionary that JSON can hold, from which table and plots are made too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isthmus.router.simulation.capacity import Sizing
from isthmus.router.simulation.choice import REASONS
from isthmus.router.simulation.fleet import Run
from isthmus.router.simulation.histogram import Histogram
from isthmus.router.simulation.outages import Outage
from isthmus.router.simulation.tally import Tally, Tier

PERCENTILES = (50, 90, 95, 99)
RECOVERED = 1.1
"""A latency is back when it is at most this many times what it is without the outage."""
EVERYONE = tuple(Tier)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the day, or the same hour of several days."""

    label: str
    rows: slice | np.ndarray[tuple[int], np.dtype[np.bool_]]
    seconds: float


def report(run: Run, sizing: Sizing | None, start_s: float, failed: Run | None) -> dict[str, Any]:
    """Everything about a run; `failed` is the same one with its outages."""
    everything: dict[str, Any] = {
        "devices": run.devices,
        "gpus": run.gpus,
        "hours": round(run.hours, 3),
        **summary(run),
        "sizing": _sizing(sizing),
        "by_time": [{"time": p.label, **_part(run, p)} for p in parts(run.tally, start_s)],
    }
    if failed is not None:
        everything["with_outages"] = summary(failed)
        everything["outages"] = [_outage(run, failed, one, start_s) for one in failed.outages]
    return everything


def summary(run: Run) -> dict[str, Any]:
    """The whole of a run."""
    tally, scenario = run.tally, run.scenario
    requests = float(tally.requests.sum())
    counts = zip(REASONS, tally.reasons.tolist(), strict=True)
    gpu_hours = run.gpus * run.hours
    busy_h = float(tally.busy_gpu_s.sum()) / 3600
    tokens_usd = float(tally.micro_usd.sum()) / 1e6
    gpu_wh = busy_h * scenario.gpu.busy_w + max(0.0, gpu_hours - busy_h) * scenario.gpu.idle_w
    return {
        "requests": int(requests),
        "escalated_share": _share(tally.escalated.sum(), requests),
        "unserved": int(tally.unserved.sum()),
        "reasons": {reason.value: count for reason, count in counts if count},
        "expected_quality": {
            "routed": _share(tally.good_answers.sum(), requests),
            "all_on_device": _share(tally.good_on_edge.sum(), requests),
            "all_in_cloud": _share(tally.good_in_cloud.sum(), requests),
        },
        "latency_ms": {
            "device": latencies(tally, (Tier.EDGE,)),
            "cloud": latencies(tally, (Tier.CLOUD,)),
            "fell_back": latencies(tally, (Tier.FELL_BACK,)),
            "all": latencies(tally, EVERYONE),
        },
        "bill": {
            "tokens_usd": round(tokens_usd, 6),
            "usd_per_1000_requests": _share(tokens_usd * 1000, requests),
            "gpu_hours": round(gpu_hours, 3),
            "gpu_usd": round(gpu_hours * scenario.gpu.usd_per_hour, 4),
        },
        "energy_wh": {
            "devices": round(float(tally.device_j.sum()) / 3600, 3),
            "radio": round(float(tally.radio_j.sum()) / 3600, 3),
            "gpus": round(gpu_wh, 3),
        },
        "gpu_use": _share(busy_h, gpu_hours),
        "sequences_per_gpu": _share(tally.sequence_s.sum() / 3600, gpu_hours),
        "prefix_hit_share": _share(tally.cached_tokens, tally.prompt_tokens),
        "dispersion_per_step": _dispersion(tally),
        "step_s": tally.step_s,
    }


def latencies(
    tally: Tally, tiers: tuple[Tier, ...], rows: Any = slice(None)
) -> dict[str, Any] | None:
    """Answers and percentiles of the time to the first token and in all; None without answers."""
    columns = {}
    for name, histograms in (("ttft", tally.ttft_ms), ("total", tally.total_ms)):
        both = Histogram(1)
        for tier in tiers:
            both.counts[0] += histograms[tier].counts[rows].sum(axis=0)
        if not both.count():
            return None
        columns[name] = {f"p{p}": _round(both.percentile(p)) for p in PERCENTILES}
        count = both.count()
    return {"answers": count, **columns}


def parts(tally: Tally, start_s: float) -> Iterator[Part]:
    """By the hour of the day when a run has some; else in some two dozen pieces."""
    times = start_s + np.arange(tally.rows) * tally.step_s
    if tally.rows * tally.step_s > 6 * 3600:
        hours = (times % 86_400 // 3600).astype(int)
        for hour in dict.fromkeys(hours.tolist()):
            rows = hours == hour
            yield Part(f"{hour:02d}:00", rows, float(rows.sum()) * tally.step_s)
        return
    size = -(-tally.rows // 24)
    for begin in range(0, tally.rows, size):
        piece = slice(begin, min(tally.rows, begin + size))
        yield Part(_clock(float(times[begin])), piece, (piece.stop - begin) * tally.step_s)


def _part(run: Run, part: Part) -> dict[str, Any]:
    tally, rows = run.tally, part.rows
    requests = float(tally.requests[rows].sum())
    edge, cloud = (latencies(tally, (tier,), rows) for tier in (Tier.EDGE, Tier.CLOUD))
    return {
        "requests_per_s": _round(requests / part.seconds),
        "escalated_share": _share(tally.escalated[rows].sum(), requests),
        "device_ttft_p95_ms": edge and edge["ttft"]["p95"],
        "cloud_ttft_p95_ms": cloud and cloud["ttft"]["p95"],
        "sequences_per_gpu": _share(tally.sequence_s[rows].sum(), run.gpus * part.seconds),
        "tokens_usd": round(float(tally.micro_usd[rows].sum()) / 1e6, 6),
        "device_wh": round(float((tally.device_j + tally.radio_j)[rows].sum()) / 3600, 3),
    }


def _sizing(sizing: Sizing | None) -> dict[str, Any] | None:
    if sizing is None:
        return None
    return {
        "gpus": sizing.gpus,
        "slo": asdict(sizing.slo),
        "busy_hour_from_s": sizing.busy_from_s,
        "tried": [
            {"gpus": gpus, "ttft_kept": round(ttft, 4), "tpot_kept": round(tpot, 4)}
            for gpus, ttft, tpot in sizing.tried
        ],
    }


def _outage(run: Run, failed: Run, outage: Outage, start_s: float) -> dict[str, Any]:
    step_s, rows = run.tally.step_s, run.tally.rows
    begin, end = (min(rows, int(t // step_s)) for t in (outage.start_s, outage.end_s))
    during, after = (
        slice(begin, max(end, begin + 1)),
        slice(end, min(rows, end + int(3600 // step_s))),
    )
    return {
        "what": outage.part.value,
        "network": outage.network,
        "gpus_left": int(run.gpus * outage.gpus_left) if outage.part == "cloud" else run.gpus,
        "from": _clock(start_s + outage.start_s),
        "to": _clock(start_s + outage.end_s),
        "during": _beside(run.tally, failed.tally, during),
        "hour_after": _beside(run.tally, failed.tally, after),
        "recovered_after_s": _recovery_s(run.tally, failed.tally, end),
    }


def _beside(usual: Tally, failed: Tally, rows: slice) -> dict[str, Any]:
    """The same requests with the outage and without."""
    sides = {}
    for name, tally in (("with", failed), ("without", usual)):
        requests = float(tally.requests[rows].sum())
        everyone = latencies(tally, EVERYONE, rows)
        sides[name] = {
            "escalated_share": _share(tally.escalated[rows].sum(), requests),
            "fell_back": tally.ttft_ms[Tier.FELL_BACK].count(rows),
            "unserved": int(tally.unserved[rows].sum()),
            "expected_quality": _share(tally.good_answers[rows].sum(), requests),
            "ttft_p50_ms": everyone and everyone["ttft"]["p50"],
            "ttft_p95_ms": everyone and everyone["ttft"]["p95"],
            "total_p95_ms": everyone and everyone["total"]["p95"],
        }
    return {"requests": int(requests), **sides}


def _recovery_s(usual: Tally, failed: Tally, end: int) -> float | None:
    """How long after the outage until a step's 95th percentile is what it would have been."""
    for row in range(end, usual.rows):
        here = slice(row, row + 1)
        before = usual.percentile(usual.ttft_ms, 95, here, EVERYONE)
        now = failed.percentile(failed.ttft_ms, 95, here, EVERYONE)
        if before is None or now is None or now <= RECOVERED * before:
            return (row - end) * usual.step_s
    return None


def _dispersion(tally: Tally) -> float | None:
    counts = tally.requests[:-1] if tally.rows > 2 else tally.requests
    return _share(counts.var(), counts.mean())


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _share(part: Any, whole: float) -> float | None:
    return _round(float(part) / whole) if whole else None


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
