"""The page's conversations: kept on the device, branched, stopped, rated, deleted."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.core.chat import ChatRequest
from isthmus.core.errors import ContextTooLong, Unavailable
from isthmus.core.events import Event
from isthmus.core.tier import ModelInfo
from isthmus.edge.ledger import Ledger
from isthmus.edge.page import turns
from isthmus.edge.page.kept import Kept
from isthmus.edge.page.store import Store
from isthmus.edge.testing import RunningAgent, ScriptedEngine, ScriptedTier, running_agent

ALL = "/v1/isthmus/conversations"


@asynccontextmanager
async def page(engine: ScriptedEngine | None = None, **more: Any) -> AsyncIterator[Browser]:
    async with (
        running_agent(engine or ScriptedEngine(), **more) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client,
    ):
        yield Browser(client, running)


class Browser:
    """What the page does, over HTTP."""

    def __init__(self, client: httpx.AsyncClient, running: RunningAgent) -> None:
        self.http = client
        self.running = running

    async def new(self) -> str:
        made = await self.http.post(ALL, json={})
        assert made.status_code == 201
        return str(made.json()["id"])

    async def say(self, conversation: str, content: str, parent: str | None = None) -> Any:
        """The answer's message as it is at the end."""
        return (await self.turn(conversation, content=content, parent=parent))[-1]["assistant"]

    async def turn(self, conversation: str, **body: Any) -> list[Any]:
        told = await self.http.post(f"{ALL}/{conversation}/turns", json=body)
        assert told.status_code == 200, told.text
        lines = [line for line in told.text.split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]

    async def shown(self, conversation: str) -> Any:
        told = await self.http.get(f"{ALL}/{conversation}")
        assert told.status_code == 200
        return told.json()


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_turn_streams_the_answer_between_two_views_of_its_messages() -> None:
    async with page() as browser:
        conversation = await browser.new()
        first, *chunks, last = await browser.turn(conversation, content="Say  hello\nto me")
        assert first["object"] == last["object"] == "isthmus.turn"
        assert first["user"]["content"] == "Say  hello\nto me"
        assert (first["assistant"]["status"], first["assistant"]["content"]) == ("running", "")
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        answer = last["assistant"]
        assert text == answer["content"] == "Hello there."
        assert chunks[-1]["isthmus"] == answer["isthmus"]
        assert answer["status"] == "done"
        assert answer["finish_reason"] == "stop"
        assert answer["parent"] == first["user"]["id"]
        assert answer["request_id"] == answer["isthmus"]["request_id"]

        kept = await browser.shown(conversation)
        assert kept["messages"] == [last["user"], answer]
        assert kept["head"] == answer["id"]
        assert kept["title"] == "Say hello to me"


async def test_a_browser_keeps_nothing_of_what_was_said() -> None:
    async with page() as browser:
        conversation = await browser.new()
        turn = await browser.http.post(f"{ALL}/{conversation}/turns", json={"content": "Hello"})
        told = [turn, *[await browser.http.get(path) for path in (ALL, f"{ALL}/{conversation}")]]
        assert [one.headers["cache-control"] for one in told] == ["no-store"] * 3
        assert {one.headers["cross-origin-resource-policy"] for one in told} == {"same-origin"}


async def test_the_model_is_shown_the_branch_that_a_turn_goes_on_from() -> None:
    engine = ScriptedEngine()
    async with page(engine) as browser:
        conversation = await browser.new()
        one = await browser.say(conversation, "One")
        two = await browser.say(conversation, "Two", one["id"])
        edited = await browser.say(conversation, "Another two", one["id"])
        again = (await browser.turn(conversation, regenerate=two["id"]))[-1]
        assert [[m.text for m in request.messages] for request in engine.requests] == [
            ["One"],
            ["One", "Hello there.", "Two"],
            ["One", "Hello there.", "Another two"],
            ["One", "Hello there.", "Two"],
        ]
        assert again["user"] is None
        assert again["assistant"]["parent"] == two["parent"] != edited["parent"]
        assert (
            engine.requests[-1].sampling.temperature > 0 == engine.requests[0].sampling.temperature
        )
        ids = {request.preference.conversation for request in engine.requests}
        assert len(ids) == 1  # the device's cache is found again
        assert (await browser.shown(conversation))["head"] == again["assistant"]["id"]
        told = await browser.http.patch(f"{ALL}/{conversation}", json={"head": edited["id"]})
        assert told.json()["head"] == edited["id"]
        elsewhere = await browser.new()
        for body in ({"head": edited["id"]}, {"head": "nobody"}):
            refused = await browser.http.patch(f"{ALL}/{elsewhere}", json=body)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "head")
        stolen = {"content": "Go on", "parent": edited["id"]}
        refused = await browser.http.post(f"{ALL}/{elsewhere}/turns", json=stolen)
        assert refused.status_code == 404


async def test_the_part_of_an_answer_is_kept_when_its_reader_goes_away() -> None:
    engine = ScriptedEngine(hang=True)
    async with page(engine) as browser:
        conversation = await browser.new()
        path, body = f"{ALL}/{conversation}/turns", {"content": "Go on"}
        async with browser.http.stream("POST", path, json=body) as told:
            async for line in told.aiter_lines():
                if "there" in line:
                    break
        for _ in range(100):
            kept = (await browser.shown(conversation))["messages"][-1]
            if kept["status"] != "running":
                break
            await asyncio.sleep(0.02)
        assert kept["status"] == "stopped"
        assert kept["content"].startswith("Hello there")
        assert engine.stopped == 1
        engine.hang = False
        assert (await browser.say(conversation, "And?", kept["id"]))["status"] == "done"
        assert engine.requests[-1].messages[1].text == kept["content"]


async def test_a_question_whose_asker_is_gone_at_once_is_kept_and_not_left_running() -> None:
    async with page(ScriptedEngine(hang=True)) as browser:
        conversation = await browser.new()
        body = b'{"content": "Anybody there?"}'
        address = httpx.URL(browser.running.url)
        for _ in range(5):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(
                f"POST {ALL}/{conversation}/turns HTTP/1.1\r\nhost: {address.netloc.decode()}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        for _ in range(100):
            messages = (await browser.shown(conversation))["messages"]
            answers = [one["status"] for one in messages if one["role"] == "assistant"]
            if answers == ["stopped"] * 5:
                break
            await asyncio.sleep(0.02)
        assert answers == ["stopped"] * 5


async def test_an_answer_is_not_made_to_its_end_once_its_conversation_is_deleted_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_SAVED_EVERY_S", 0.02)
    engine = ScriptedEngine(("on", " and") * 500, delay_s=0.02)
    async with page(engine) as browser:
        conversation = await browser.new()
        path, body = f"{ALL}/{conversation}/turns", {"content": "Go on"}
        async with browser.http.stream("POST", path, json=body) as told:
            lines = [line async for line in _deleting(told, browser, conversation)]
        assert json.loads(lines[-2].removeprefix("data: "))["assistant"]["status"] == "stopped"
        assert engine.stopped == 1


async def _deleting(
    told: httpx.Response, browser: Browser, conversation: str
) -> AsyncGenerator[str, None]:
    """The lines of an answer whose conversation is deleted with its third piece."""
    pieces = 0
    async for line in told.aiter_lines():
        pieces += '" and"' in line
        if pieces == 3:
            await browser.http.delete(f"{ALL}/{conversation}")
        if line:
            yield line


async def test_a_failed_answer_says_why_and_is_not_shown_to_the_model() -> None:
    engine = ScriptedEngine(pieces=(), error=Unavailable("the battery fell out"))
    async with page(engine) as browser:
        conversation = await browser.new()
        failed = await browser.say(conversation, "Hello?")
        assert failed["status"] == "failed"
        assert failed["error"] == {"code": "unavailable", "message": "the battery fell out"}
        engine.pieces, engine.error = ("Yes",), None
        await browser.say(conversation, "Still there?", failed["id"])
        assert [m.text for m in engine.requests[-1].messages] == ["Hello?", "Still there?"]


async def test_what_does_not_fit_the_model_is_left_out_and_told() -> None:
    engine = ScriptedEngine(pieces=("word " * 40,))
    async with page(engine) as browser:
        conversation = await browser.new()
        parent: str | None = None
        for number in range(6):
            question = f"Question {number}: " + "what then " * 40
            answer = await browser.say(conversation, question, parent)
            parent = answer["id"]
        assert (answer["left_out"], len(engine.requests[-1].messages)) == (0, 11)
        engine.context_tokens = 1_024
        answer = await browser.say(conversation, "And now?", parent)
        assert answer["status"] == "done"
        assert answer["left_out"] == 12 + 1 - len(engine.requests[-1].messages) > 0
        assert engine.requests[-1].messages[-1].text == "And now?"
        assert (await browser.shown(conversation))["messages"][-1] == answer


async def test_a_model_that_counts_more_tokens_than_expected_is_asked_again_with_less() -> None:
    class Narrow(ScriptedEngine):
        async def generate(self, request: ChatRequest, *more: Any) -> AsyncGenerator[Event, None]:
            if len(request.messages) > 3:
                raise ContextTooLong("the conversation has too many tokens", field="messages")
            async for event in super().generate(request, *more):
                yield event

    async with page(Narrow()) as browser:
        conversation = await browser.new()
        parent: str | None = None
        for number in range(5):
            answer = await browser.say(conversation, f"Question {number}", parent)
            parent = answer["id"]
            assert answer["status"] == "done"
        assert answer["left_out"] == 6
        whole = await browser.shown(conversation)
        assert len(whole["messages"]) == 10, "the person still sees everything"


async def test_what_was_private_and_is_left_out_still_holds_after_a_restart(tmp_path: Path) -> None:
    path, cloud = tmp_path / "conversations.db", ScriptedTier()
    card = "My card is 4111 1111 1111 1111, remember it. " + "And so on. " * 200
    async with page(kept=Kept(Store(path))) as browser:
        conversation = await browser.new()
        answer = await browser.say(conversation, card)
    narrow = ScriptedEngine(context_tokens=512)
    cloud.last_info = ModelInfo("cloud", "scripted", context_tokens=512)
    async with page(narrow, cloud=cloud, kept=Kept(Store(path))) as browser:
        told = await browser.turn(
            conversation, content="Go on", parent=answer["id"], route="prefer_in_cloud"
        )
        assert told[-1]["assistant"]["left_out"] == 2
        assert told[-1]["assistant"]["isthmus"]["privacy_class"] == "sensitive"
        fresh = await browser.turn(conversation, content="Go on", route="prefer_in_cloud")
    assert cloud.requests == [], "the name keeps it, whatever the branch"
    assert fresh[-1]["assistant"]["isthmus"]["target"] == "edge"


async def test_a_question_that_no_model_has_room_for_is_told_so() -> None:
    error = ContextTooLong("the conversation has too many tokens", field="messages")
    engine = ScriptedEngine(pieces=(), error=error)
    async with page(engine) as browser:
        conversation = await browser.new()
        answer = await browser.say(conversation, "Read this book")
        assert (answer["status"], answer["left_out"]) == ("failed", 0)
        assert answer["error"]["code"] == "context_length_exceeded"


async def test_what_was_private_in_a_conversation_keeps_its_later_turns_on_the_device() -> None:
    cloud = ScriptedTier()
    async with page(cloud=cloud) as browser:
        conversation = await browser.new()
        card = await browser.say(conversation, "My card is 4111 1111 1111 1111, remember it")
        told = await browser.turn(
            conversation, content="Now what?", parent=card["id"], route="prefer_in_cloud"
        )
        assert "privacy_local_only" in told[-1]["assistant"]["isthmus"]["reasons"]
        # Another branch of the same conversation, in which the number does not stand.
        branch = await browser.turn(conversation, content="Hello", route="prefer_in_cloud")
        assert branch[-1]["assistant"]["isthmus"]["target"] == "edge"
        assert cloud.requests == []
        # Deleted, it is forgotten; a new one is not held back.
        assert (await browser.http.delete(f"{ALL}/{conversation}")).json() == {"deleted": 1}
        fresh = await browser.turn(await browser.new(), content="Good day", route="prefer_in_cloud")
        assert fresh[-1]["assistant"]["isthmus"]["target"] == "cloud"


async def test_conversations_are_listed_in_pages_and_found_by_what_was_said() -> None:
    async with page() as browser:
        for text in ("Rivers of Europe", "100% of tea", "Tea and rivers"):
            await browser.say(await browser.new(), text)
        first = (await browser.http.get(ALL, params={"limit": 2})).json()
        assert [one["title"] for one in first["data"]] == ["Tea and rivers", "100% of tea"]
        second = await browser.http.get(ALL, params={"limit": 2, "before": first["next"]})
        assert [one["title"] for one in second.json()["data"]] == ["Rivers of Europe"]
        assert second.json()["next"] is None
        found = (await browser.http.get(ALL, params={"q": "rivers"})).json()["data"]
        assert [one["title"] for one in found] == ["Tea and rivers", "Rivers of Europe"]
        exact = (await browser.http.get(ALL, params={"q": "0%"})).json()["data"]
        assert [one["title"] for one in exact] == ["100% of tea"]
        assert (await browser.http.delete(ALL)).json() == {"deleted": 3}
        assert (await browser.http.get(ALL)).json()["data"] == []


async def test_a_thumb_is_kept_and_learnt_from(tmp_path: Path) -> None:
    async with page(cloud=ScriptedTier(), ledger=Ledger(tmp_path / "ledger.sqlite")) as browser:
        conversation = await browser.new()
        answer = await browser.say(conversation, "Hello")
        path = f"/v1/isthmus/messages/{answer['id']}/rating"
        before = browser.running.agent.learning.correction
        assert (await browser.http.post(path, json={"rating": -1})).json()["rating"] == -1
        assert (await browser.shown(conversation))["messages"][-1]["rating"] == -1
        assert browser.running.agent.learning.correction != before
        await browser.http.post(path, json={"rating": 0})
        assert browser.running.agent.learning.correction == before


async def test_conversations_survive_a_restart_and_a_running_answer_reads_as_failed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "conversations.db"
    async with page(kept=Kept(Store(path))) as browser:
        conversation = await browser.new()
        answer = await browser.say(conversation, "Remember the Zambezi")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as db:  # as a kill leaves it
        db.execute("UPDATE messages SET status = 'running' WHERE id = ?", (answer["id"],))
    db.close()
    async with page(kept=Kept(Store(path))) as browser:
        kept = (await browser.shown(conversation))["messages"][-1]
        assert (kept["status"], kept["error"]["code"]) == ("failed", "interrupted")
        assert kept["content"] == "Hello there."
        await browser.http.delete(f"{ALL}/{conversation}")
        assert b"Zambezi" not in contents(tmp_path)


def delete(folder: Path) -> None:
    for file in folder.glob("conversations.db*"):
        file.unlink()


async def test_a_file_that_is_deleted_under_the_agent_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "conversations.db"
    async with page(kept=Kept(Store(path))) as browser:
        await browser.say(await browser.new(), "Before")
        delete(tmp_path)
        await browser.say(await browser.new(), "After")
    with sqlite3.connect(path) as db:
        asked = db.execute("SELECT content FROM messages WHERE role = 'user'").fetchall()
    db.close()
    assert asked == [("After",)]


async def test_a_damaged_file_keeps_nobody_from_chatting(tmp_path: Path) -> None:
    path = tmp_path / "conversations.db"
    path.write_text("no database, but long enough to look like one to nobody at all")
    async with page(kept=Kept(Store(path))) as browser:
        told = await browser.http.get(ALL)
        assert told.status_code == 503
        assert str(path) in told.json()["error"]["message"]
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        assert (await browser.http.post("/v1/chat/completions", json=body)).status_code == 200


async def test_a_turn_that_cannot_be_is_refused_before_anything_is_stored() -> None:
    refused: list[tuple[Any, int, str]] = [
        ({}, 400, "content"),
        ({"content": "  "}, 400, "content"),
        ({"content": "x", "regenerate": "y"}, 400, "content"),
        ({"content": "x", "parent": "nobody"}, 404, "parent"),
        ({"regenerate": "nobody"}, 404, "regenerate"),
        ({"regenerate": ""}, 404, "regenerate"),
        ({"content": "x", "route": "nowhere"}, 400, "route"),
        ({"content": "x", "max_tokens": 0}, 400, "max_tokens"),
        ({"content": "x", "temperature": 1}, 400, "temperature"),
    ]
    async with page() as browser:
        conversation = await browser.new()
        for body, status, param in refused:
            told = await browser.http.post(f"{ALL}/{conversation}/turns", json=body)
            assert (told.status_code, told.json()["error"]["param"]) == (status, param)
        assert (await browser.shown(conversation))["messages"] == []


async def test_what_is_not_there_is_told_so() -> None:
    missing: list[tuple[str, str, Any]] = [
        ("GET", f"{ALL}/nobody", None),
        ("DELETE", f"{ALL}/nobody", None),
        ("PATCH", f"{ALL}/nobody", {"title": "x"}),
        ("POST", f"{ALL}/nobody/turns", {"content": "x"}),
        ("POST", "/v1/isthmus/messages/nobody/rating", {"rating": 1}),
    ]
    async with page() as browser:
        for method, path, body in missing:
            told = await browser.http.request(method, path, json=body)
            assert told.status_code == 404
            code = "message_not_found" if "messages" in path else "conversation_not_found"
            assert told.json()["error"]["code"] == code
