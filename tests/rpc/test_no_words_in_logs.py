"""No word of a user, no secret and no token is in the gateway's log or on its page of metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from prometheus_client import generate_latest

from asked import anew
from device_tokens import Signer, auth_settings, write_jwks
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend, gateway_config
from isthmus.core import chat, errors
from isthmus.core.tier import ModelInfo
from isthmus.edge.remote import RemoteConfig, RemoteTier

WORD = "Xylophonia"
SIGNER = Signer()
ABLE = ModelInfo("scripted", "scripted", 4096, supports_tools=True)


def said_by_user(**changes):
    """A request that says the word wherever one can be said."""
    tool = chat.Tool(WORD, WORD, {"type": "object", "title": WORD})
    return anew(
        messages=(
            chat.Message(chat.Role.SYSTEM, (chat.TextPart(WORD),)),
            chat.Message(chat.Role.USER, (chat.TextPart(f"Say {WORD}."),), name=WORD),
        ),
        sampling=chat.Sampling(stop=(WORD,)),
        tools=(tool,),
        answer_so_far=WORD,
        **changes,
    )


@asynccontextmanager
async def quoting_upstream():
    """An upstream that answers every request with an error that quotes all of it, and what came."""
    bodies = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length:")[2].split("\r\n")[0].strip() or "0"
            body = (await reader.readexactly(int(length))).decode()
            bodies.append(body)
            told = json.dumps({"error": {"message": body, "param": body, "code": body}}).encode()
            status = b"400 Bad Request" if body else b"200 OK"
            writer.write(
                b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (status, len(told), told)
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", bodies
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def running(tmp_path, behind=None, **settings):
    auth = auth_settings(write_jwks(tmp_path / "jwks", SIGNER))
    gateway = Gateway(gateway_config(auth=auth, **settings), behind)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


async def asked_of(gateway, token, *requests):
    tier = RemoteTier(RemoteConfig(gateway.address, token=token))
    for request in requests:
        with contextlib.suppress(errors.IsthmusError):
            async for _ in tier.generate(request):
                pass
    await tier.close()


def shown(gateway, caplog):
    """Everything that an operator can read."""
    records = [caplog.handler.format(record) for record in caplog.records]
    return "\n".join([*records, generate_latest(gateway.metrics.registry).decode()])


@pytest.fixture
def everything(caplog):
    # Whatever others log at this level, the operator's own choice shows it.
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_a_backend_that_breaks_with_the_prompt_in_its_words(tmp_path, everything):
    for after in (None, 0, 2):
        failure = RuntimeError(f"no {WORD}")
        backend = ScriptedBackend(failure=failure, fail_after=after, info=ABLE)
        async with running(tmp_path, backend) as gateway:
            await asked_of(gateway, SIGNER.token(), said_by_user())
        assert backend.requests[0].answer_so_far == WORD
        assert "RuntimeError" in everything.text
        assert WORD not in shown(gateway, everything)


async def test_an_upstream_that_quotes_the_prompt_in_its_errors(tmp_path, everything):
    async with quoting_upstream() as (url, bodies):
        backend = {"kind": "openai", "url": url, "model": "m"}
        async with running(tmp_path, backend=backend) as gateway:
            await asked_of(
                gateway, SIGNER.token(), said_by_user(), said_by_user(draft=f" {WORD} again")
            )
            said = shown(gateway, everything)
    assert any(WORD in body for body in bodies)
    assert WORD not in said


async def test_a_request_that_is_refused(tmp_path, everything):
    async with running(tmp_path, ScriptedBackend()) as gateway:
        await asked_of(
            gateway,
            SIGNER.token(),
            said_by_user(max_tokens=0),
            said_by_user(privacy_class=chat.PrivacyClass.SENSITIVE),
            said_by_user(model=WORD),
        )
    assert WORD not in shown(gateway, everything)


async def test_tokens_good_and_bad(tmp_path, everything):
    good, bad = SIGNER.token(), Signer().token()
    async with running(tmp_path, ScriptedBackend()) as gateway:
        await asked_of(gateway, good, anew())
        await asked_of(gateway, bad, anew())
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            call = channel.unary_unary("/isthmus.v1.GatewayService/GetLoad")(
                b"", metadata=(("authorization", f"Bearer {WORD}"),)
            )
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    said = shown(gateway, everything)
    for part in (*good.split(".")[1:], *bad.split(".")[1:], WORD, "phone-7"):
        assert part not in said
