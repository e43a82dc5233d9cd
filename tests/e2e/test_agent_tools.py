"""Tools and structured output with the official openai client, answered by a real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import openai
import pydantic
import pytest

import tiny_qwen2
from agent_client import HELLO, openai_client
from isthmus.core.tier import ModelInfo
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from isthmus.engine.engine import Engine
from isthmus.engine.prepared import pack_model
from isthmus.kernels.native import NativeBackend

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    country: Literal["France", "Italy"]
    rivers: list[Literal["Seine", "Tiber"]] = pydantic.Field(max_length=2)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A model of random weights: what it says has its form from the engine alone."""
    model = tiny_qwen2.model()
    backend = NativeBackend(threads=1)
    longer = replace(model, config=replace(model.config, context=2048))
    made = Engine(pack_model(longer, backend), backend)
    yield made
    made.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_comes_in_openais_form(engine: Engine, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "isthmus", "messages": HELLO, "tools": [WEATHER]}
    async with running_agent(engine) as agent, openai_client(agent) as client:
        if stream:
            async with client.chat.completions.stream(**asked, tool_choice="required") as events:
                async for event in events:
                    if event.type == "tool_calls.function.arguments.delta":
                        assert WEATHER["function"]["name"] == event.name
                answer: Any = await events.get_final_completion()
        else:
            answer = await client.chat.completions.create(**asked, tool_choice="required")
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in {"celsius", "fahrenheit"}


async def test_an_answer_parses_into_a_pydantic_model(engine: Engine) -> None:
    async with running_agent(engine) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.parse(
            model="isthmus", messages=HELLO, response_format=City, seed=5
        )
    assert isinstance(answer.choices[0].message.parsed, City)


async def test_a_bad_schema_is_a_400_that_names_the_field(engine: Engine) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "text"}}}
    async with running_agent(engine) as agent, openai_client(agent) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(
                model="isthmus", messages=HELLO, response_format=form
            )
    assert caught.value.param == "response_format.json_schema.schema"


async def test_a_schema_that_the_device_cannot_hold_is_answered_in_the_cloud(
    engine: Engine,
) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    cloud = ScriptedTier(["{}"])
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO, response_format=form
        )
    assert raw.parse().choices[0].message.content == "{}"
    assert (
        raw.headers["x-isthmus-reasons"]
        == "value_on_edge,uncalibrated,capability_missing_on_edge,fell_back"
    )
    assert cloud.requests[0].response_format.schema == {"not": {}}


@pytest.mark.parametrize(
    ("able", "route"), [(True, "edge"), (False, "cloud")], ids=["able", "unable"]
)
@pytest.mark.parametrize(
    "needs",
    [{"tools": [WEATHER]}, {"response_format": {"type": "json_object"}}],
    ids=["tools", "json"],
)
async def test_an_easy_request_stays_where_it_can_be_served(
    able: bool, route: str, needs: dict[str, Any]
) -> None:
    device = ScriptedEngine(["{}"], supports_tools=able, supports_json=able)
    cloud = ScriptedTier(
        last_info=ModelInfo("big", "scripted", supports_tools=True, supports_json=True)
    )
    async with running_agent(device, cloud=cloud) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO, **needs
        )
    assert raw.headers["x-isthmus-route"] == route


async def test_the_small_model_calls_a_tool_hears_its_answer_and_fills_a_form(
    model_path: Path,
) -> None:
    ask: Any = {"role": "user", "content": "What is the weather in Paris?"}
    form: Any = {
        "type": "json_schema",
        "json_schema": {
            "name": "city",
            "schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "is_capital": {"type": "boolean"}},
                "required": ["city", "is_capital"],
            },
        },
    }
    async with (
        running_agent(lambda: Engine.open(str(model_path), threads=2)) as agent,
        openai_client(agent) as client,
    ):
        asked = await client.chat.completions.create(
            model="isthmus",
            messages=[ask],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            temperature=0,
        )
        message = asked.choices[0].message
        (call,) = message.tool_calls or []
        assert call.type == "function"
        assert json.loads(call.function.arguments)["city"] == "Paris"
        heard: Any = {"role": "tool", "tool_call_id": call.id, "content": "It is sunny, 21 °C."}
        told = await client.chat.completions.create(
            model="isthmus",
            messages=[ask, message.model_dump(exclude_none=True), heard],  # type: ignore[list-item]
            tools=[WEATHER],
            tool_choice="none",
            temperature=0,
            max_tokens=40,
        )
        filled = await client.chat.completions.create(
            model="isthmus",
            messages=[{"role": "user", "content": "Paris is the capital of France. Fill in."}],
            response_format=form,
            temperature=0,
        )
    assert "sunny" in (told.choices[0].message.content or "")
    assert json.loads(filled.choices[0].message.content or "") == {
        "city": "Paris",
        "is_capital": True,
    }
