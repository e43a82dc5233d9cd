"""HTTP to one upstream: what has arrived is read at once, and a wait can be ended from outside.

The only module that imports aiohttp. Every failure is `Unavailable`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from isthmus.core.errors import Unavailable

_KEPT_S: Final = 4.0
"""Uvicorn, and so vLLM, closes a connection that was idle for 5 s."""
_STALLED_S: Final = 1.0
_BUFFER_BYTES: Final = 256 * 1024
_HEADERS: Final = {"accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to connect to."""

    scheme: str
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
        self._origin = origin
        self._server_name = origin.server_name if origin.tls is not None else None
        self._heads: set[asyncio.Timeout] = set()
        self._responses: set[Response] = set()
        self._closed = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # Admission bounds the requests; a second, hidden queue here would only confuse.
                limit=0,
                keepalive_timeout=_KEPT_S,
                ssl=origin.tls if origin.tls is not None else True,
            ),
            headers={"host": origin.host, **_HEADERS, **headers},
            cookie_jar=aiohttp.DummyCookieJar(),
            # The waits are bounded one by one, below.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_BUFFER_BYTES,
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        within_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The response's head; it, and each later read, may be waited for `within_s`.

        `headers` go beside those of every request.
        """
        if self._closed:
            raise Unavailable("the upstream is closed")
        origin = self._origin
        host = f"[{origin.address}]" if ":" in origin.address else origin.address
        url = f"{origin.scheme}://{host}:{origin.port}{path}"
        try:
            async with asyncio.timeout(within_s) as scope:
                self._heads.add(scope)
                try:
                    answer = await self._session.request(
                        method,
                        url,
                        data=body or None,
                        headers=headers,
                        allow_redirects=False,
                        server_hostname=self._server_name,
                    )
                finally:
                    self._heads.discard(scope)
        except TimeoutError:
            raise Unavailable("the upstream fell silent") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Without its text, which may hold a resolved address.
            kind = type(error).__name__
            raise Unavailable(f"the upstream cannot be reached ({kind})") from error
        response = Response(answer, self._responses, within_s)
        self._responses.add(response)
        return response

    def cut(self) -> None:
        """Give up whatever is waited for now."""
        now_s = asyncio.get_running_loop().time()
        for scope in self._heads:
            if not scope.expired():
                scope.reschedule(now_s)
        for response in list(self._responses):
            if response.waiting:
                response.give_up("the upstream is gone")

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        self._closed = True
        for response in list(self._responses):
            response.give_up("the upstream is closed")
        await self._session.close()


class Response:
    """A head that was read, and a body that is read piece by piece."""

    def __init__(
        self, answer: aiohttp.ClientResponse, open_ones: set[Response], within_s: float
    ) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        """Their names are found in any case."""
        self.waiting = False
        """Whether somebody waits for bytes."""
        self._answer = answer
        self._open = open_ones
        self._loop = asyncio.get_running_loop()
        self._since_s = 0.0
        # One timer a response, not one a read: it looks when it fires, and waits for the rest.
        self._limit_s = within_s
        self._timer = self._loop.call_later(within_s, self._look)

    def wait_at_most(self, seconds: float) -> None:
        """Change how long each further read may take."""
        if seconds != self._limit_s:
            self._limit_s = seconds
            self._timer.cancel()
            self._timer = self._loop.call_later(seconds, self._look)

    async def read(self) -> bytes:
        """What there is of the body by now; empty at its end. Raises `Unavailable`."""
        self._since_s = self._loop.time()
        self.waiting = True
        try:
            return await self._answer.content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            # A RuntimeError is aiohttp's word for a connection that is gone.
            kind = type(error).__name__
            raise Unavailable(f"the connection to the upstream broke ({kind})") from error
        finally:
            self.waiting = False

    async def read_all(self, most: int) -> bytes:
        """The whole body, or its beginning when it has more bytes."""
        data = b""
        while len(data) <= most:
            piece = await self.read()
            if not piece:
                break
            data += piece
        return data

    def give_up(self, why: str) -> None:
        """Close it; whoever waits is told why."""
        self._answer.content.set_exception(Unavailable(why))
        self.close()

    def close(self) -> None:
        """Done with it: the connection is used again if the body was read to its end."""
        self._timer.cancel()
        self._open.discard(self)
        self._answer.close()

    def _look(self) -> None:
        now_s = self._loop.time()
        if now_s - self._timer.when() > _STALLED_S:
            # This process itself stood still: what came meanwhile has not been read yet.
            self._since_s = now_s
        left_s = self._since_s + self._limit_s - now_s if self.waiting else self._limit_s
        if left_s <= 0:
            self.give_up("the upstream fell silent")
        else:
            self._timer = self._loop.call_later(max(left_s, 0.001), self._look)
