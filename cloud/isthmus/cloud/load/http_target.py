"""An OpenAI-compatible server as a target: streamed chat completions over kept connections.

Written on bare streams: a client library's own time would be a good part of what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from isthmus.cloud.backends.openai_stream import ServerSentEvents, error_of
from isthmus.cloud.load.base import Order
from isthmus.cloud.load.script import prompt_of
from isthmus.core.errors import Unavailable

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpTarget:
    """`url` ends before `/chat/completions`; plain HTTP."""

    def __init__(self, url: str, *, model: str = "scripted", token: str = "none") -> None:
        where = httpx.URL(url)
        self._host, self._port = where.host, where.port or 80
        self._head = (
            f"POST {where.path.rstrip('/')}/chat/completions HTTP/1.1\r\nhost: {self._host}\r\n"
            f"authorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        )
        self._model = model
        self._idle: list[_Connection] = []

    async def ask(self, order: Order) -> AsyncGenerator[str, None]:
        """One call."""
        content = json.dumps(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": prompt_of(order.mark)[0].text}],
                "max_tokens": order.tokens,
                "temperature": 0,
                "stream": True,
            }
        ).encode()
        request = f"{self._head}content-length: {len(content)}\r\n\r\n".encode() + content
        try:
            reader, writer, head = await self._send(request)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable("the server cannot be reached") from error
        whole = False
        try:
            status = int(head.split(" ", 2)[1])
            if status != 200:
                raise error_of(status, None)
            finished = False
            lines = ServerSentEvents()
            # To the end of the body, so that the connection can be used again.
            async with contextlib.aclosing(_body(reader)) as chunks:
                async for chunk in chunks:
                    for data in lines.feed(chunk):
                        choice: dict[str, Any] = next(iter(json.loads(data)["choices"]), {})
                        finished = finished or bool(choice.get("finish_reason"))
                        if text := choice.get("delta", {}).get("content"):
                            yield text
            if not finished:
                raise Unavailable("the stream ended before the end of the answer")
            whole = True
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable("the connection broke") from error
        finally:
            if whole:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _send(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        """The connection on which the answer begins, and its head.

        A kept connection that the server has closed meanwhile is no failure of the request.
        """
        while True:
            kept = bool(self._idle)
            reader, writer = self._idle.pop() if kept else await self._connect()
            try:
                writer.write(request)
                return reader, writer, (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except (OSError, asyncio.IncompleteReadError):
                writer.close()
                if not kept:
                    raise
            except BaseException:
                writer.close()
                raise

    async def _connect(self) -> _Connection:
        return await asyncio.open_connection(self._host, self._port)


async def _body(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """The chunks of a body (RFC 9112, section 7.1)."""
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
