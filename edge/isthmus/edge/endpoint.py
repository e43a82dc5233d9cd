"""An HTTP endpoint: reads a request, answers it, and says every error in OpenAI's shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from isthmus.core.errors import IsthmusError
from isthmus.edge.answers import HttpError, error_response
from isthmus.edge.config import EdgeConfig
from isthmus.edge.faults import fault
from isthmus.edge.http import ClientGone, Refused, Reply, read_json

log = logging.getLogger(__name__)

Answer = Callable[[Request, Reply], Awaitable[None]]


class Endpoint:
    """A bare ASGI application: it listens to the client while it answers."""

    def __init__(self, answers: Mapping[str, Answer], *, on_refusal: Callable[[int], None]) -> None:
        """`answers`: by method. They may raise `Refused` and errors of ours before they reply."""
        self._answers = answers
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, reply = Request(scope, receive), Reply(send)
        try:
            # Where GET is allowed HEAD is too; the server drops its body.
            answer = self._answers.get(request.method) or self._answers["GET"]
            await answer(request, reply)
        except ClientGone:
            pass
        except Refused as refused:
            await self._reject(reply, refused.response)
        except IsthmusError as error:
            await self._reject(reply, error_response(error))
        except Exception as error:
            await self._reject(reply, error_response(fault(error, "an answer over HTTP")))

    async def _reject(self, reply: Reply, response: HttpError) -> None:
        self._on_refusal(response.status)
        if not reply.begun:
            await reply.error(response)


async def body_of(request: Request, config: EdgeConfig) -> Any:
    """The decoded body, within the limits of `config`. Raises as `read_json`."""
    return await read_json(
        request, max_bytes=config.max_body_bytes, timeout_s=config.body_timeout_s
    )
