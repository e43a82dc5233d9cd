"""The HTTP application: OpenAI's chat completions and models, the page, metrics, health."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.core.errors import IsthmusError, Unavailable
from isthmus.core.events import Delta, Finished
from isthmus.edge import metrics
from isthmus.edge.agent import Agent
from isthmus.edge.answers import (
    SSE_DONE,
    Writer,
    error_body,
    error_response,
    headers,
    sse,
)
from isthmus.edge.config import EdgeConfig
from isthmus.edge.endpoint import Answer, Endpoint, body_of
from isthmus.edge.faults import fault
from isthmus.edge.feedback import parse_feedback, unknown_answer
from isthmus.edge.http import ClientGone, Reply, Stopping, attend
from isthmus.edge.openai_api import MODELS, ParsedRequest, parse_chat_request
from isthmus.edge.openapi import openapi
from isthmus.edge.page.kept import Kept
from isthmus.edge.page.routes import Page
from isthmus.edge.preview import preview
from isthmus.edge.security import Guard
from isthmus.edge.trail import Trail

log = logging.getLogger(__name__)


def create_app(
    agent: Agent, config: EdgeConfig, kept: Kept, *, stopping: asyncio.Event | None = None
) -> Starlette:
    """The application around `agent`, the page included.

    Setting `stopping` ends the answers that still run.
    """
    stopping = stopping or asyncio.Event()
    api = _Api(agent, config, stopping)
    page = Page(agent, config, kept, stopping)
    middleware = [Middleware(Guard, config=config, on_refusal=agent.metrics.rejected)]
    if config.allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(config.allowed_origins),
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["*"],
                expose_headers=[
                    "x-isthmus-route",
                    "x-isthmus-reasons",
                    "x-isthmus-label",
                    "x-request-id",
                ],
            )
        )
    return Starlette(
        routes=[
            api.post("/v1/chat/completions", api.chat),
            api.post("/v1/isthmus/preview", api.preview),
            Route("/v1/isthmus/receipts/{request_id}", api.receipt),
            api.post("/v1/feedback", api.feedback),
            Route("/v1/models", api.models),
            Route("/v1/models/{model}", api.model),
            Route("/metrics", api.metrics),
            Route("/openapi.json", api.openapi),
            Route("/healthz", api.healthz),
            Route("/readyz", api.readyz),
            *page.routes(),
        ],
        middleware=middleware,
        exception_handlers={HTTPException: api.on_http_exception},
    )


class _Api:
    def __init__(self, agent: Agent, config: EdgeConfig, stopping: asyncio.Event) -> None:
        self._agent = agent
        self._config = config
        self._stopping = stopping

    def post(self, path: str, answer: Answer) -> Route:
        """The route of what is posted."""
        endpoint = Endpoint({"POST": answer}, on_refusal=self._agent.metrics.rejected)
        return Route(path, endpoint, methods=["POST"])

    async def chat(self, request: Request, reply: Reply) -> None:
        """POST /v1/chat/completions"""
        parsed = await self._parsed(request)
        caller = request.headers.get("traceparent", "")
        trail = Trail(parsed.chat, streams=parsed.stream, traceparent=caller)
        answer = self._stream if parsed.stream else self._whole
        try:
            await attend(answer(parsed, trail, reply), request.receive, self._stopping)
        except ClientGone:
            log.info("the client of request %s went away", trail.request.request_id)
        except Stopping:
            await self._fail(reply, trail, Unavailable("the agent is stopping"))
        except IsthmusError as error:
            await self._fail(reply, trail, error)
        except Exception as error:
            await self._fail(reply, trail, fault(error, "writing an answer"))

    async def preview(self, request: Request, reply: Reply) -> None:
        """POST /v1/isthmus/preview: a chat request's body; what would leave for it."""
        parsed = await self._parsed(request)
        await reply.whole(200, await preview(self._agent, parsed.chat), {})

    async def feedback(self, request: Request, reply: Reply) -> None:
        """POST /v1/feedback: whether an answer was good. It stays on the device."""
        request_id, found = parse_feedback(await body_of(request, self._config))
        tier = await self._agent.learning.judge(request_id, found)
        if tier is None:
            raise unknown_answer()
        self._agent.metrics.routing.judged(tier, good=found > 0.5)
        told = {"object": "isthmus.feedback", "request_id": request_id, "target": tier.value}
        await reply.whole(200, told, {})

    async def _parsed(self, request: Request) -> ParsedRequest:
        """The chat request of a body."""
        body = await body_of(request, self._config)
        return parse_chat_request(body, default_deadline_s=self._config.deadline_s)

    async def _whole(self, parsed: ParsedRequest, trail: Trail, reply: Reply) -> None:
        deltas: list[Delta] = []
        finished: Finished | None = None
        async with aclosing(self._agent.run(trail)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    finished = event
                else:
                    deltas.append(event)
        if finished is None:
            raise Unavailable("the answer ended without a word")
        await reply.whole(200, Writer.of(trail).whole(deltas, finished), headers(trail))

    async def _stream(self, parsed: ParsedRequest, trail: Trail, reply: Reply) -> None:
        writer, with_usage = Writer.of(trail), parsed.include_usage
        end = b""
        async with aclosing(self._agent.run(trail)) as events:
            async for event in events:
                if not reply.begun:
                    # Only now: a fallback before the first token still shows in the headers.
                    await reply.stream(headers(trail))
                    await reply.events(sse(writer.first_chunk(with_usage=with_usage)))
                if isinstance(event, Delta):
                    await reply.events(sse(writer.chunk(event, with_usage=with_usage)))
                    continue
                end = sse(writer.last_chunk(event, with_usage=with_usage))
                if with_usage:
                    end += sse(writer.usage_chunk(event))
        await reply.events(end + SSE_DONE, last=True)

    async def _fail(self, reply: Reply, trail: Trail, error: IsthmusError) -> None:
        response = error_response(error, trail)
        if reply.begun:
            await reply.events(sse(response.body), last=True)
        else:
            await reply.error(response)

    async def receipt(self, request: Request) -> Response:
        """GET /v1/isthmus/receipts/{request_id}: signed by this device, whose key is told too."""
        ledger = self._agent.ledger
        request_id = request.path_params["request_id"]
        entry = None if ledger is None else await asyncio.to_thread(ledger.receipt, request_id)
        if ledger is None or entry is None:
            message = "there is no receipt of such a request; its id is the answer's x-request-id"
            body = error_body(message, param="request_id", code="receipt_not_found")
            return JSONResponse(body, status_code=404)
        return JSONResponse(entry.json() | {"public_key": ledger.key.public})

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return JSONResponse({"object": "list", "data": [_model(name) for name in MODELS]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}"""
        name = request.path_params["model"]
        if name in MODELS:
            return JSONResponse(_model(name))
        message = f"there is no such model here; the models are: {', '.join(MODELS)}"
        body = error_body(message, param="model", code="model_not_found")
        return JSONResponse(body, status_code=404)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics"""
        return Response(self._agent.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json"""
        return JSONResponse(openapi())

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: the process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: the device's model is loaded."""
        device = self._agent.device
        state = {"status": device.state.value, "problem": device.problem, **device.describe()}
        return JSONResponse(state, status_code=200 if device.ready else 503)

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        """What the framework refuses (unknown path, wrong method), in OpenAI's shape."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        extra = error.headers if isinstance(error, HTTPException) else None
        self._agent.metrics.rejected(status)
        match status:
            case 404:
                message = "there is nothing at this path; chat is at POST /v1/chat/completions"
            case 405:
                message = f"this path takes {dict(extra or {}).get('Allow', 'another method')} only"
            case _:
                message = "the request was refused"
        code = {404: "unknown_url", 405: "method_not_allowed"}.get(status)
        body = error_body(message, param=None, code=code)
        return JSONResponse(body, status_code=status, headers=extra)


def _model(name: str) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "isthmus"}
