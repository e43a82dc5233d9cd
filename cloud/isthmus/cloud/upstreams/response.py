"""The responses of upstreams: a head, and a body that is read piece by piece (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from isthmus.core.errors import Unavailable

_MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_LINE_BYTES: Final = 4 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


class Source(Protocol):
    """Where the bytes come from."""

    async def read(self) -> bytes:
        """All that has come; empty at the end. Raises `Unavailable` when it broke."""
        ...

    def wait_at_most(self, seconds: float) -> None:
        """Change how long each further read may take."""
        ...


class Response:
    """A head that was read, and a body that is read piece by piece."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: Body,
        source: Source,
        released: Callable[[bool], None],
    ) -> None:
        self.status = status
        self.headers = headers
        """By their names in lower case; the last of several counts."""
        self._body = body
        self._source: Source | None = source
        self._released = released
        self._first = b""

    @classmethod
    async def read_from(cls, source: Source, released: Callable[[bool], None]) -> Response:
        """The next final response. Raises `Unavailable` when it is none.

        `released` is told when it is done with, and whether another request may follow it.
        """
        data = b""
        while True:
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                if len(data) > _MAX_HEAD_BYTES:
                    raise Unavailable("the upstream's response has too long a head")
                more = await source.read()
                if not more:
                    raise Unavailable("the upstream closed the connection without a response")
                data += more
                continue
            version, status, headers = _head(head)
            if status >= 200:
                break
            data = rest
        body = Body(version, status, headers)
        response = cls(status, headers, body, source, released)
        response._first = body.feed(rest)
        return response

    def wait_at_most(self, seconds: float) -> None:
        """Change how long each further read may take."""
        if self._source is not None:
            self._source.wait_at_most(seconds)

    @property
    def ended(self) -> bool:
        """Whether the whole body has come."""
        return self._body.ended

    async def read(self) -> bytes:
        """What there is of the body by now; empty at its end. Raises `Unavailable`."""
        data, self._first = self._first, b""
        while not data and not self._body.ended and self._source is not None:
            raw = await self._source.read()
            if not raw:
                self._body.end()
                break
            data = self._body.feed(raw)
        return data

    async def read_all(self, most: int) -> bytes:
        """The whole body, or its beginning when it has more bytes."""
        data = b""
        while len(data) <= most:
            piece = await self.read()
            if not piece:
                break
            data += piece
        return data

    def close(self) -> None:
        """Done with it: the connection is used again if the body was read to its end."""
        source, self._source = self._source, None
        if source is not None:
            self._released(self._body.ended and self._body.keeps_alive)


class Body:
    """Undoes the transfer coding of a body, as its bytes come."""

    def __init__(self, version: int, status: int, headers: Mapping[str, str]) -> None:
        self.ended = False
        self.keeps_alive = version == 1 and headers.get("connection", "").lower() != "close"
        self._rest = b""
        self._left: int | None = None
        self._open = 0
        """Bytes left of the chunk that has begun."""
        self._closing = False
        """Only the end of its line is left of it."""
        self._trailer = False
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if status in {204, 304}:
            self._left = 0
        elif not self._chunked and length is not None:
            if not (length.isascii() and length.isdigit()):
                raise Unavailable("the upstream's response has no proper length")
            self._left = int(length)
        elif not self._chunked:
            self.keeps_alive = False  # its end is the connection's
        self.ended = self._left == 0 and not self._chunked

    def feed(self, data: bytes) -> bytes:
        """What `data` holds of the body. Raises `Unavailable` for what is no such coding."""
        if self._chunked:
            return self._chunks(data)
        if self._left is None:
            return data
        self._left -= len(data)
        if self._left <= 0:
            self.ended = True
            # Bytes behind the body belong to nothing that was asked for.
            self.keeps_alive = self.keeps_alive and self._left == 0
            return data[: len(data) + self._left]
        return data

    def end(self) -> None:
        """The connection ended. Raises `Unavailable` when the body had not."""
        if self._chunked or self._left is not None:
            raise Unavailable("the upstream closed the connection within a response")
        self.ended = True

    def _chunks(self, data: bytes) -> bytes:
        data = self._rest + data if self._rest else data
        found: list[bytes] = []
        at = 0
        while not self.ended:
            if self._open:
                piece = data[at : at + self._open]
                if not piece:
                    break
                found.append(piece)
                at += len(piece)
                self._open -= len(piece)
                self._closing = not self._open
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if len(data) - at > _MAX_LINE_BYTES:
                    raise _uncut()
                break
            if self._closing:
                if line_end != at:
                    raise _uncut()
                self._closing = False
            elif self._trailer:
                self.ended = line_end == at
            else:
                size = _CHUNK_SIZE.fullmatch(data, at, line_end)
                if size is None:
                    raise _uncut()
                self._open = int(size[1], 16)
                self._trailer = not self._open
            at = line_end + 2
        self._rest = data[at:]
        if self.ended and self._rest:
            self.keeps_alive = False
        return found[0] if len(found) == 1 else b"".join(found)


def _uncut() -> Unavailable:
    return Unavailable("the upstream's response is not cut into chunks as it says")


def _head(raw: bytes) -> tuple[int, int, dict[str, str]]:
    """Minor version, status and fields."""
    line, *fields = raw.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(line)
    if status is None:
        raise Unavailable("the upstream's answer is no HTTP response")
    headers: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(b":")
        if not colon or not name or name != name.strip():
            raise Unavailable("the upstream's response has a head that cannot be read")
        headers[name.decode("latin-1").lower()] = value.strip(b" \t").decode("latin-1")
    return int(status[1]), int(status[2]), headers
