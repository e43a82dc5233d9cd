"""Receipts of real answers: what they say is what left, and their chain can be checked."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_client import sample
from isthmus.core.errors import Unavailable
from isthmus.edge.ledger import Ledger
from isthmus.edge.remote import RemoteConfig, RemoteTier
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent
from isthmus.edge.tiers import Cloud
from isthmus.privacy import redact as redaction
from isthmus.privacy.receipts import Entry, Sent, check

MAIL = "jane.doe@example.org"
ASKED = f"Please write a polite letter that asks people to answer to {MAIL} before noon."
IN_CLOUD = {"isthmus": {"route": "prefer_in_cloud"}}


@asynccontextmanager
async def agent_with_ledger(
    tmp_path: Path, cloud: Cloud | None, engine: ScriptedEngine | None = None
) -> AsyncIterator[tuple[RunningAgent, httpx.AsyncClient]]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    async with (
        running_agent(engine, cloud=cloud, ledger=ledger) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as client,
    ):
        yield agent, client


async def receipt_of(client: httpx.AsyncClient, text: str, **extra: Any) -> dict[str, Any]:
    """Ask, and fetch the receipt of the answer."""
    body = {"messages": [{"role": "user", "content": text}], **extra}
    answer = await client.post("/v1/chat/completions", json=body)
    told = await client.get(f"/v1/isthmus/receipts/{answer.headers['x-request-id']}")
    assert told.status_code == 200
    return dict(told.json())


async def test_a_receipt_tells_the_bytes_that_left_and_the_labels_that_did_not(
    tmp_path: Path,
) -> None:
    cloud = ScriptedTier()
    async with agent_with_ledger(tmp_path, cloud) as (_, client):
        told = (await receipt_of(client, ASKED, **IN_CLOUD))["statement"]
    [left] = cloud.left
    assert told["made_by"] == ["cloud"]
    assert told["status"] == "ok"
    assert told["labels"] == {"EMAIL": {"redacted": 1}}
    sent = Sent.of(left)
    assert told["sent"] == [{"size_bytes": sent.size_bytes, "sha256": sent.sha256}]
    assert told["policy"].startswith("balanced#")
    assert MAIL not in str(told)


async def test_what_stayed_says_that_nothing_left(tmp_path: Path) -> None:
    async with agent_with_ledger(tmp_path, ScriptedTier()) as (_, client):
        told = (await receipt_of(client, "Is my card 4111 1111 1111 1111 safe?"))["statement"]
    assert told["made_by"] == ["edge"]
    assert told["sent"] == []
    assert told["labels"] == {"BANK_CARD": {"stayed": 1}}


async def test_a_gateway_that_cannot_be_reached_has_had_nothing(tmp_path: Path) -> None:
    with socket.socket() as unheard:  # bound, so that nobody else listens there
        unheard.bind(("127.0.0.1", 0))
        cloud = RemoteTier(RemoteConfig(f"127.0.0.1:{unheard.getsockname()[1]}"))
        async with agent_with_ledger(tmp_path, cloud) as (_, client):
            told = (await receipt_of(client, ASKED, **IN_CLOUD))["statement"]
    assert told["made_by"] == ["edge"]
    assert told["sent"] == []
    assert told["labels"] == {"EMAIL": {"stayed": 1}}


async def test_what_the_last_look_stopped_stayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction._Swapping, "change", lambda self, passage: passage.texts)
    cloud = ScriptedTier()
    async with agent_with_ledger(tmp_path, cloud) as (agent, client):
        told = (await receipt_of(client, ASKED, **IN_CLOUD))["statement"]
        redacted = sample(agent, "isthmus_edge_privacy_redacted_requests_total")
    assert told["made_by"] == ["edge"]
    assert told["sent"] == []
    assert told["labels"] == {"EMAIL": {"stayed": 1}}
    assert not redacted


async def test_a_cloud_that_fails_before_it_answers_has_had_the_bytes_all_the_same(
    tmp_path: Path,
) -> None:
    cloud = ScriptedTier(pieces=(), error=Unavailable("gone"))
    async with agent_with_ledger(tmp_path, cloud) as (_, client):
        told = (await receipt_of(client, ASKED, **IN_CLOUD))["statement"]
    assert told["made_by"] == ["edge"]
    assert len(told["sent"]) == len(cloud.left) == 1
    assert told["labels"] == {"EMAIL": {"redacted": 1}}


async def test_the_receipts_of_many_answers_are_one_chain_signed_by_the_device(
    tmp_path: Path,
) -> None:
    async with agent_with_ledger(tmp_path, ScriptedTier()) as (agent, client):
        receipts = [await receipt_of(client, f"Hello, number {n}") for n in range(5)]
        assert agent.agent.ledger is not None
        key = agent.agent.ledger.key
    entries = [Entry.from_json(one) for one in receipts]
    assert {one["public_key"] for one in receipts} == {key.public}
    head = key.head(count=5, last=entries[-1].hash)
    assert check(entries, head, key.public).problems == ()


async def test_the_same_question_is_known_again_by_the_device_alone(tmp_path: Path) -> None:
    async with agent_with_ledger(tmp_path, None) as (_, client):
        first, again, other = [
            (await receipt_of(client, text))["statement"]["content_hmac"]
            for text in ("Hello", "Hello", "Hello!")
        ]
    assert first == again != other


async def test_a_request_that_nobody_made_has_no_receipt(tmp_path: Path) -> None:
    async with agent_with_ledger(tmp_path, None) as (_, client):
        told = await client.get("/v1/isthmus/receipts/nobody")
    assert told.status_code == 404
    assert told.json()["error"]["code"] == "receipt_not_found"
