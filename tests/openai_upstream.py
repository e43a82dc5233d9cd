"""An OpenAI-compatible upstream on loopback, and a device that asks it through a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from types import MappingProxyType

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from asked import anew
from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.testing import running_gateway
from isthmus.cloud.upstreams.pool import UpstreamPool
from isthmus.core import chat
from isthmus.edge.remote import RemoteConfig, RemoteTier
from waiting import eventually

REQUEST = chat.ChatRequest("r1", (chat.Message(chat.Role.USER, (chat.TextPart("hello"),)),))
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}


def chunk(content=None, finish=None, **more):
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta | more, "finish_reason": finish}]}


class Upstream:
    """Says what it is told to and remembers what it was asked."""

    def __init__(self):
        self.chunks = [chunk(""), chunk("Par"), chunk("is\u2028!"), chunk(finish="stop")]
        self.tail = [{"choices": [], "usage": USAGE}, "[DONE]"]
        self.delay_s = 0.0
        self.refusal = None
        self.owner = "somebody"
        self.listed = None
        self.prompt_logprobs = None
        self.bodies = []
        self.keys = []
        self.left_at_s = []

    async def models(self, request):
        if self.listed is not None:
            return Response(self.listed)
        return JSONResponse({"data": [{"id": "m", "max_model_len": 2048, "owned_by": self.owner}]})

    async def chat(self, request):
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        if self.refusal is not None:
            status, body, headers = self.refusal
            return JSONResponse(body, status, headers)
        if not self.bodies[-1]["stream"]:
            return JSONResponse({"choices": [], "prompt_logprobs": self.prompt_logprobs})
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    async def stream(self):
        try:
            for data in [*self.chunks, *self.tail]:
                await asyncio.sleep(self.delay_s)
                text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
                yield f"data: {text}\r\n\r\n"
        except asyncio.CancelledError:
            self.left_at_s.append(time.monotonic())
            raise


@contextlib.asynccontextmanager
async def tier_over(upstream, *, limits=MappingProxyType({}), **settings):
    app = Starlette(
        routes=[
            Route("/v1/models", upstream.models),
            Route("/v1/chat/completions", upstream.chat, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none")
    )
    serving = asyncio.create_task(server.serve())
    assert await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    settings = {"url": f"http://127.0.0.1:{port}/v1", "model": "m"} | settings
    backend = UpstreamPool(BackendConfig(kind="openai", **settings))
    async with running_gateway(backend, limits=dict(limits)) as address:
        tier = RemoteTier(RemoteConfig(address))
        yield tier
        await tier.close()
    server.should_exit = True
    await serving


async def collected(tier, request=REQUEST):
    return [event async for event in tier.generate(anew(request))]
