"""The live picture: counts, times, money and privacy of late, from the ledger."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status
from isthmus.edge.ledger import Ledger
from isthmus.edge.page.live import WINDOWS
from isthmus.edge.page.outcomes import Outcomes, Table
from isthmus.edge.sensors import Sensors
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from isthmus.router.signals import DeviceHealth
from past_outcomes import IN_CLOUD, ON_EDGE

REDACTED = replace(
    IN_CLOUD,
    reasons=(Reason.VALUE_IN_CLOUD, Reason.PRIVACY_REDACTED),
    privacy_class=PrivacyClass.REDACTED,
)


class Seen:
    def __init__(self, http: httpx.AsyncClient, running: RunningAgent, ledger: Ledger) -> None:
        self.http = http
        self.running = running
        self.ledger = ledger
        self._count = 0

    def happened(self, *outcomes: Outcome, ago_s: float = 1.0) -> None:
        for outcome in outcomes:
            self._count += 1
            at = time.time() - ago_s
            self.ledger.record(replace(outcome, request_id=f"r{self._count}", at_unix_s=at))
        self.ledger.flush()

    def ledger_is_deleted(self) -> None:
        for file in self.ledger.path.parent.glob("ledger.sqlite*"):
            file.unlink()

    async def live(self, window: str = "1h") -> Any:
        told = await self.http.get("/v1/isthmus/live", params={"window": window})
        assert told.status_code == 200, told.text
        return told.json()


@asynccontextmanager
async def seen(tmp_path: Path, **more: Any) -> AsyncIterator[Seen]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    async with (
        running_agent(ScriptedEngine(), ledger=ledger, **more) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client,
    ):
        yield Seen(client, running, ledger)


async def test_a_ledger_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    async with seen(tmp_path) as page:
        page.happened(ON_EDGE, ON_EDGE)
        assert (await page.live())["totals"]["requests"] == 2
        page.ledger_is_deleted()
        page.happened(ON_EDGE)
        assert (await page.live())["totals"]["requests"] == 1


async def test_an_agent_that_answered_nothing_yet_knows_no_times(tmp_path: Path) -> None:
    async with seen(tmp_path) as page:
        told = await page.live()
        assert set(told["totals"].values()) == {0}
        assert told["latency"]["edge"]["ttft_ms"] == {"p50": None, "p95": None, "p99": None}
        assert told["money"]["day"] == {"spent_usd": 0.0, "limit_usd": None, "left_usd": None}
        assert told["device"]["battery"] is None
        assert told["cloud"]["state"] == "none"


async def test_every_request_is_counted_where_it_was_answered(tmp_path: Path) -> None:
    kept = replace(
        ON_EDGE, reasons=(Reason.PRIVACY_LOCAL_ONLY,), privacy_class=PrivacyClass.SENSITIVE
    )
    blocked = replace(ON_EDGE, reasons=(Reason.PRIVACY_BLOCKED, Reason.FELL_BACK))
    async with seen(tmp_path) as page:
        page.happened(ON_EDGE, kept, blocked, REDACTED, REDACTED)
        page.happened(
            replace(ON_EDGE, status=Status.FAILED), replace(ON_EDGE, status=Status.REFUSED)
        )
        page.happened(replace(REDACTED, reasons=(Reason.SHADOW,)))
        told = await page.live()
        assert told["totals"] == {
            "requests": 7,
            "edge": 3,
            "cloud": 2,
            "failed": 1,
            "refused": 1,
            "kept_private": 1,
            "redacted": 2,
            "blocked": 1,
            "tokens": 7 * 20,
        }
        assert sum(bucket["edge"] for bucket in told["buckets"]) == 3
        assert sum(bucket["cloud"] for bucket in told["buckets"]) == 2
        assert sum(bucket["failed"] for bucket in told["buckets"]) == 1
        assert sum(bucket["tokens"] for bucket in told["buckets"]) == 7 * 20
        assert told["privacy"]["classes"] == {
            "public": 4,
            "redacted": 2,
            "sensitive": 1,
            "unknown": 0,
        }
        # Nobody waited for the shadow, but it was paid.
        assert told["money"]["spent_usd"] == pytest.approx(3 * 700e-6)
        assert told["money"]["saved_usd"] == pytest.approx(5 * 40e-6)


async def test_percentiles_are_those_of_the_window_and_its_buckets(tmp_path: Path) -> None:
    times = [float(ms) for ms in range(1, 200)]
    async with seen(tmp_path) as page:
        page.happened(*(replace(ON_EDGE, ttft_ms=ms) for ms in times))
        page.happened(replace(ON_EDGE, ttft_ms=9_999.0), ago_s=7_200)
        page.happened(replace(ON_EDGE, ttft_ms=None, tpot_ms=None, status=Status.CANCELLED))
        told = await page.live("1h")
        expected = {f"p{p}": float(np.percentile(times, p)) for p in (50, 95, 99)}
        assert told["latency"]["edge"]["ttft_ms"] == pytest.approx(expected, abs=0.01)
        full = next(bucket for bucket in told["buckets"] if bucket["edge"] > 1)
        assert full["ttft_p95_ms"] == pytest.approx(expected["p95"], abs=0.01)
        assert told["buckets"][0]["ttft_p50_ms"] is None
        assert (await page.live("24h"))["totals"]["edge"] == 201
        assert (await page.live("1h"))["totals"]["edge"] == 200
        page.happened(ON_EDGE)
        assert (await page.live("1h"))["totals"]["edge"] == 201, "what is new is read too"


@pytest.mark.parametrize("window", WINDOWS)
async def test_buckets_follow_each_other_up_to_now(tmp_path: Path, window: str) -> None:
    async with seen(tmp_path) as page:
        page.happened(ON_EDGE, ago_s=0.0)
        told = await page.live(window)
        starts = [bucket["at_unix_s"] for bucket in told["buckets"]]
        assert np.diff(starts) == pytest.approx([told["bucket_s"]] * (len(starts) - 1))
        assert len(starts) * told["bucket_s"] == told["window_s"]
        assert starts[-1] <= told["now_unix_s"] < starts[-1] + told["bucket_s"]
        assert told["buckets"][-1]["edge"] == 1


async def test_the_devices_and_the_clouds_state_are_told(tmp_path: Path) -> None:
    sensors = Sensors()
    sensors.health = DeviceHealth(battery=0.4, charging=True, temperature_c=41.5, throttled=False)
    cloud = ScriptedTier(same_model_demo=True)
    budget = {"budget": {"day_usd": "0.50"}}
    async with seen(tmp_path, cloud=cloud, sensors=sensors, router=budget) as page:
        await cloud.info()
        told = await page.live()
        assert told["device"]["battery"] == {"ratio": 0.4, "charging": True}
        assert told["device"]["state"] == "ready"
        assert told["device"]["model"] == "scripted"
        assert told["device"]["memory_bytes"] > 1_000_000
        assert told["cloud"]["state"] == "closed"
        assert told["cloud"]["model"] == "scripted"
        assert told["money"]["day"] == {"spent_usd": 0.0, "limit_usd": 0.5, "left_usd": 0.5}


async def test_labels_are_counted_and_no_text_is_told(tmp_path: Path) -> None:
    async with seen(tmp_path, cloud=ScriptedTier()) as page:
        text = "Write a polite letter: reach me at jane.doe@example.org after noon."
        asked = {"messages": [{"role": "user", "content": text}]}
        await page.http.post("/v1/chat/completions", json=asked | {"model": "isthmus-edge"})
        await page.http.post("/v1/chat/completions", json=asked | {"model": "isthmus-cloud"})
        told = await page.http.get("/v1/isthmus/live")
        assert told.json()["privacy"]["labels"] == {"EMAIL": 2}
        assert told.json()["privacy"]["redacted_labels"] == {"EMAIL": 1}
        assert "jane" not in told.text


async def test_no_more_of_the_ledger_is_read_than_the_window_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[float] = []
    since = Outcomes.since

    def noted(outcomes: Outcomes, unix_s: float) -> Table:
        read.append(time.time() - unix_s)
        return since(outcomes, unix_s)

    monkeypatch.setattr(Outcomes, "since", noted)
    async with seen(tmp_path) as page:
        await page.http.get("/")
        await page.live("15m")
        assert len(read) == 1
        assert read[0] <= 900


async def test_a_window_that_is_none_is_refused(tmp_path: Path) -> None:
    async with seen(tmp_path) as page:
        told = await page.http.get("/v1/isthmus/live", params={"window": "2h"})
        assert (told.status_code, told.json()["error"]["param"]) == (400, "window")


async def test_it_tells_how_many_answers_kept_each_promised_time(tmp_path: Path) -> None:
    slow = replace(ON_EDGE, ttft_ms=900.0, tpot_ms=None)
    failed = replace(ON_EDGE, status=Status.FAILED, ttft_ms=9000.0)
    async with seen(tmp_path, ttft_slo_ms=(500.0,), tpot_slo_ms=(5.0, 4.0)) as page:
        page.happened(ON_EDGE, slow, failed)
        assert (await page.live())["promises"] == [
            {"of": "ttft_ms", "limit_ms": 500.0, "kept": {"edge": 0.5, "cloud": None, "all": 0.5}},
            {"of": "tpot_ms", "limit_ms": 5.0, "kept": {"edge": 1.0, "cloud": None, "all": 1.0}},
            {"of": "tpot_ms", "limit_ms": 4.0, "kept": {"edge": 0.0, "cloud": None, "all": 0.0}},
        ]


async def test_it_tells_what_went_wrong_last_by_its_kind(tmp_path: Path) -> None:
    lost = replace(REDACTED, status=Status.FAILED, error_kind="unavailable")
    async with seen(tmp_path) as page:
        page.happened(ON_EDGE)
        assert (await page.live())["last_error"] is None
        page.happened(lost, ago_s=20)
        page.happened(ON_EDGE)
        error = (await page.live())["last_error"]
        assert (error["kind"], error["route"], error["status"]) == (
            "unavailable",
            "cloud",
            "failed",
        )
        assert time.time() - error["at_unix_s"] == pytest.approx(20, abs=15)
