"""Bad input gets an OpenAI-shaped 4xx that names the field: never a 500, never a hang."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from agent_client import HELLO
from isthmus.core.errors import ContextTooLong
from isthmus.edge.testing import ScriptedEngine, running_agent
from waiting import eventually

PATH = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "isthmus", "messages": HELLO, **fields}).encode()


async def exchange(url: str, *sent: bytes) -> bytes:
    """What the agent answers, until it closes the connection, to bytes that need not be HTTP."""
    where = httpx.URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    answer = b""
    for part in sent:
        writer.write(part)
        await writer.drain()
    answer += await reader.read()
    writer.close()
    return answer


# One agent for the tables of this module: a server takes its time to stop.
shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running_agent() as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False, timeout=20) as client,
    ):
        yield client


TABLE: list[tuple[str, bytes, int, str | None]] = [
    ("an empty body", b"", 400, "body"),
    ("no object", b"[]", 400, "body"),
    ("half an object", b'{"model": "isthmus"', 400, "body"),
    ("broken UTF-8", b'{"messages": "\xff"}', 400, "body"),
    ("half a surrogate pair", body()[:-1] + b', "user": "x", "stop": "\\ud800"}', 400, "stop"),
    ("NaN", b'{"temperature": NaN}', 400, "body"),
    ("infinity", body()[:-1] + b', "temperature": 1e999}', 400, "temperature"),
    ("a million brackets", b"[" * 1_000_000, 400, "body"),
    ("no messages", body(messages=[]), 400, "messages"),
    ("missing messages", b'{"model": "isthmus"}', 400, "messages"),
    ("an unknown role", body(messages=[{"role": "x", "content": "y"}]), 400, "messages[0].role"),
    ("a hot temperature", body(temperature="hot"), 400, "temperature"),
    ("two answers", body(n=2), 400, "n"),
    ("an unknown model", body(model="gpt-4o"), 404, "model"),
    ("an unknown field", body(tempreature=1), 400, "tempreature"),
    ("too many bytes", body(user="x" * 5_000_000), 413, "body"),
]


@shared
@pytest.mark.parametrize(
    ("content", "status", "param"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
async def test_a_bad_body_gets_a_4xx_that_names_the_field(
    http: httpx.AsyncClient, content: bytes, status: int, param: str | None
) -> None:
    response = await http.post(PATH, content=content, headers=JSON)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


@shared
async def test_fifty_megabytes_are_refused_and_the_client_hears_it(
    http: httpx.AsyncClient,
) -> None:
    whole = await http.post(PATH, content=body(user="x" * 50_000_000), headers=JSON)

    async def pieces() -> Any:
        for _ in range(50):
            yield b"x" * 1_000_000

    chunked = await http.post(PATH, content=pieces(), headers=JSON)
    after = await http.post(PATH, content=body(), headers=JSON)
    assert whole.status_code == chunked.status_code == 413
    assert whole.json()["error"]["code"] == "request_too_large"
    assert after.status_code == 200


async def test_whoever_was_told_to_continue_hears_the_refusal_too() -> None:
    async with running_agent(max_body_bytes=1 << 20) as agent:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(agent.url.split(":")[-1]))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        chunk = b"x" * 1_000_000
        for _ in range(50):
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"request_too_large" in answer


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with running_agent(body_timeout_s=0.2) as agent:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(agent.url.split(":")[-1]))
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            'content-length: 100\r\n\r\n{"a'.encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        writer.close()
        await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 408")


@shared
@pytest.mark.parametrize(
    ("headers", "status", "param"),
    [
        ({"content-type": "text/plain"}, 415, "content-type"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "content-type"),
        ({"content-type": "application/json; charset=latin-1"}, 415, "content-type"),
        ({**JSON, "content-encoding": "gzip"}, 415, "content-encoding"),
        ({**JSON, "host": "evil.example"}, 403, "host"),
        ({**JSON, "origin": "https://evil.example"}, 403, "origin"),
    ],
)
async def test_a_bad_header_is_named(
    http: httpx.AsyncClient, headers: dict[str, str], status: int, param: str
) -> None:
    response = await http.post(PATH, content=body(), headers=headers)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


@shared
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PATH, 405), ("DELETE", PATH, 405), ("POST", "/v1/models", 405), ("GET", "/v2", 404)],
)
async def test_a_wrong_method_or_path_is_told_in_openais_shape(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_that_is_too_long_is_the_callers_to_shorten(stream: bool) -> None:
    engine = ScriptedEngine(pieces=(), error=ContextTooLong("4000 tokens do not fit 2048"))
    async with (
        running_agent(engine) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as client,
    ):
        response = await client.post(PATH, content=body(stream=stream), headers=JSON)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


async def test_a_fault_of_ours_is_told_without_its_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = ScriptedEngine(pieces=(), error=ValueError("Jane's secret"))
    async with (
        running_agent(engine) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as client,
    ):
        response = await client.post(PATH, content=body(), headers=JSON)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "Jane" not in response.text
    assert "ValueError" in caplog.text
    assert "Jane" not in caplog.text


async def test_more_requests_than_the_agent_takes_are_told_to_come_back() -> None:
    engine = ScriptedEngine(hang=True)
    async with (
        running_agent(engine, max_in_flight=1) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as client,
    ):
        first = asyncio.create_task(client.post(PATH, content=body(), headers=JSON))
        assert await eventually(lambda: engine.running == 1)
        second = await client.post(PATH, content=body(), headers=JSON)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert second.status_code == 429
    assert int(second.headers["retry-after"]) >= 1


async def test_health_is_told_before_the_model_is_loaded_and_readiness_after() -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> ScriptedEngine:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
        return ScriptedEngine()

    async with (
        running_agent(load) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False) as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        early = await client.get("/readyz")
        # A request that comes too early waits for the model instead of failing.
        waiting = asyncio.create_task(client.post(PATH, content=body(), headers=JSON))
        await asyncio.sleep(0.05)
        gate.set()
        assert (await waiting).status_code == 200
        late = await client.get("/readyz")
    assert (early.status_code, early.json()["status"]) == (503, "loading")
    assert (late.status_code, late.json()["status"]) == (200, "ready")


@pytest.mark.parametrize(
    "line", [b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n"]
)
async def test_what_is_no_http_gets_openais_error(line: bytes) -> None:
    async with running_agent() as agent:
        answer = await exchange(agent.url, line)
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(content)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "half", [b"POST /v1/chat/comp", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "]
)
async def test_half_a_head_is_not_waited_for_for_ever(half: bytes) -> None:
    async with running_agent(head_timeout_s=0.1) as agent:
        answer = await exchange(agent.url, half)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
        whole = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        second = await exchange(agent.url, whole, half)
    assert second.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in second


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with running_agent(head_timeout_s=0.1) as agent:
        assert await exchange(agent.url) == b""


async def test_the_time_for_the_head_does_not_count_for_the_answer() -> None:
    engine = ScriptedEngine(["word "] * 20, delay_s=0.02)
    async with (
        running_agent(engine, head_timeout_s=0.1) as agent,
        httpx.AsyncClient(base_url=agent.url, trust_env=False, timeout=20) as client,
    ):
        for _ in range(2):
            answer = await client.post(PATH, content=body(), headers=JSON)
            assert answer.json()["choices"][0]["message"]["content"] == "word " * 20
