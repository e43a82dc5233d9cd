"""Agent and gateway over real HTTP and real gRPC, with scripted models at both ends."""

from __future__ import annotations

import asyncio
import time

from agent_client import HELLO, openai_client
from isthmus.cloud.testing import ScriptedBackend, gateway_config, running_gateway
from isthmus.core.errors import Unavailable
from isthmus.core.tier import ModelInfo
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import ScriptedEngine, running_agent
from isthmus.privacy.policy import PrivacyConfig
from waiting import eventually

WORDS = ("Paris", " is", " the", " capital", ".")
TEXT = "".join(WORDS)
IN_CLOUD = {"isthmus": {"route": "prefer_in_cloud"}}


async def test_an_answer_of_the_cloud_comes_through_with_its_usage() -> None:
    backend = ScriptedBackend(WORDS)
    async with (
        running_gateway(backend) as address,
        running_agent(cloud=RemoteTier(RemoteConfig(address))) as agent,
        openai_client(agent) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus-cloud", messages=HELLO, logprobs=True
        )
        assert await eventually(
            lambda: agent.agent.cloud is not None and agent.agent.cloud.last_info is not None
        )
    answer = raw.parse()
    assert raw.headers["x-isthmus-route"] == "cloud"
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(WORDS)
    assert answer.choices[0].logprobs is not None


async def test_the_gateway_has_told_what_it_serves_before_it_answers_anything() -> None:
    """Else a pair that was calibrated would pass for one that nobody knows."""
    async with (
        running_gateway(ScriptedBackend(WORDS)) as address,
        running_agent(cloud=RemoteTier(RemoteConfig(address))) as agent,
        openai_client(agent) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO
        )
        assert raw.headers["x-isthmus-route"] == "edge"
        assert await eventually(lambda: agent.agent.tiers.knows_cloud)


async def test_without_consent_the_gateway_is_asked_nothing() -> None:
    async with (
        running_gateway(ScriptedBackend(WORDS)) as address,
        running_agent(
            cloud=RemoteTier(RemoteConfig(address)), privacy=PrivacyConfig(consent=False)
        ) as agent,
        openai_client(agent) as client,
    ):
        await agent.agent.start()
        await client.chat.completions.create(model="isthmus", messages=HELLO)
        assert not await eventually(lambda: agent.agent.tiers.knows_cloud, within_s=0.3)


async def test_a_gateway_that_is_not_there_costs_the_user_nothing_but_a_moment() -> None:
    cloud = RemoteTier(RemoteConfig("127.0.0.1:9"))
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        began_s = time.monotonic()
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO, extra_body=IN_CLOUD
        )
        assert time.monotonic() - began_s < 2
        for _ in range(3):
            last = await client.chat.completions.with_raw_response.create(
                model="isthmus", messages=HELLO, extra_body=IN_CLOUD
            )
    assert raw.headers["x-isthmus-reasons"] == "preferred_cloud,fell_back"
    assert last.headers["x-isthmus-reasons"] == "breaker_open"


async def test_a_backend_that_dies_in_mid_answer_is_continued_on_the_device() -> None:
    backend = ScriptedBackend(WORDS, failure=Unavailable("the worker died"), fail_after=3)
    engine = ScriptedEngine(WORDS)
    async with (
        running_gateway(backend) as address,
        running_agent(engine, cloud=RemoteTier(RemoteConfig(address))) as agent,
        openai_client(agent) as client,
    ):
        answer = await client.chat.completions.create(
            model="isthmus", messages=HELLO, extra_body=IN_CLOUD
        )
    assert answer.choices[0].message.content == TEXT
    assert engine.requests[0].answer_so_far == "Paris is the"


async def test_a_gateway_that_is_stopped_in_mid_answer_leaves_the_user_with_the_whole_of_it() -> (
    None
):
    from isthmus.cloud.server import Gateway

    backend = ScriptedBackend(["word "] * 400, delay_s=0.01)
    gateway = Gateway(gateway_config(), backend)
    await gateway.start()
    engine = ScriptedEngine(["word "] * 400)
    async with (
        running_agent(
            engine, cloud=RemoteTier(RemoteConfig(gateway.address, broken_s=0.2))
        ) as agent,
        openai_client(agent) as client,
    ):
        stream = await client.chat.completions.create(
            model="isthmus", messages=HELLO, stream=True, extra_body=IN_CLOUD
        )
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == 10:
                stopping = asyncio.create_task(gateway.stop(grace_s=0))
        await stopping
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "word " * 400
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["isthmus"]["reasons"] == ["preferred_cloud", "handed_over"]
    assert 0 < len(engine.requests[0].answer_so_far) < len(text)


async def test_a_client_that_goes_away_stops_the_cloud_within_a_tenth_of_a_second() -> None:
    backend = ScriptedBackend(["word "] * 10_000, delay_s=0.01)
    async with (
        running_gateway(backend) as address,
        running_agent(cloud=RemoteTier(RemoteConfig(address))) as agent,
        openai_client(agent) as client,
    ):
        stream = await client.chat.completions.create(
            model="isthmus-cloud", messages=HELLO, stream=True
        )
        await anext(aiter(stream))
        left_at_s = time.monotonic()
        await stream.close()
        assert await eventually(lambda: bool(backend.stopped_at_s))
    assert backend.stopped_at_s[0] - left_at_s < 0.1


async def test_the_gateways_price_is_what_an_answer_costs_once_it_is_known() -> None:
    info = ModelInfo(model="big", backend="scripted", context_tokens=4096)
    price = {"output_usd_per_mtok": "2"}
    async with (
        running_gateway(ScriptedBackend(WORDS, info=info), prices=[price]) as address,
        running_agent(cloud=RemoteTier(RemoteConfig(address))) as agent,
        openai_client(agent) as client,
    ):
        await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
        cloud = agent.agent.cloud
        assert cloud is not None
        assert await eventually(lambda: cloud.last_info is not None)
        second = await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
    assert second.model == "big"
    assert second.model_extra is not None
    assert second.model_extra["isthmus"]["price"]["spent_usd"] == 10e-6
