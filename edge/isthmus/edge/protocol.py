"""uvicorn's HTTP/1.1, but what it answers itself has OpenAI's form and no head is waited for long.

uvicorn refuses a malformed head in plain text, and has no time-out before the first request: half a
head would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from isthmus.edge.answers import encode, error_body


def http_protocol(head_timeout_s: float) -> type[H11Protocol]:
    """The protocol of a server that gives the head of a request so long to arrive."""

    class Protocol(_Protocol):
        timeout_s = head_timeout_s

    return Protocol


class _Protocol(H11Protocol):
    timeout_s: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_began = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head_began = True
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        unread, _ = self.conn.trailing_data
        if unread:  # the next head began before this answer ended
            self._head_began = True
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse a head that is no HTTP. Neither `msg` nor the answer quotes it."""
        self._refuse(400, "the request is not valid HTTP", code="invalid_request")

    def _watch_head(self) -> None:
        """Run the timer exactly while a head is awaited. Between requests uvicorn has its own."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget_head()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.timeout_s, self._give_up)

    def _forget_head(self) -> None:
        self._head_began = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._head_began:
            message = f"the head of the request did not arrive within {self.timeout_s:g} s"
            self._refuse(408, message, code="request_timeout")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, *, code: str) -> None:
        body = encode(error_body(message, param=None, code=code))
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
