"""What leaves for the cloud: placeholders, after consent, shown before; values come back."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest

from agent_client import HELLO, openai_client, sample
from echoing_cloud import ASKED, IN_CLOUD, MAIL, PHONE, PLACEHOLDER, Echo, asked, nothing_left
from isthmus.cloud.load.chaos import ChaosProxy
from isthmus.cloud.testing import ScriptedBackend, running_gateway
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import Unavailable
from isthmus.core.events import Delta, Event, FinishReason, ToolCallDelta
from isthmus.edge.ledger import Ledger
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import ScriptedEngine, ScriptedTier, running_agent
from isthmus.edge.tiers import Check
from isthmus.privacy import egress
from isthmus.privacy import redact as redaction
from isthmus.privacy.scanner import Scanner
from isthmus.privacy.vault import Vault


async def test_values_leave_as_placeholders_and_come_back_in_a_stream() -> None:
    cloud = Echo()
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        stream = await client.chat.completions.create(
            model="isthmus", messages=asked(), extra_body=IN_CLOUD, stream=True, logprobs=True
        )
        chunks = [chunk async for chunk in stream]
        counted = [
            sample(agent, "isthmus_edge_privacy_redacted_requests_total"),
            sample(agent, "isthmus_edge_privacy_found_values_total", label="EMAIL"),
            sample(agent, "isthmus_edge_privacy_values_total", label="EMAIL", treatment="redacted"),
        ]
        left_bytes = sample(agent, "isthmus_edge_sent_bytes_total")
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    tokens = [t.token for c in choices if c.logprobs for t in c.logprobs.content or ()]
    isthmus = chunks[-1].model_extra["isthmus"]  # type: ignore[index]
    assert text == "".join(tokens) == ASKED
    assert nothing_left(cloud, MAIL, PHONE)
    assert len(PLACEHOLDER.findall(cloud.requests[0].messages[0].text)) == 2
    assert isthmus["reasons"] == ["preferred_cloud", "privacy_redacted"]
    assert isthmus["privacy_class"] == "redacted"
    assert isthmus["redacted"] == {"EMAIL": 1, "PHONE": 1}
    assert counted == [1, 1, 1]
    assert left_bytes == sum(map(len, cloud.left))


async def test_values_come_back_when_the_model_edits_their_placeholders() -> None:
    class Edits(Echo):
        edit = staticmethod(lambda text: text.replace("[", "【").replace("]", "】").lower())

    async with running_agent(cloud=Edits()) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=asked(), extra_body=IN_CLOUD
        )
    assert answer.choices[0].message.content == ASKED.lower()


async def test_the_next_turn_uses_the_same_placeholders() -> None:
    cloud = Echo()
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        first = await client.chat.completions.create(
            model="isthmus", messages=asked(), extra_body=IN_CLOUD
        )
        more = "Please write it again, shorter, with a warm ending."
        turns = [
            *asked(),
            {"role": "assistant", "content": first.choices[0].message.content},
            *asked(more),
        ]
        await client.chat.completions.create(model="isthmus", messages=turns, extra_body=IN_CLOUD)
    before = PLACEHOLDER.findall(cloud.requests[0].messages[0].text)
    after = PLACEHOLDER.findall("".join(m.text for m in cloud.requests[1].messages))
    assert nothing_left(cloud, MAIL, PHONE)
    assert after == before + before


async def test_an_answer_brings_back_no_value_that_its_request_did_not_hold() -> None:
    """Two conversations that hold the same words may be taken for one."""

    class Guesses(Echo):
        edit = staticmethod(lambda text: " ".join(known))

    known: list[str] = []
    cloud = Guesses()
    wishes = {"isthmus": {"route": "prefer_in_cloud", "conversation": "shared"}}
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        await client.chat.completions.create(model="isthmus", messages=asked(), extra_body=wishes)
        known += PLACEHOLDER.findall(cloud.requests[0].messages[0].text)
        answer = await client.chat.completions.create(
            model="isthmus", messages=asked("Tell me about the weather."), extra_body=wishes
        )
    assert len(known) == 2
    assert answer.choices[0].message.content == " ".join(known)


async def test_the_time_of_the_last_look_is_not_the_clouds_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def slow(data: bytes, vault: Vault) -> None:
        nonlocal looks
        looks += 1
        time.sleep(0.3)

    monkeypatch.setattr(egress, "check", slow)
    cloud = Echo()
    async with (
        running_agent(cloud=cloud, cloud_silence_s=0.15) as agent,
        openai_client(agent) as client,
    ):
        answer = await client.chat.completions.create(model="isthmus-cloud", messages=asked())
    assert answer.choices[0].message.content == ASKED
    assert looks == 1
    assert cloud.available


async def test_arguments_of_a_tool_call_come_back_as_json() -> None:
    class Calls(ScriptedTier):
        async def generate(
            self, request: ChatRequest, check: Check = lambda data: None
        ) -> AsyncGenerator[Event, None]:
            mail = PLACEHOLDER.findall(request.messages[-1].text)[0]
            arguments = json.dumps({"to": mail})
            first = ToolCallDelta(0, "call1", "send", arguments[:12])
            rest = ToolCallDelta(0, arguments=arguments[12:])
            self.deltas = [Delta("", tool_calls=(piece,)) for piece in (first, rest)]
            async for event in super().generate(request, check):
                yield event

    tools: Any = [{"type": "function", "function": {"name": "send", "parameters": {}}}]
    cloud = Calls(finish_reason=FinishReason.TOOL_CALLS)
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=asked(), tools=tools, extra_body=IN_CLOUD
        )
    call = answer.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert json.loads(call.function.arguments) == {"to": MAIL}  # type: ignore[union-attr]


async def test_a_cloud_that_fails_in_mid_answer_hands_over_restored_text() -> None:
    class Fails(Echo):
        edit = staticmethod(lambda text: PLACEHOLDER.findall(text)[0] + " is [EMAI")

    engine = ScriptedEngine((MAIL, " is", " here"))
    cloud = Fails(error=Unavailable("gone"))
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus", messages=asked(), extra_body=IN_CLOUD
        )
    assert engine.requests[0].answer_so_far == f"{MAIL} is "
    assert answer.choices[0].message.content is not None
    assert "[" not in answer.choices[0].message.content


async def test_a_device_that_fails_in_mid_answer_hands_over_placeholders() -> None:
    engine = ScriptedEngine(("Dear", f" {MAIL}", ", hi"), error=Unavailable("gone"))
    cloud = ScriptedTier((" there",))
    async with running_agent(engine, cloud=cloud) as agent, openai_client(agent) as client:
        answer = await client.chat.completions.create(
            model="isthmus",
            messages=asked(),
            extra_body={"isthmus": {"route": "prefer_on_device"}},
        )
    assert answer.choices[0].message.content == f"Dear {MAIL}, hi there"
    assert PLACEHOLDER.findall(cloud.requests[0].answer_so_far)
    assert nothing_left(cloud, MAIL, PHONE)


async def test_a_request_may_be_stricter_and_not_looser() -> None:
    cloud = Echo()
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        for wish in ("strict", {"EMAIL": "local_only"}):
            raw = await client.chat.completions.with_raw_response.create(
                model="isthmus",
                messages=asked(),
                extra_body={"isthmus": {"route": "prefer_in_cloud", "privacy": wish}},
            )
            assert raw.headers["x-isthmus-reasons"] == "privacy_local_only"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(
                model="isthmus",
                messages=HELLO,
                extra_body={"isthmus": {"privacy": {"SECRET": "allow"}}},
            )
    assert refused.value.param == "isthmus.privacy.SECRET"
    assert cloud.left == []


async def test_a_question_about_a_value_is_answered_on_the_device() -> None:
    cloud = Echo()
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus",
            messages=asked(f"What is the area code of {PHONE}?"),
            extra_body=IN_CLOUD,
        )
    assert raw.headers["x-isthmus-reasons"] == "privacy_not_redactable"
    assert cloud.left == []


async def test_the_last_look_stops_what_redaction_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the walk that rewrites had a hole."""

    def leaky(self: Any, passage: Any) -> Any:
        return passage.texts

    monkeypatch.setattr(redaction._Swapping, "change", leaky)
    cloud, path = Echo(), tmp_path / "ledger.sqlite"
    with caplog.at_level(logging.DEBUG):
        async with (
            running_agent(cloud=cloud, ledger=Ledger(path)) as agent,
            openai_client(agent) as client,
        ):
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await client.chat.completions.create(model="isthmus-cloud", messages=asked())
            blocked = sample(agent, "isthmus_edge_privacy_blocked_values_total", label="EMAIL")
            answer = await client.chat.completions.create(
                model="isthmus", messages=asked(), extra_body=IN_CLOUD
            )
            page = agent.agent.metrics.text().decode()
    assert (refused.value.code, blocked) == ("privacy_blocked", 1)
    assert answer.model_extra is not None
    assert answer.model_extra["isthmus"]["target"] == "edge"
    assert cloud.left == []
    for said in (refused.value.response.text, caplog.text, page, str(path.read_bytes())):
        assert MAIL not in said
        assert PHONE not in said


async def test_a_scanner_that_fails_between_two_looks_keeps_the_request_here() -> None:
    class Tires(Scanner):
        looks = 0

        def find(self, text: str) -> Any:
            type(self).looks += 1
            if type(self).looks > 1:
                raise RuntimeError(text)
            return super().find(text)

    engine = ScriptedEngine(("One", " two"), error=Unavailable("gone"))
    cloud = ScriptedTier()
    async with (
        running_agent(engine, cloud=cloud, scanner=Tires()) as agent,
        openai_client(agent) as client,
    ):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(
                model="isthmus",
                messages=HELLO,
                extra_body={"isthmus": {"route": "prefer_on_device"}},
            )
    assert cloud.left == []


async def test_what_a_broken_stream_brought_is_looked_at_before_it_leaves_again() -> None:
    """The cloud guessed a value that was hidden from it: the next attempt may not bring it back."""
    words = ["Call ", PHONE, *[f" {n}" for n in range(400)]]
    backend = ScriptedBackend(words, delay_s=0.01)
    engine = ScriptedEngine(words)
    async with (
        running_gateway(backend) as address,
        ChaosProxy(address) as proxy,
        running_agent(engine, cloud=RemoteTier(RemoteConfig(proxy.address))) as agent,
        openai_client(agent) as client,
    ):
        stream = await client.chat.completions.create(
            model="isthmus", messages=asked(), extra_body=IN_CLOUD, stream=True
        )
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == 8:
                proxy.reset()
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == "".join(words)
    assert len(backend.requests) == 1
    assert engine.requests[0].answer_so_far.startswith("Call ")
