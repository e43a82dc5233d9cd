"""Reading a request and sending an answer over ASGI, with an eye on the client all the while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Send

from isthmus.edge.answers import HttpError, encode, error_body
from isthmus.edge.fields import decode_json

_MAX_DISCARDED_BYTES = 256 * 1024 * 1024
_MAX_DISCARDING_S = 5.0


class Refused(Exception):
    """The request is turned away before it is understood. `response` says how."""

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        kind = "authentication_error" if status == 401 else "invalid_request_error"
        self.response = HttpError(
            status, error_body(message, kind=kind, param=param, code=code), {}
        )


class ClientGone(Exception):
    """The client has closed the connection."""


class Stopping(Exception):
    """The agent shuts down and the grace for running answers is over."""


async def read_json(request: Request, *, max_bytes: int, timeout_s: float) -> Any:
    """The decoded body. Raises `Refused`, `InvalidRequest` or `ClientGone`."""
    _check_content_type(request)
    try:
        async with asyncio.timeout(timeout_s):
            body = await _read_body(request, max_bytes)
    except TimeoutError:
        raise Refused(
            408, f"the body did not arrive within {timeout_s:g} s", code="request_timeout"
        ) from None
    if not body:
        raise Refused(
            400, "the body is empty: send a JSON object", code="invalid_request", param="body"
        )
    return decode_json(body)


def _check_content_type(request: Request) -> None:
    content_type, _, parameters = request.headers.get("content-type", "").partition(";")
    # Not only tidiness: a page of any site may post text/plain or a form without asking first.
    if content_type.strip().lower() != "application/json":
        raise Refused(
            415,
            "the content type must be application/json (curl: -H 'content-type: application/json')",
            code="unsupported_media_type",
            param="content-type",
        )
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in {"", "utf-8", "utf8"}:
        raise Refused(
            415, "the body must be UTF-8", code="unsupported_media_type", param="content-type"
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(
            415,
            "a compressed body is not supported; send it as it is",
            code="unsupported_media_type",
            param="content-encoding",
        )


async def _read_body(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    too_large = declared.isdigit() and int(declared) > max_bytes
    chunks: list[bytes] = []
    size = 0
    # Whoever waits for a "100 Continue" sends nothing before we begin to read.
    waits = too_large and "100-continue" in request.headers.get("expect", "").lower()
    while not too_large:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        too_large = size > max_bytes
        if not message.get("more_body", False):
            break
    if too_large:
        chunks.clear()
        if not waits:
            await _discard(request)
        raise Refused(
            413,
            f"the body is larger than {max_bytes} bytes",
            code="request_too_large",
            param="body",
        )
    return b"".join(chunks)


async def _discard(request: Request) -> None:
    """Read on and forget: most clients only look for an answer when they have sent everything."""
    left = _MAX_DISCARDED_BYTES
    try:
        async with asyncio.timeout(_MAX_DISCARDING_S):
            while left > 0:
                message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def attend(work: Awaitable[None], receive: Receive, stopping: asyncio.Event) -> None:
    """Do `work` unless the client goes away or the agent stops, which cancels it.

    To be called when the body has been read. Raises what `work` raises, `ClientGone`, `Stopping`.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({task, gone, stop}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return
        raise ClientGone if gone.done() else Stopping
    finally:
        for each in (task, gone, stop):
            each.cancel()
        # The work must have let go of its tier before anything else is said.
        await asyncio.gather(task, gone, stop, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Reply:
    """One HTTP answer on its way: whole, or a head and then events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def whole(self, status: int, body: dict[str, Any], extra: dict[str, str]) -> None:
        """Send a JSON answer."""
        content = encode(body)
        await self._head(
            status,
            {
                "content-type": "application/json",
                "content-length": str(len(content)),
                **extra,
            },
        )
        await self._send({"type": "http.response.body", "body": content})

    async def error(self, error: HttpError) -> None:
        """Send an error."""
        extra = dict(error.headers)
        if error.status in {408, 413}:
            # What the client may still be sending must not be read as its next request.
            extra["connection"] = "close"
        await self.whole(error.status, error.body, extra)

    async def stream(self, extra: dict[str, str]) -> None:
        """Send the head of a stream of events."""
        await self._head(
            200,
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
                **extra,
            },
        )

    async def events(self, content: bytes, *, last: bool = False) -> None:
        """Send events of a stream."""
        await self._send({"type": "http.response.body", "body": content, "more_body": not last})

    async def _head(self, status: int, headers: dict[str, str]) -> None:
        self.begun = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
