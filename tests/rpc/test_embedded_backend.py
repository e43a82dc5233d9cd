"""The embedded default: the edge engine behind a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest

from asked import anew
from isthmus.cloud.backends import BackendConfig, create
from isthmus.cloud.testing import running_gateway
from isthmus.core import chat, errors, events
from isthmus.edge.remote import RemoteConfig, RemoteTier

REQUEST = chat.ChatRequest(
    "r1",
    (chat.Message(chat.Role.USER, (chat.TextPart("What is the capital of France?"),)),),
    sampling=chat.Sampling(temperature=0),
    max_tokens=16,
)


async def test_the_embedded_engine_answers_is_cancelled_and_closed(model_path):
    backend = create(BackendConfig(kind="embedded", model=str(model_path)))
    async with running_gateway(backend, same_model_demo=True) as address:
        tier = RemoteTier(RemoteConfig(address))
        info = await tier.info()
        answer = [event async for event in tier.generate(anew(REQUEST))]
        begun = replace(REQUEST, answer_so_far="The capital of France is")
        rest = [event async for event in tier.generate(anew(begun))]
        leaving = tier.generate(anew(REQUEST, max_tokens=2000))
        await anext(leaving)
        await leaving.aclose()
        for _ in range(200):
            if backend.load().running_requests == 0:
                break
            await asyncio.sleep(0.01)
        assert backend.load().running_requests == 0
        await tier.close()
    assert (info.backend, info.same_model_demo) == ("embedded", True)
    assert info.context_tokens > 0
    assert (info.supports_tools, info.supports_json, info.supports_images) == (True, True, False)
    assert answer[0].same_model_demo
    assert "Paris" in "".join(event.text for event in answer[1:-1])
    assert isinstance(answer[-1], events.Finished)
    assert "".join(event.text for event in rest[1:-1]).startswith(" Paris")
    with pytest.raises(errors.Unavailable, match="not started"):
        await backend.health()


async def test_a_call_and_a_form_come_through_the_gateway(model_path):
    tool = chat.Tool("capital_of", "", {"type": "object", "properties": {"land": {"enum": ["F"]}}})
    asked = replace(REQUEST, max_tokens=60, tools=(tool,), tool_choice=chat.ToolChoice.REQUIRED)
    schema = {"type": "object", "properties": {"capital": {"enum": ["Paris", "Rome"]}}}
    schema["required"] = ["capital"]
    form = chat.ResponseFormat(chat.ResponseKind.JSON_SCHEMA, "capital", schema)
    backend = create(BackendConfig(kind="embedded", model=str(model_path)))
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address))
        called = [event async for event in tier.generate(anew(asked))]
        formed = [event async for event in tier.generate(anew(REQUEST, response_format=form))]
        wrong = replace(form, schema={"type": "text"})
        with pytest.raises(errors.InvalidRequest) as caught:
            await anext(tier.generate(anew(REQUEST, response_format=wrong)))
        await tier.close()
    pieces = [piece for event in called[1:-1] for piece in event.tool_calls]
    assert pieces[0].name == "capital_of"
    assert json.loads("".join(piece.arguments for piece in pieces)) in [{}, {"land": "F"}]
    assert called[-1].reason is events.FinishReason.TOOL_CALLS
    assert "".join(event.text for event in formed[1:-1]) == '{"capital": "Paris"}'
    assert caught.value.field == "response_format.json_schema.schema"


async def test_a_model_that_is_not_there_stops_the_start_with_the_way_out():
    backend = create(BackendConfig(kind="embedded", model="no-such-model"))
    with pytest.raises(errors.IsthmusError, match="no-such-model"):
        async with running_gateway(backend):
            pytest.fail("it must not start")


async def test_the_embedded_engine_judges_a_draft_and_goes_on_from_what_stands(model_path):
    backend = create(BackendConfig(kind="embedded", model=str(model_path)))
    begun = replace(REQUEST, answer_so_far="The capital of France")
    async with running_gateway(backend) as address:
        tier = RemoteTier(RemoteConfig(address))
        info = await tier.info()
        right = [event async for event in tier.generate(anew(begun, draft=" is Paris."))]
        wrong = [event async for event in tier.generate(anew(begun, draft=" is banana soup"))]
        await tier.close()
    assert info.verifies_drafts
    assert right[0].draft.accepted_bytes == len(" is Paris.")
    assert wrong[0].draft.accepted_bytes == len(" is")
    assert "".join(event.text for event in wrong[1:-1]).startswith(" Paris")


async def test_a_tenant_finds_its_own_prefixes_in_the_cache_and_no_others(model_path):
    backend = create(BackendConfig(kind="embedded", model=str(model_path)))
    await backend.start()
    cached = []
    for salt in ("acme", "rival", "acme"):
        asked = replace(REQUEST, max_tokens=1, cache_salt=salt)
        told = [event async for event in backend.generate(asked)]
        cached.append(told[0].cached_tokens)
    judged = replace(REQUEST, draft="Paris", cache_salt="third")
    await backend.judge(judged)
    async with contextlib.aclosing(backend.generate(replace(judged, draft=""))) as told:
        cached.append((await anext(told)).cached_tokens)
    await backend.close()
    assert cached[:2] == [0, 0]
    assert cached[2] > 0
    assert cached[3] == cached[2]
