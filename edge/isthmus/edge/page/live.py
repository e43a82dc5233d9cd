"""`/v1/isthmus/live`: where answers were made of late, how fast, what that cost, what stayed.

Figures come from the ledger. Its rows are read once, as numbers, and after that only those that are
new; counts and percentiles are exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Reason, Status, Target
from isthmus.core.errors import Unavailable
from isthmus.core.money import usd
from isthmus.edge.agent import Agent
from isthmus.edge.ledger import Ledger
from isthmus.router.budget import PeriodState

WINDOWS: Final = {
    "15m": (900, 15),
    "1h": (3_600, 60),
    "24h": (86_400, 1_800),
    "7d": (604_800, 10_800),
    "30d": (2_592_000, 43_200),
}
"""Name → its length and that of its buckets, in seconds."""

Floats = npt.NDArray[np.float64]
_Chosen = npt.NDArray[np.bool_]

_STAYED: Final = (
    Reason.PRIVACY_LOCAL_ONLY,
    Reason.PRIVACY_SCAN_FAILED,
    Reason.PRIVACY_NOT_REDACTABLE,
)
_CLASSES: Final = tuple(PrivacyClass)
_COLUMNS: Final = 13
_AT, _CLOUD, _STATUS, _CLASS, _STAY, _HIDDEN, _BLOCK, _SHADOW = range(8)
_TTFT, _TPOT, _TOTAL, _PAID, _SAVED = range(8, _COLUMNS)
_TIMES: Final = (("ttft_ms", _TTFT), ("tpot_ms", _TPOT), ("total_ms", _TOTAL))
_STATUSES: Final = tuple(Status)


def _has(*reasons: Reason) -> str:
    listed = " + ".join(f"instr(',' || reasons || ',', ',{reason.value},')" for reason in reasons)
    return f"({listed}) > 0"


def _code(column: str, values: tuple[Any, ...]) -> str:
    cases = " ".join(f"WHEN '{one.value}' THEN {code}" for code, one in enumerate(values))
    return f"CASE {column} {cases} ELSE -1 END"


_ROWS: Final = f"""
SELECT rowid, at_unix_s, route = '{Target.CLOUD.value}', {_code("status", _STATUSES)},
    {_code("privacy_class", _CLASSES)}, {_has(*_STAYED)}, {_has(Reason.PRIVACY_REDACTED)},
    {_has(Reason.PRIVACY_BLOCKED)}, {_has(Reason.SHADOW)},
    ttft_ms, tpot_ms, total_ms, price_micro_usd, saved_micro_usd
FROM outcomes WHERE rowid > ? AND at_unix_s >= ? ORDER BY rowid LIMIT ?
"""
_NONE: Final[Floats] = np.empty((0, _COLUMNS))
_AT_ONCE: Final = 10_000
"""Rows that are read in one piece: what stands between two chances for others to run."""


class Outcomes:
    """The ledger's outcomes as columns of numbers. Blocking; for one thread at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._file = f"{ledger.path.resolve().as_uri()}?mode=ro"
        self._rows = _NONE
        self._last = 0
        self._since_unix_s = np.inf

    def since(self, unix_s: float) -> Floats:
        """All outcomes that arrived from `unix_s` on: [outcomes, 13]. Raises `sqlite3.Error`."""
        with contextlib.closing(sqlite3.connect(self._file, uri=True)) as db:
            if unix_s < self._since_unix_s:
                first = "SELECT min(rowid) FROM outcomes WHERE at_unix_s >= ?"
                (row,) = db.execute(first, (unix_s,)).fetchone()
                self._rows, self._last, self._since_unix_s = _NONE, (row or 1) - 1, unix_s
            self._read(db)
        # What is older than any window that was asked for is not needed again.
        longest_s = max(length_s for length_s, _ in WINDOWS.values())
        oldest = max(self._since_unix_s, time.time() - longest_s)
        if len(self._rows) and (old := self._rows[:, _AT] < oldest).any():
            self._rows = self._rows[~old]
        return self._rows[self._rows[:, _AT] >= unix_s]

    def _read(self, db: sqlite3.Connection) -> None:
        read = [self._rows]
        while True:
            rows = db.execute(_ROWS, (self._last, self._since_unix_s, _AT_ONCE)).fetchall()
            if rows:
                table = np.array(rows, dtype=np.float64)
                self._last = rows[-1][0]
                read.append(table[:, 1:])
            if len(rows) < _AT_ONCE:
                break
        if len(read) > 1:
            self._rows = np.concatenate(read)


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

    async def warm_up(self) -> None:
        """Read what the longest window needs, lest the first look at it wait."""
        with contextlib.suppress(Unavailable):
            await self.json("30d")

    def _told(self, length_s: int, bucket_s: int) -> dict[str, Any]:
        now = time.time()
        # Whole buckets, of which the last has only begun.
        begins = (now // bucket_s + 1) * bucket_s - length_s
        rows = _NONE if self._outcomes is None else self._outcomes.since(begins)
        asked = rows[rows[:, _SHADOW] == 0]
        cloud = asked[:, _CLOUD] == 1
        failed, refused = (
            asked[:, _STATUS] == _STATUSES.index(one) for one in (Status.FAILED, Status.REFUSED)
        )
        answered = ~failed & ~refused
        classes = asked[:, _CLASS]
        return {
            "object": "isthmus.live",
            "now_unix_s": now,
            "window_s": length_s,
            "bucket_s": bucket_s,
            "buckets": _buckets(asked, begins, length_s // bucket_s, bucket_s),
            "totals": {
                "requests": len(asked),
                "edge": _count(answered & ~cloud),
                "cloud": _count(answered & cloud),
                "failed": _count(failed),
                "refused": _count(refused),
                "kept_private": _count((asked[:, _STAY] == 1) & ~refused),
                "redacted": _count((asked[:, _HIDDEN] == 1) & ~refused),
                "blocked": _count(asked[:, _BLOCK] == 1),
            },
            "latency": {
                target.value: {name: _percentiles(asked[chosen, column]) for name, column in _TIMES}
                for target, chosen in (
                    (Target.EDGE, answered & ~cloud),
                    (Target.CLOUD, answered & cloud),
                )
            },
            # What nobody waited for was paid all the same.
            "money": {
                "spent_usd": usd(int(rows[:, _PAID].sum())),
                "saved_usd": usd(int(asked[:, _SAVED].sum())),
            },
            "privacy": {
                "classes": {one.value: _count(classes == code) for code, one in enumerate(_CLASSES)}
            },
        }


def _buckets(asked: Floats, begins: float, count: int, bucket_s: int) -> list[dict[str, Any]]:
    number = ((asked[:, _AT] - begins) // bucket_s).astype(np.int64).clip(0, count - 1)
    status, cloud = asked[:, _STATUS], asked[:, _CLOUD] == 1
    failed = status == _STATUSES.index(Status.FAILED)
    answered = ~failed & (status != _STATUSES.index(Status.REFUSED))

    def each(chosen: _Chosen) -> list[int]:
        return [int(one) for one in np.bincount(number[chosen], minlength=count)]

    edge, in_cloud, lost = each(answered & ~cloud), each(answered & cloud), each(failed)
    timed = answered & ~np.isnan(asked[:, _TTFT])
    times, at = asked[timed, _TTFT], number[timed]
    order = np.argsort(at, kind="stable")
    parts = np.split(times[order], np.cumsum(np.bincount(at, minlength=count))[:-1])
    return [
        {
            "at_unix_s": begins + n * bucket_s,
            "edge": edge[n],
            "cloud": in_cloud[n],
            "failed": lost[n],
            "ttft_p50_ms": _quantile(parts[n], 0.5),
            "ttft_p95_ms": _quantile(parts[n], 0.95),
        }
        for n in range(count)
    ]


def _count(chosen: _Chosen) -> int:
    return int(np.count_nonzero(chosen))


def _percentiles(values: Floats) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    return {f"p{percent}": _quantile(known, percent / 100) for percent in (50, 95, 99)}


def _quantile(values: Floats, q: float) -> float | None:
    """None where there is nothing to tell it from."""
    return round(float(np.quantile(values, q)), 2) if len(values) else None


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
