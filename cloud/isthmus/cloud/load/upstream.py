"""The scripted backend as an OpenAI-compatible upstream: HTTP/1.1, streamed answers, nothing else.

`python -m isthmus.cloud.load.upstream OPTIONS [PORT]` prints its address as JSON; OPTIONS are the
scripted backend's, in JSON. It goes on from a last message of the assistant, as vLLM does with
`continue_final_message`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.backends.scripted import CountingBackend
from isthmus.cloud.load.script import mark_in, prompt_of
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import InvalidRequest
from isthmus.core.events import Delta, Finished

_JSON = b"application/json"
_MODELS = {
    "object": "list",
    "data": [{"id": "scripted", "object": "model", "owned_by": "vllm", "max_model_len": 1 << 20}],
}


class Upstream:
    """Answers `/v1/chat/completions` (streamed) and `/v1/models` on loopback."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of the scripted backend."""
        self._backend = CountingBackend(
            BackendConfig(kind="scripted", model="scripted", options=options)
        )
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self, port: int = 0) -> None:
        """Listen; `url` is then what a client takes as its base."""
        await self._backend.start()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def close(self) -> None:
        """Stop listening and break what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._backend.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until its client leaves or the upstream closes."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                found = re.search(r"content-length: *(\d+)", head)
                content = await reader.readexactly(int(found[1]) if found else 0)
                if head.split(" ")[1] not in {"/v1/chat/completions", "/v1/models"}:
                    _whole(writer, 404, {"error": {"message": "there is nothing here"}})
                elif head.startswith("post"):
                    await self._answer_unless_left(json.loads(content), reader, writer)
                else:
                    _whole(writer, 200, _MODELS)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # there is nobody to tell
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer_unless_left(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer, and stop at once when the client goes away, which is an `IncompleteReadError`."""
        gone = asyncio.ensure_future(reader.readexactly(1))
        told = asyncio.ensure_future(self._answer(body, writer))
        try:
            await asyncio.wait({gone, told}, return_when=asyncio.FIRST_COMPLETED)
            (told if told.done() else gone).result()
        finally:
            gone.cancel()
            told.cancel()
            await asyncio.gather(gone, told, return_exceptions=True)

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        events = self._backend.generate(_request(body))
        async with (
            contextlib.aclosing(events),
            contextlib.aclosing(_chunks(events, body)) as chunks,
        ):
            try:
                first = await anext(chunks)
            except InvalidRequest as error:
                _whole(writer, 400, {"error": {"message": error.message, "code": error.kind}})
                return
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n" + _chunk(first)
            )
            async for chunk in chunks:
                writer.write(_chunk(chunk))
                await writer.drain()
        writer.write(_chunk("[DONE]") + b"0\r\n\r\n")


def _request(body: dict[str, Any]) -> ChatRequest:
    """The scripted backend's request for an OpenAI one."""
    turns = [(turn["role"], _text(turn["content"])) for turn in body["messages"]]
    spoken = next((text for role, text in reversed(turns) if role == "user"), "")
    role, last = turns[-1]
    return ChatRequest(
        "upstream",
        prompt_of(mark_in(spoken)),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        answer_so_far=last if role == "assistant" else "",
    )


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


async def _chunks(events: AsyncIterator[Any], body: dict[str, Any]) -> AsyncGenerator[str, None]:
    """The data of each server-sent event."""
    usage: dict[str, int] | None = None
    async for event in events:
        choice: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": None}
        if isinstance(event, Delta):
            choice["delta"] = {"content": event.text}
        elif isinstance(event, Finished):
            choice["finish_reason"] = event.reason.value
            prompt, written = event.usage.prompt_tokens, event.usage.completion_tokens
            usage = {
                "prompt_tokens": prompt,
                "completion_tokens": written,
                "total_tokens": prompt + written,
            }
        else:
            choice["delta"] = {"role": "assistant", "content": ""}
        yield _data([choice])
    if usage is not None and (body.get("stream_options") or {}).get("include_usage"):
        yield _data([], usage=usage)


def _data(choices: list[dict[str, Any]], **more: Any) -> str:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0}
    return json.dumps(chunk | {"model": "scripted", "choices": choices} | more)


def _chunk(data: str) -> bytes:
    line = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(line), line)


def _whole(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    head = b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (status, _JSON, len(content)) + content)


async def _serve(options: dict[str, Any], port: int) -> None:
    upstream = Upstream(**options)
    await upstream.start(port)
    sys.stdout.write(json.dumps({"url": upstream.url}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.add_argument("options", type=json.loads, help="the scripted backend's, as JSON")
    parser.add_argument("port", type=int, nargs="?", default=0, help="0: any free one")
    given = parser.parse_args()
    asyncio.run(_serve(given.options, given.port))
