"""Thumbs on answers: they correct the next decisions, survive a restart and hold no text."""

from __future__ import annotations

import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_client import sample
from isthmus.edge.ledger import Ledger
from isthmus.edge.testing import RunningAgent, ScriptedTier, running_agent
from isthmus.router.config import RouterConfig

QUICK = RouterConfig(feedback_step=0.1)


class Device:
    """An agent with a ledger, and a client of it."""

    def __init__(self, path: Path, router: RouterConfig = QUICK) -> None:
        self._path, self._router = path, router
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Device:
        ledger = Ledger(self._path / "ledger.sqlite")
        agent = running_agent(cloud=ScriptedTier(), ledger=ledger, router=self._router)
        self.agent: RunningAgent = await self._stack.enter_async_context(agent)
        client = httpx.AsyncClient(base_url=self.agent.url, trust_env=False)
        self.client = await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def ask(self, text: str = "Say hello.", **extra: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], **extra}
        return await self.client.post("/v1/chat/completions", json=body)

    async def rate(self, request_id: str, rating: str) -> httpx.Response:
        body = {"request_id": request_id, "rating": rating}
        return await self.client.post("/v1/feedback", json=body)


async def test_a_thumb_down_lowers_what_the_next_answer_is_expected_to_be(tmp_path: Path) -> None:
    async with Device(tmp_path) as device:
        first = await device.ask()
        told = await device.rate(first.headers["x-request-id"], "down")
        second = await device.ask()
        judged = sample(
            device.agent, "isthmus_edge_judged_answers_total", route="edge", judgement="bad"
        )
        correction = sample(device.agent, "isthmus_edge_quality_correction", route="edge")
        expected = sample(device.agent, "isthmus_edge_judged_expected_good_total", route="edge")
        confident = sample(device.agent, "isthmus_edge_expected_quality_sum", route="edge")
    assert told.status_code == 200
    assert told.json()["target"] == "edge"
    before, after = (a.json()["isthmus"]["scores"]["edge.quality"] for a in (first, second))
    assert after == pytest.approx(before - 0.1 * before, abs=1e-5)
    assert judged == 1
    assert expected == before
    assert confident == pytest.approx(before + after)
    assert correction == pytest.approx(-0.1 * before, abs=1e-5)


async def test_what_was_learnt_survives_a_restart(tmp_path: Path) -> None:
    async with Device(tmp_path) as device:
        await device.rate((await device.ask()).headers["x-request-id"], "down")
        learnt = device.agent.agent.learning.correction
    async with Device(tmp_path) as device:
        assert device.agent.agent.learning.correction == learnt
    assert learnt.edge < 0


async def test_a_changed_mind_counts_once(tmp_path: Path) -> None:
    async with Device(tmp_path) as device:
        answer = await device.ask()
        for rating in ("down", "down", "up"):
            await device.rate(answer.json()["id"], rating)
        correction = device.agent.agent.learning.correction
    expected = answer.json()["isthmus"]["scores"]["edge.quality"]
    assert correction.edge == pytest.approx(0.1 * (1 - expected), abs=1e-6)


async def test_the_clouds_answers_are_learnt_from_apart(tmp_path: Path) -> None:
    async with Device(tmp_path) as device:
        answer = await device.ask(isthmus={"route": "prefer_in_cloud"})
        told = await device.rate(answer.headers["x-request-id"], "down")
        correction = device.agent.agent.learning.correction
    assert told.json()["target"] == "cloud"
    assert correction.cloud < 0
    assert correction.edge == 0


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"request_id": "nobody", "rating": "up"}, 404, "request_id"),
        ({"rating": "up"}, 400, "request_id"),
        ({"request_id": "x", "rating": "great"}, 400, "rating"),
        ({"request_id": "x", "rating": "up", "comment": "nice"}, 400, "comment"),
        ({"request_id": 7, "rating": "up"}, 400, "request_id"),
        ([], 400, "body"),
    ],
)
async def test_feedback_that_cannot_be_taken_names_its_field(
    tmp_path: Path, body: Any, status: int, field: str
) -> None:
    async with Device(tmp_path) as device:
        told = await device.client.post("/v1/feedback", json=body)
    assert told.status_code == status
    assert told.json()["error"]["param"] == field


async def test_lessons_hold_no_text(tmp_path: Path) -> None:
    async with Device(tmp_path) as device:
        answer = await device.ask("My cat is called Fluffington.")
        await device.rate(answer.headers["x-request-id"], "up")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        [row] = db.execute("SELECT * FROM lessons").fetchall()
    assert row[1] == "user"
    assert "Fluffington" not in str(row)
