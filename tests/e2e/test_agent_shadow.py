"""A share of harmless requests is answered by both tiers; what is private never is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_client import sample
from isthmus.core.chat import Priority
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.errors import Unavailable
from isthmus.edge.ledger import Ledger, read_outcomes
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from isthmus.privacy.policy import PrivacyConfig
from isthmus.router.config import RouterConfig
from waiting import eventually

EVERY_ONE = RouterConfig(shadow_share=1.0)
HARMLESS = "Name a colour of the rainbow."


@asynccontextmanager
async def shadowed(
    tmp_path: Path, cloud: ScriptedTier, engine: ScriptedEngine | None = None, **settings: Any
) -> AsyncIterator[tuple[RunningAgent, httpx.AsyncClient]]:
    async with (
        running_agent(
            engine,
            cloud=cloud,
            ledger=Ledger(tmp_path / "ledger.sqlite"),
            **{"router": EVERY_ONE, **settings},
        ) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as client,
    ):
        yield agent, client


async def ask(client: httpx.AsyncClient, text: str = HARMLESS, **extra: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text}], **extra}
    return await client.post("/v1/chat/completions", json=body)


def second_answers(tmp_path: Path) -> list[Outcome]:
    found = read_outcomes(tmp_path / "ledger.sqlite")
    return [outcome for outcome in found if Reason.SHADOW in outcome.reasons]


def compared(agent: RunningAgent, route: str) -> float:
    return sample(agent, "isthmus_edge_shadow_agreement_count", route=route)


async def test_the_other_tier_answers_too_and_only_the_likeness_is_kept(tmp_path: Path) -> None:
    cloud = ScriptedTier(pieces=("Hello", " there", "."))
    async with shadowed(tmp_path, cloud) as (agent, client):
        answer = await ask(client)
        assert await eventually(lambda: compared(agent, "edge") == 1)
        alike = sample(agent, "isthmus_edge_shadow_agreement_sum", route="edge")
        times = [
            one.labels["gen_ai_provider_name"]
            for family in agent.agent.metrics.registry.collect()
            for one in family.samples
            if one.name == "gen_ai_client_inference_time_to_first_chunk_seconds_count"
        ]
        regretted = sample(agent, "isthmus_edge_shadow_regret_usd_total", route="edge")
    assert answer.headers["x-isthmus-route"] == "edge"
    assert (alike, regretted) == (1.0, 0.0)
    assert times == ["isthmus.edge"], "for the second answer nobody waited"
    [second] = second_answers(tmp_path)
    assert (second.route, second.status) == (Target.CLOUD, Status.OK)
    assert second.request_id != answer.headers["x-request-id"]
    assert cloud.requests[0].priority is Priority.BATCH
    assert len(cloud.left) == 1


async def test_the_device_answers_after_the_cloud(tmp_path: Path) -> None:
    async with shadowed(tmp_path, ScriptedTier()) as (agent, client):
        await ask(client, isthmus={"route": "prefer_in_cloud"})
        assert await eventually(lambda: compared(agent, "cloud") == 1)
        # That the request left, and what an unknown price is taken to be, was for nothing.
        assert sample(agent, "isthmus_edge_shadow_regret_usd_total", route="cloud") > 0
    [second] = second_answers(tmp_path)
    assert second.route is Target.EDGE


@pytest.mark.parametrize(
    ("text", "extra", "settings"),
    [
        ("Write to jane.doe@example.org about rainbows.", {}, {}),
        ("My card is 4111 1111 1111 1111, name a colour.", {}, {}),
        (HARMLESS, {"isthmus": {"route": "only_on_device"}}, {}),
        (HARMLESS, {"isthmus": {"route": "only_in_cloud"}}, {}),
        (HARMLESS, {}, {"privacy": PrivacyConfig(consent=False)}),
        (HARMLESS, {}, {"router": RouterConfig()}),
    ],
    ids=[
        "redacted",
        "local only",
        "for the device alone",
        "for the cloud alone",
        "no consent",
        "off by default",
    ],
)
async def test_nothing_more_leaves_when(
    tmp_path: Path, text: str, extra: dict[str, Any], settings: dict[str, Any]
) -> None:
    cloud = ScriptedTier()
    async with shadowed(tmp_path, cloud, **settings) as (_, client):
        answer = await ask(client, text, **extra)
        await ask(client, HARMLESS, isthmus={"route": "only_on_device"})
    assert answer.status_code == 200
    assert second_answers(tmp_path) == []


async def test_a_second_answer_that_fails_is_booked_and_harms_nobody(tmp_path: Path) -> None:
    cloud = ScriptedTier(pieces=(), error=Unavailable("gone"))
    async with shadowed(tmp_path, cloud) as (_, client):
        answer = await ask(client)
        assert await eventually(lambda: bool(cloud.requests))
    assert answer.status_code == 200
    [second] = second_answers(tmp_path)
    assert second.status is Status.FAILED


async def test_stopping_gives_a_second_answer_up(tmp_path: Path) -> None:
    cloud = ScriptedTier(hang=True)
    async with shadowed(tmp_path, cloud) as (_, client):
        await ask(client)
        assert await eventually(lambda: bool(cloud.requests))
    [second] = second_answers(tmp_path)
    assert second.status is Status.CANCELLED
