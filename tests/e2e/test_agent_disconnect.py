"""A client that goes away stops the work; an agent that stops ends its answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from agent_client import HELLO, openai_client, sample
from isthmus.core.decision import Status
from isthmus.edge import server
from isthmus.edge.ledger import Ledger, read_outcomes
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from waiting import eventually

ENDLESS = ["word "] * 10_000


@pytest.mark.parametrize("tier", ["edge", "cloud"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_stops_the_work(
    tier: str, stream: bool, tmp_path: Path
) -> None:
    engine = ScriptedEngine(ENDLESS, delay_s=0.01)
    cloud = ScriptedTier(ENDLESS, delay_s=0.01)
    working = engine if tier == "edge" else cloud
    ledger = Ledger(tmp_path / "ledger.sqlite")
    async with running_agent(engine, cloud=cloud, ledger=ledger) as agent:
        async with openai_client(agent) as client:
            request = asyncio.create_task(
                client.chat.completions.create(
                    model=f"isthmus-{tier}", messages=HELLO, stream=stream
                )
            )
            if stream:
                answer = await request
                assert isinstance(answer, openai.AsyncStream)
                await anext(aiter(answer))
                await answer.close()
            else:
                assert await eventually(lambda: working.running == 1)
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)
            assert await eventually(lambda: working.stopped == 1)
        assert await eventually(
            lambda: sample(agent, "isthmus_edge_running_requests", place="agent") == 0
        )
    (outcome,) = read_outcomes(tmp_path / "ledger.sqlite")
    assert outcome.status is Status.CANCELLED
    assert outcome.route.value == tier


async def test_a_client_that_goes_away_before_the_first_token_stops_the_work() -> None:
    engine = ScriptedEngine(pieces=(), hang=True)
    async with running_agent(engine) as agent, openai_client(agent) as client:
        request = asyncio.create_task(
            client.chat.completions.create(model="isthmus", messages=HELLO, stream=True)
        )
        assert await eventually(lambda: engine.running == 1)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert await eventually(lambda: engine.stopped == 1)


async def test_stopping_ends_open_streams_with_an_error_event_when_their_grace_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "GRACE_S", 0.1)
    engine = ScriptedEngine(ENDLESS, delay_s=0.02)
    lines: list[str] = []
    client = httpx.AsyncClient(trust_env=False, timeout=20)

    async def read(url: str) -> None:
        body = {"model": "isthmus", "messages": HELLO, "stream": True}
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            lines.extend([line async for line in response.aiter_lines() if line])

    async with client:
        async with running_agent(engine) as agent:
            reading = asyncio.create_task(read(agent.url))
            assert await eventually(lambda: engine.running == 1)
        await reading
    assert "the agent is stopping" in lines[-1]
    assert engine.closed


async def test_an_answer_that_ends_in_time_is_not_cut_by_the_stop() -> None:
    engine = ScriptedEngine(["word "] * 20, delay_s=0.02)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        async with running_agent(engine) as agent:
            body = {"model": "isthmus", "messages": HELLO}
            request = asyncio.create_task(
                client.post(f"{agent.url}/v1/chat/completions", json=body)
            )
            assert await eventually(lambda: engine.running == 1)
        response = await request
    assert response.json()["choices"][0]["message"]["content"] == "word " * 20
