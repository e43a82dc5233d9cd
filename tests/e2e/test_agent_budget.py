"""What a running agent makes of budgets, of the device's state and of what it has measured."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from agent_client import HELLO, openai_client, sample
from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Outcome
from isthmus.core.errors import Unavailable
from isthmus.core.events import Event
from isthmus.core.money import Price
from isthmus.core.tier import ModelInfo
from isthmus.edge.ledger import Ledger, read_outcomes
from isthmus.edge.sensors import Sensors
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from isthmus.edge.tiers import Check
from isthmus.edge.trail import Trail
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.signals import DeviceHealth
from waiting import eventually

IN_CLOUD = {"isthmus": {"route": "prefer_in_cloud"}}
ONLY_CLOUD = {"isthmus": {"route": "only_in_cloud"}}
PRICED: dict[str, Any] = {
    "cloud_input_usd_per_mtok": Decimal(10),
    "cloud_output_usd_per_mtok": Decimal(100),
}
"""The scripted cloud's ten tokens of prompt and three of answer cost 400 micro-dollars."""


def a_day_of(usd: str) -> RouterConfig:
    return RouterConfig(budget=BudgetLimits(day_usd=Decimal(usd), longest_answer_tokens=100))


async def asked(
    client: openai.AsyncOpenAI, messages: Any = HELLO, **more: Any
) -> tuple[str, dict[str, Any]]:
    """The reasons, and the `isthmus` object."""
    raw = await client.chat.completions.with_raw_response.create(
        model="isthmus", messages=messages, **more
    )
    extra = raw.parse().model_extra
    assert extra is not None
    return raw.headers["x-isthmus-reasons"], extra["isthmus"]


def spent(agent: RunningAgent) -> float:
    return sample(agent, "isthmus_edge_budget_spent_usd", period="day")


async def test_a_budget_ends_in_a_reason_and_not_in_a_bill() -> None:
    cloud = ScriptedTier()
    async with (
        running_agent(cloud=cloud, router=a_day_of("0.03"), **PRICED) as agent,
        openai_client(agent) as client,
    ):
        reasons, told = await asked(client, extra_body=IN_CLOUD)
        assert (reasons, told["price"]["spent_usd"]) == ("preferred_cloud", 0.0004)
        assert cloud.requests[0].max_tokens == 100
        assert spent(agent) == pytest.approx(0.0004)
        assert sample(agent, "isthmus_edge_budget_limit_usd", period="day") == 0.03
        assert sample(agent, "isthmus_edge_budget_forecast_usd", period="day") >= spent(agent)
        agent.agent.spending.settle(paid(29_000))
        reasons, told = await asked(client, extra_body=IN_CLOUD)
        assert (reasons, told["price"]["spent_usd"]) == ("budget_spent", 0)
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await asked(client, extra_body=ONLY_CLOUD)
    assert refused.value.code == "budget_spent"
    assert len(cloud.requests) == 1


def paid(price_micro_usd: int) -> Outcome:
    return replace(Trail(ChatRequest("other", ())).outcome(), price_micro_usd=price_micro_usd)


async def test_the_gateway_is_asked_for_its_price_before_a_budget_pays_it() -> None:
    told = ModelInfo("big", "scripted", price=Price(Decimal(10), Decimal(100)))
    cloud = Untold(told)
    async with (
        running_agent(cloud=cloud, router=a_day_of("0.03")) as agent,
        openai_client(agent) as client,
    ):
        await asked(client, [{"role": "user", "content": "my card is 4111 1111 1111 1111"}])
        await asked(client, extra_body={"isthmus": {"route": "only_on_device"}})
        assert cloud.last_info is None
        _, answer = await asked(client, extra_body=IN_CLOUD)
        assert answer["price"]["spent_usd"] == 0.0004
        assert cloud.requests[0].max_tokens == 100


class Untold(ScriptedTier):
    """A cloud that tells what it costs when it is asked, and not before."""

    def __init__(self, told: ModelInfo) -> None:
        super().__init__()
        self.told = told

    async def info(self) -> ModelInfo:
        self.last_info = self.told
        return self.told


async def test_what_is_left_bounds_the_answer_that_the_cloud_is_asked_for() -> None:
    cloud = ScriptedTier(["word"] * 300)
    async with (
        running_agent(cloud=cloud, router=a_day_of("0.03"), **PRICED) as agent,
        openai_client(agent) as client,
    ):
        _, told = await asked(client, extra_body=IN_CLOUD)
        assert cloud.requests[0].max_tokens == 100
        assert told["price"]["spent_usd"] == pytest.approx(0.0101)
        assert spent(agent) == pytest.approx(0.0101)


async def test_requests_at_once_set_aside_together_no_more_than_there_is() -> None:
    cloud = ScriptedTier(delay_s=0.2)
    async with (
        running_agent(cloud=cloud, router=a_day_of("0.03"), **PRICED) as agent,
        openai_client(agent) as client,
    ):
        answers = await asyncio.gather(*(asked(client, extra_body=IN_CLOUD) for _ in range(6)))
        assert await eventually(lambda: spent(agent) <= 0.03)
    routes = [told["target"] for _, told in answers]
    assert 1 <= len(cloud.requests) < 6
    assert routes.count("cloud") == len(cloud.requests)


async def test_a_call_that_gave_nothing_gives_back_what_was_set_aside() -> None:
    cloud = ScriptedTier(pieces=(), error=Unavailable("gone"))
    async with (
        running_agent(cloud=cloud, router=a_day_of("0.03"), **PRICED) as agent,
        openai_client(agent) as client,
    ):
        reasons, _ = await asked(client, extra_body=IN_CLOUD)
        assert reasons == "preferred_cloud,fell_back"
        assert spent(agent) == 0


async def test_a_restart_does_not_forget_what_was_spent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for turn in (1, 2):
        async with (
            running_agent(
                cloud=ScriptedTier(), ledger=Ledger(path), router=a_day_of("0.5"), **PRICED
            ) as agent,
            openai_client(agent) as client,
        ):
            await asked(client, extra_body=IN_CLOUD)
            assert spent(agent) == pytest.approx(0.0004 * turn)


class Unruly(ScriptedTier):
    """A cloud that fails before, in the middle of, or after its answer, in turns."""

    async def generate(
        self, request: ChatRequest, check: Check = lambda data: None
    ) -> AsyncGenerator[Event, None]:
        turn = len(self.requests) % 4
        self.pieces = ("Hello", " there", ".")[: (0, 1, 3, 3)[turn]]
        self.error = Unavailable("gone") if turn < 2 else None
        self.delay_s = 0.02 * turn
        async for event in super().generate(request, check):
            yield event


async def test_whatever_becomes_of_answers_the_ledger_and_the_budget_agree_on_what_was_paid(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    cloud = Unruly()
    async with (
        running_agent(
            ScriptedEngine(delay_s=0.01),
            cloud=cloud,
            ledger=Ledger(path),
            router=a_day_of("0.03"),
            **PRICED,
        ) as agent,
        openai_client(agent) as client,
    ):

        async def one(number: int) -> None:
            wish = (IN_CLOUD, ONLY_CLOUD, {})[number % 3]
            with contextlib.suppress(openai.APIError, TimeoutError):
                async with asyncio.timeout(0.05 if number % 5 == 0 else 20):
                    await asked(client, extra_body=wish)

        for _ in range(5):
            await asyncio.gather(*map(one, range(8)))
        assert await eventually(lambda: sample(agent, "isthmus_edge_running_requests",
                                               place="agent") == 0)  # fmt: skip
        paid_usd = spent(agent)
    rows = read_outcomes(path, limit=1000)
    assert sum(row.price_micro_usd for row in rows) == pytest.approx(paid_usd * 1e6)
    assert 0 < paid_usd <= 0.03
    ledger = Ledger(path)
    assert ledger.spent_since(0) == pytest.approx(paid_usd * 1e6)
    ledger.close()


class OneSensor:
    name = "scripted"
    slow = False

    def __init__(self, health: DeviceHealth) -> None:
        self.health = health

    def read(self) -> DeviceHealth:
        return self.health


async def test_a_low_battery_sends_to_the_cloud_what_may_leave() -> None:
    sensors = Sensors([OneSensor(DeviceHealth(battery=0.1, charging=False))])
    sensors.sample()
    async with (
        running_agent(ScriptedEngine(), cloud=ScriptedTier(), sensors=sensors) as agent,
        openai_client(agent) as client,
    ):
        reasons, told = await asked(client)
        private, _ = await asked(
            client, [{"role": "user", "content": "my card is 4111 1111 1111 1111"}]
        )
        assert sample(agent, "isthmus_edge_battery_ratio") == 0.1
        assert sample(agent, "isthmus_edge_decision_seconds_count") == 2
    assert (reasons, told["target"]) == ("battery_low", "cloud")
    assert (told["scores"]["battery"], told["thresholds"]["battery_floor"]) == (0.1, 0.15)
    assert private == "privacy_local_only"


async def test_each_tiers_times_are_learnt_from_its_answers() -> None:
    engine = ScriptedEngine(delay_s=0.001, prompt_tokens=50)
    cloud = ScriptedTier(delay_s=0.03, prompt_tokens=50, rtt_ms=5.0)
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        _, first = await asked(client)
        assert "edge.ttft_p50_ms" not in first["scores"]
        assert first["scores"]["answer_tokens"] == 256
        await asked(client, extra_body=IN_CLOUD)
        _, told = await asked(client)
    scores = told["scores"]
    assert scores["answer_tokens"] == 3
    assert scores["cloud.ttft_p50_ms"] > scores["edge.ttft_p50_ms"] > 0
    assert scores["cloud.ttft_p95_ms"] > scores["cloud.ttft_p50_ms"]
    assert scores["cloud.time_micro_usd"] > scores["edge.time_micro_usd"] > 0


async def test_a_conversation_brings_what_its_tier_has_cached() -> None:
    engine, cloud = ScriptedEngine(context_tokens=8192), ScriptedTier(delay_s=0.02)
    on_device = {"isthmus": {"route": "prefer_on_device"}}
    question = [{"role": "user", "content": "Say it again: " + "word " * 800}]
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        for tokens in (10, 1000):
            cloud.prompt_tokens, cloud.delay_s = tokens, 0.02 + tokens / 1e4
            await asked(client, extra_body=IN_CLOUD)
        engine.prompt_tokens = 1000
        answer = await client.chat.completions.create(
            model="isthmus", messages=question, extra_body=on_device
        )
        said = answer.choices[0].message.content
        turns = [*question, {"role": "assistant", "content": said}, *HELLO]
        _, told = await asked(client, turns)
        _, elsewhere = await asked(client, [{"role": "user", "content": "word " * 800}])
    assert told["scores"]["cloud.moving_micro_usd"] > 10
    assert elsewhere["scores"]["cloud.moving_micro_usd"] == 0


async def test_absent_sensors_have_no_series() -> None:
    async with running_agent() as agent:
        lines = agent.agent.metrics.text().decode().splitlines()
    series = {line.partition(" ")[0].partition("{")[0] for line in lines}
    assert "isthmus_edge_decision_seconds_count" in series
    for name in ("battery_ratio", "temperature_celsius", "throttled", "budget_spent_usd"):
        assert f"isthmus_edge_{name}" not in series
