"""HTTP/1.1 as a client of streams: what has arrived is read at once, however it was cut.

A general client hands on one chunk of the transfer coding at a time, and an upstream sends a token
a chunk. Here one read takes all that waits in the socket: a busy gateway does less for each token,
not more. Only what upstreams send is understood (RFC 9112): no upgrades, no pipelining, no content
codings. Every failure is `Unavailable`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from isthmus.cloud.upstreams.response import Response
from isthmus.core.errors import Unavailable

_MAX_WAITING_BYTES: Final = 1024 * 1024
_MAX_IDLE: Final = 32
_MAX_IDLE_S: Final = 4.0
"""Uvicorn, and so vLLM, closes a connection that was idle for 5 s."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to connect to."""

    address: str
    """A name or an IP address."""
    port: int
    host: str
    """What the `Host` field says."""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """Whose certificate is expected."""


class Connections:
    """The connections to one origin: new ones as they are needed, used again when they are idle."""

    def __init__(self, origin: Origin, *, connect_s: float, headers: Mapping[str, str]) -> None:
        fields = {"host": origin.host, "accept-encoding": "identity"} | dict(headers)
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._origin = origin
        self._connect_s = connect_s
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._connecting: set[asyncio.Timeout] = set()
        self._closed = False

    async def ask(self, method: str, path: str, body: bytes, *, within_s: float) -> Response:
        """The response's head; it, and each later read, may be waited for `within_s`."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}content-length: {len(body)}\r\n\r\n"
        connection = self._rested() or await self._connected()
        self._busy.add(connection)
        try:
            connection.send(head.encode("latin-1") + body, within_s)
            return await Response.read_from(
                connection, lambda again: self._released(connection, again)
            )
        except BaseException:
            self._released(connection, again=False)
            raise

    def cut(self) -> None:
        """Give up whatever is waited for now."""
        now_s = asyncio.get_running_loop().time()
        for scope in self._connecting:
            if not scope.expired():
                scope.reschedule(now_s)
        for connection in list(self._busy):
            if connection.waiting:
                connection.give_up("the upstream is gone")

    def close(self) -> None:
        """Close every connection. Safe to call twice."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.give_up("the upstream is closed")
        self._idle.clear()

    def _rested(self) -> _Connection | None:
        """An idle connection that its other end has not closed, as far as anybody knows."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_s < _MAX_IDLE_S:
                return connection
            connection.abort()
        return None

    def _released(self, connection: _Connection, again: bool) -> None:
        self._busy.discard(connection)
        connection.rest()
        if again and connection.usable and not self._closed and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _connected(self) -> _Connection:
        if self._closed:
            raise Unavailable("the upstream is closed")
        origin = self._origin
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s) as scope:
                self._connecting.add(scope)
                try:
                    _, connection = await loop.create_connection(
                        _Connection,
                        origin.address,
                        origin.port,
                        ssl=origin.tls,
                        server_hostname=origin.server_name if origin.tls is not None else None,
                    )
                finally:
                    self._connecting.discard(scope)
        except TimeoutError:
            raise Unavailable("the upstream takes no connection in time") from None
        except OSError as error:
            # Without its text, which may hold a resolved address.
            kind = type(error).__name__
            raise Unavailable(f"the upstream cannot be reached ({kind})") from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection: bytes as they come, and one waiter for them at most."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._bytes = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._why: str | None = None
        self._ended = False
        self._paused = False
        self._limit_s = 0.0
        self._since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Whether it may take another request."""
        transport = self._transport
        return not (self._ended or self._bytes or transport is None or transport.is_closing())

    @property
    def idle_s(self) -> float:
        """For how long nothing was expected of it."""
        return self._loop.time() - self._since_s

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for bytes."""
        return self._waiter is not None

    def send(self, message: bytes, within_s: float) -> None:
        """Write a request; each wait from now on may take so long."""
        self._limit_s = within_s
        self._since_s = self._loop.time()
        # One timer a response, not one a read: it looks when it fires, and waits for the rest.
        self._timer = self._loop.call_later(within_s, self._look)
        if self._transport is not None:
            self._transport.write(message)

    def wait_at_most(self, seconds: float) -> None:
        """Change how long a wait may take."""
        if seconds != self._limit_s:
            self._limit_s = seconds
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(seconds, self._look)

    async def read(self) -> bytes:
        """All that has come; empty at the end. Raises `Unavailable` when it broke."""
        if not self._bytes and not self._ended:
            self._since_s = self._loop.time()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._bytes:
            data = bytes(self._bytes)
            self._bytes.clear()
            if self._paused and self._transport is not None:
                self._paused = False
                self._transport.resume_reading()
            return data
        if self._why is not None:
            raise Unavailable(self._why)
        return b""

    def rest(self) -> None:
        """Nothing is expected until the next request."""
        self._since_s = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        """Close it at once."""
        self.rest()
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def give_up(self, why: str) -> None:
        """Close it; whoever waits is told why."""
        if not self._ended:
            self._why = why
        self.abort()
        self._wake()

    def _look(self) -> None:
        left_s = self._since_s + self._limit_s - self._loop.time()
        if self._waiter is None:
            left_s = self._limit_s
        elif left_s <= 0:
            self.give_up("the upstream fell silent")
            return
        self._timer = self._loop.call_later(max(left_s, 0.001), self._look)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """More bytes."""
        self._bytes += data
        if len(self._bytes) > _MAX_WAITING_BYTES and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Ended, in order or not."""
        if not self._ended:
            self._ended = True
            if error is not None:
                self._why = f"the connection to the upstream broke ({type(error).__name__})"
        self._wake()
