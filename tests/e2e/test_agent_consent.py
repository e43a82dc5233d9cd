"""Nothing leaves without consent, and a preview shows beforehand what would."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from google.protobuf.json_format import ParseDict

from agent_client import HELLO, openai_client
from echoing_cloud import IN_CLOUD, MAIL, PHONE, Echo, asked, nothing_left
from isthmus.core.chat import ChatRequest
from isthmus.core.events import Event
from isthmus.edge.consent import keep_consent
from isthmus.edge.testing import RunningAgent, ScriptedTier, running_agent
from isthmus.edge.tiers import Check
from isthmus.privacy.policy import PrivacyConfig
from isthmus.v1.gateway_pb2 import GenerateRequest


async def test_consent_that_is_revoked_while_a_request_is_on_its_way_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))

    class Late(ScriptedTier):
        async def generate(
            self, request: ChatRequest, check: Check = lambda data: None
        ) -> AsyncGenerator[Event, None]:
            keep_consent(False)
            async for event in super().generate(request, check):
                yield event

    cloud = Late()
    keep_consent(True)
    async with (
        running_agent(cloud=cloud, privacy=PrivacyConfig()) as agent,
        openai_client(agent) as client,
    ):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
    assert refused.value.code == "privacy_no_consent"
    assert cloud.left == []


async def test_nothing_leaves_without_consent_and_revoking_it_is_followed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    cloud = ScriptedTier()

    async def reasons(client: openai.AsyncOpenAI) -> str:
        raw = await client.chat.completions.with_raw_response.create(
            model="isthmus", messages=HELLO, extra_body=IN_CLOUD
        )
        return raw.headers["x-isthmus-reasons"]

    async with (
        running_agent(cloud=cloud, privacy=PrivacyConfig()) as agent,
        openai_client(agent) as client,
    ):
        assert await reasons(client) == "privacy_no_consent"
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model="isthmus-cloud", messages=HELLO)
        keep_consent(True)
        assert await reasons(client) == "preferred_cloud"
        keep_consent(False)
        assert await reasons(client) == "privacy_no_consent"
        (tmp_path / "consent.json").write_text("{")
        assert await reasons(client) == "privacy_no_consent"
    assert refused.value.code == "privacy_no_consent"
    assert len(cloud.left) == 1


async def preview(agent: RunningAgent, **body: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=agent.url, trust_env=False) as http:
        answer = await http.post("/v1/isthmus/preview", json={"model": "isthmus", **body})
    shown: dict[str, Any] = answer.json()
    return shown


async def test_a_preview_shows_exactly_what_leaves_afterwards() -> None:
    cloud = Echo()
    wishes = {"isthmus": {"route": "prefer_in_cloud", "conversation": "mine"}}
    async with running_agent(cloud=cloud) as agent, openai_client(agent) as client:
        shown = await preview(agent, messages=asked(), **wishes)
        assert cloud.left == []
        await client.chat.completions.create(model="isthmus", messages=asked(), extra_body=wishes)
    would_leave = shown["would_leave"]["messages"][0]["content"][0]["text"]
    assert would_leave == cloud.requests[0].messages[0].text
    assert (shown["target"], shown["privacy_class"]) == ("cloud", "redacted")
    assert shown["reasons"] == ["preferred_cloud", "privacy_redacted"]
    assert shown["redacted"] == {"EMAIL": 1, "PHONE": 1}
    assert shown["bytes"] > 0


async def test_a_preview_shows_what_would_leave_before_the_consent_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path))
    cloud = Echo()
    wishes = {"isthmus": {"route": "only_in_cloud", "conversation": "mine"}}
    async with (
        running_agent(cloud=cloud, privacy=PrivacyConfig()) as agent,
        openai_client(agent) as client,
    ):
        shown = await preview(agent, messages=asked(), **wishes)
        assert cloud.left == []
        keep_consent(True)
        await client.chat.completions.create(model="isthmus", messages=asked(), extra_body=wishes)
    assert (shown["consent"], shown["target"]) == (False, None)
    assert shown["reasons"] == ["privacy_no_consent"]
    would_leave = ParseDict(shown["would_leave"], GenerateRequest())
    assert settled(would_leave) == settled(GenerateRequest.FromString(cloud.left[0]))
    assert nothing_left(cloud, MAIL, PHONE)


def settled(message: GenerateRequest) -> bytes:
    """A request's bytes without what differs each time."""
    message.ClearField("request_id")
    message.ClearField("deadline_remaining_ms")
    return message.SerializeToString(deterministic=True)


async def test_a_preview_says_that_nothing_would_leave() -> None:
    async with running_agent(cloud=ScriptedTier()) as agent:
        kept = await preview(agent, messages=asked("Pay with card 4111 1111 1111 1111"))
        wrong = await preview(agent, messages=[])
    assert (kept["would_leave"], kept["target"]) == (None, "edge")
    assert kept["reasons"] == ["privacy_local_only"]
    assert wrong["error"]["param"] == "messages"
