"""A fake upstream for tests, ours and yours: OpenAI's protocol on loopback, with faults on demand.

async with ScriptedUpstream(faults=[Fault("reset", after_tokens=2)]) as upstream:
    pool = UpstreamPool(BackendConfig(kind="openai", url=upstream.url, model="m"))
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

WORDS = ("The", " sea", " is", " wide", ".\n\n", "It", " is", " deep", ".")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one answer."""

    kind: Literal["status", "reset", "end", "half", "hang", "error"]
    """An HTTP status; a reset connection; one that ends in order; half an event and a reset;
    silence; an error within the stream."""
    after_tokens: int | None = None
    """Behind so many tokens; none: before the headers."""
    status: int = 503


class ScriptedUpstream:
    """Says `words`, one a token, and goes on with what was begun, as vLLM's server does.

    Every answer takes one of `faults`, in order; behind the last one all goes well.
    """

    def __init__(
        self,
        words: Sequence[str] = WORDS,
        *,
        faults: Sequence[Fault | None] = (),
        is_vllm: bool = True,
        delay_s: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.words = tuple(words)
        self.faults = list(faults)
        self.is_vllm = is_vllm
        self.delay_s = delay_s
        self._tls = tls
        self.healthy = True
        self.queued = 0
        """What its metrics tell of waiting requests."""
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        """The heads of requests for answers."""
        self.url = ""
        self.port = 0
        self.running = 0
        self.connected = 0
        """Connections that were made to it."""
        self.metrics_told = 0
        """How often it was asked for its metrics."""
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[Any]] = {}

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.die()

    async def listen(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Serve; `port` 0 is any free one."""
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://{host}:{self.port}/v1"

    async def die(self) -> None:
        """Close everything at once: connections are refused from now on."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer, task in list(self._connections.items()):
                _reset(writer)
                task.cancel()
            await asyncio.gather(*self._connections.values(), return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[writer] = task
        self.connected += 1
        try:
            # Also of a cancellation, which is `die`: asyncio's server would log it.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._request(reader, writer):
                    pass
        finally:
            del self._connections[writer]
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether there may be another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = (line.partition(":") for line in head.splitlines()[1:])
        fields = {name.strip().lower(): value.strip() for name, _, value in lines}
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        path = head.split()[1]
        if path.endswith("/chat/completions"):
            self.heads.append(head)
            self.bodies.append(json.loads(body))
            self.running += 1
            try:
                return await self._answer(self.bodies[-1], reader, writer)
            finally:
                self.running -= 1
        if not self.healthy:
            writer.write(_plain(503, b"{}"))
        elif path == "/metrics":
            self.metrics_told += 1
            told = f"vllm:num_requests_running {self.running}\nvllm:num_requests_waiting "
            writer.write(_plain(200, f"{told}{self.queued}\n".encode()))
        else:
            owner = "vllm" if self.is_vllm else "somebody"
            one = {"id": "m", "max_model_len": 2048, "owned_by": owner}
            writer.write(_plain(200, json.dumps({"data": [one]}).encode()))
        return True

    async def _answer(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and fault.after_tokens is None:
            return await self._fails(fault, reader, writer)
        messages = body["messages"]
        said = messages[-1]["content"] if body.get("continue_final_message") else ""
        prompt_tokens = sum(len(str(message["content"]).split()) for message in messages)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        self._say(writer, {"role": "assistant", "content": ""}, (prompt_tokens, 0))
        rest = self._rest(said)[: body.get("max_tokens")]
        for at, word in enumerate((*rest, None)):
            if fault is not None and fault.after_tokens == at:
                await writer.drain()
                return await self._fails(fault, reader, writer)
            if word is not None:
                self._say(writer, {"content": word}, (prompt_tokens, at + 1))
            await writer.drain()
            await asyncio.sleep(self.delay_s)
        finish = "length" if len(rest) < len(self._rest(said)) else "stop"
        self._say(writer, {}, (prompt_tokens, len(rest)), finish)
        if fault is not None:
            await writer.drain()
            return await self._fails(fault, reader, writer)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(rest)}
        writer.write(_event({"choices": [], "usage": usage}))
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        return True

    def _say(
        self,
        writer: asyncio.StreamWriter,
        delta: dict[str, Any],
        usage: tuple[int, int],
        finish: str | None = None,
    ) -> None:
        data: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        if self.is_vllm:
            data["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))
        writer.write(_event(data))

    def _rest(self, said: str) -> tuple[str, ...]:
        """The words behind `said`, which may lack the spaces at its end, as templates cut them."""
        for at in range(len(self.words) + 1):
            before = "".join(self.words[:at])
            if before == said:
                return self.words[at:]
            if before.rstrip() == said and at:
                last = self.words[at - 1]
                return (last[len(last.rstrip()) :], *self.words[at:])
        return (f"<not a part of the script: {said!r}>",)

    async def _fails(
        self, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        match fault.kind:
            case "status":
                writer.write(_plain(fault.status, b'{"error": {"message": "no"}}'))
                return True
            case "hang":
                await reader.read()  # until the other side gives up
            case "error":
                writer.write(_event({"error": {"message": "no", "code": 500}}))
                await writer.drain()
            case "half":
                writer.write(_event({"choices": [{"delta": {"content": " never"}}]})[:-20])
                await writer.drain()
                # Long enough for it to be read before the reset discards it.
                await asyncio.sleep(0.01)
                _reset(writer)
            case "reset":
                await asyncio.sleep(0.01)
                _reset(writer)
            case "end":
                pass
        return False


def _event(data: dict[str, Any]) -> bytes:
    return _chunk(f"data: {json.dumps(data)}\n\n".encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _plain(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nretry-after: 1\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without the usual goodbye: the other side gets a reset."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
