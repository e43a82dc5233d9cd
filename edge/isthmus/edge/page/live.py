"""`/v1/isthmus/live`: where answers were made of late, how fast, what that cost, what stayed.

Figures come from the ledger; counts and percentiles are exact.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import psutil

from isthmus.core.decision import Status, Target
from isthmus.core.errors import Unavailable
from isthmus.core.money import usd
from isthmus.edge.agent import Agent
from isthmus.edge.page.outcomes import CLASSES, Chosen, Floats, Outcomes, Table
from isthmus.router.budget import PeriodState

WINDOWS: Final = {
    "15m": (900, 15),
    "1h": (3_600, 60),
    "24h": (86_400, 1_800),
    "7d": (604_800, 10_800),
    "30d": (2_592_000, 43_200),
}
"""Name → its length and that of its buckets, in seconds."""
_TIMES: Final = ("ttft_ms", "tpot_ms", "total_ms")


class Live:
    """The live picture. For one event loop."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._outcomes = None if agent.ledger is None else Outcomes(agent.ledger)
        self._reading = asyncio.Lock()

    async def json(self, window: str) -> dict[str, Any]:
        """The picture of one of `WINDOWS`. Raises `Unavailable`."""
        length_s, bucket_s = WINDOWS[window]
        async with self._reading:
            try:
                told = await asyncio.to_thread(self._told, length_s, bucket_s)
            except sqlite3.Error as error:
                name = getattr(error, "sqlite_errorname", type(error).__name__)
                raise Unavailable(f"the ledger cannot be read ({name}): isthmus doctor") from None
        agent = self._agent
        told["money"] |= _budget(agent)
        told["privacy"] |= {
            "labels": agent.metrics.counts("isthmus_edge_privacy_found_values"),
            "redacted_labels": agent.metrics.counts(
                "isthmus_edge_privacy_values", treatment="redacted"
            ),
        }
        return told | {
            "device": _device(agent),
            "cloud": _cloud(agent),
            "in_flight": agent.in_flight,
        }

    def _told(self, length_s: int, bucket_s: int) -> dict[str, Any]:
        now = time.time()
        # Whole buckets, of which the last has only begun.
        begins = (now // bucket_s + 1) * bucket_s - length_s
        table = Table.empty() if self._outcomes is None else self._outcomes.since(begins)
        asked = table.of(~table.has("shadow"))
        edge, cloud, failed = _ends(asked)
        refused = asked.ended(Status.REFUSED)
        classes = asked["privacy_class"]
        error = None if self._outcomes is None else self._outcomes.last_error
        return {
            "object": "isthmus.live",
            "now_unix_s": now,
            "window_s": length_s,
            "bucket_s": bucket_s,
            "buckets": _buckets(asked, begins, length_s // bucket_s, bucket_s),
            "totals": {
                "requests": len(asked),
                "edge": _count(edge),
                "cloud": _count(cloud),
                "failed": _count(failed),
                "refused": _count(refused),
                "kept_private": _count(asked.has("stayed") & ~refused),
                "redacted": _count(asked.has("redacted") & ~refused),
                "blocked": _count(asked.has("blocked")),
                "tokens": int(asked["completion_tokens"].sum()),
            },
            "latency": {
                target.value: {
                    name: _percentiles(asked[name][chosen], 50, 95, 99) for name in _TIMES
                }
                for target, chosen in ((Target.EDGE, edge), (Target.CLOUD, cloud))
            },
            "promises": self._promises(asked),
            # What nobody waited for was paid all the same.
            "money": {
                "spent_usd": usd(int(table["paid_micro_usd"].sum())),
                "saved_usd": usd(int(asked["saved_micro_usd"].sum())),
            },
            "privacy": {
                "classes": {one.value: _count(classes == code) for code, one in enumerate(CLASSES)}
            },
            "last_error": None if error is None else asdict(error),
        }

    def _promises(self, asked: Table) -> list[dict[str, Any]]:
        """How many of the answers kept each promised time."""
        config, (edge, cloud, _) = self._agent.config, _ends(asked)
        by = {"edge": edge, "cloud": cloud, "all": edge | cloud}
        return [
            {
                "of": name,
                "limit_ms": limit_ms,
                "kept": {who: _share(asked[name][of], limit_ms) for who, of in by.items()},
            }
            for name, limits in (("ttft_ms", config.ttft_slo_ms), ("tpot_ms", config.tpot_slo_ms))
            for limit_ms in limits
        ]


def _ends(asked: Table) -> tuple[Chosen, Chosen, Chosen]:
    """Those that the device answered, those that the cloud did, and those that failed."""
    cloud, failed = asked.has("cloud"), asked.ended(Status.FAILED)
    answered = ~failed & ~asked.ended(Status.REFUSED)
    return answered & ~cloud, answered & cloud, failed


def _buckets(asked: Table, begins: float, count: int, bucket_s: int) -> list[dict[str, Any]]:
    number = ((asked["at_unix_s"] - begins) // bucket_s).astype(np.int64).clip(0, count - 1)
    ends = _ends(asked)
    edge, cloud, failed = (np.bincount(number[chosen], minlength=count) for chosen in ends)
    tokens = np.bincount(number, weights=asked["completion_tokens"], minlength=count)
    ttft_ms = asked["ttft_ms"]
    timed = (ends[0] | ends[1]) & ~np.isnan(ttft_ms)
    times, at = ttft_ms[timed], number[timed]
    order = np.argsort(at, kind="stable")
    parts = np.split(times[order], np.cumsum(np.bincount(at, minlength=count))[:-1])
    return [
        {
            "at_unix_s": begins + n * bucket_s,
            "edge": int(edge[n]),
            "cloud": int(cloud[n]),
            "failed": int(failed[n]),
            "tokens": int(tokens[n]),
            **{f"ttft_{name}_ms": ms for name, ms in _percentiles(parts[n], 50, 95).items()},
        }
        for n in range(count)
    ]


def _count(chosen: Chosen) -> int:
    return int(np.count_nonzero(chosen))


def _share(values: Floats, limit: float) -> float | None:
    """Of those at most so large; None where there are none."""
    known = values[~np.isnan(values)]
    return round(float((known <= limit).mean()), 4) if len(known) else None


def _percentiles(values: Floats, *percents: int) -> dict[str, float | None]:
    """By their names (`p50`); None where there is nothing to tell them from."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {f"p{percent}": None for percent in percents}
    found = np.percentile(known, percents)
    return {
        f"p{percent}": round(float(one), 2) for percent, one in zip(percents, found, strict=True)
    }


def _budget(agent: Agent) -> dict[str, Any]:
    state = agent.spending.state
    spent = agent.spending.budget.spent()

    def period(limited: PeriodState | None, spent_micro_usd: int) -> Mapping[str, float | None]:
        return {
            "spent_usd": usd(spent_micro_usd),
            "limit_usd": None if limited is None else usd(limited.limit_micro_usd),
            "left_usd": None if limited is None else usd(limited.left_micro_usd),
        }

    return {"day": period(state.day, spent[0]), "month": period(state.month, spent[1])}


def _device(agent: Agent) -> dict[str, Any]:
    device, health = agent.device, agent.sensors.health
    runs = device.describe()
    battery = None
    if health.battery is not None:
        battery = {"ratio": health.battery, "charging": health.charging}
    network = None
    if agent.cloud is not None:
        network = "online" if agent.cloud.available else "offline"
    return {
        "model": runs.get("model"),
        "backend": runs.get("decode_backend"),
        "prefill_backend": runs.get("prefill_backend"),
        "state": device.state.value,
        "problem": device.problem,
        "memory_bytes": psutil.Process().memory_info().rss,
        "memory_free_bytes": health.memory_free_bytes,
        "battery": battery,
        "temperature_c": health.temperature_c,
        "throttled": health.throttled,
        "network": network,
    }


def _cloud(agent: Agent) -> dict[str, Any]:
    cloud = agent.cloud
    info = None if cloud is None else cloud.last_info
    return {
        "state": "none" if cloud is None else cloud.breaker.state.value,
        "consent": agent.consent.granted,
        "model": None if info is None else info.model,
        "same_model_demo": info is not None and info.same_model_demo,
        "rtt_ms": None if cloud is None else cloud.rtt_ms,
    }
