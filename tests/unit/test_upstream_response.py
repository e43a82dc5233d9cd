"""Responses of upstreams, whatever way their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cloud.upstreams.response import Response
from isthmus.core.errors import Unavailable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Pieces:
    """A source that has these bytes, and then ends."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [piece for piece in pieces if piece]

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def wait_at_most(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


async def read(*pieces: bytes) -> tuple[Response, bytes, bool]:
    """The response, its body, and whether its connection may be used again."""
    again: list[bool] = []
    response = await Response.read_from(Pieces(*pieces), again.append)
    try:
        body = await response.read_all(1 << 20)
    finally:
        response.close()
    return response, body, again[0]


WHOLE = CHUNKED + b"5\r\nhello\r\nA;x=1\r\n, my world\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_chunks_are_put_together_however_the_bytes_are_cut(size: int) -> None:
    pieces = [WHOLE[i : i + size] for i in range(0, len(WHOLE), size)]
    response, body, again = await read(*pieces)
    assert (response.status, body, again) == (200, b"hello, my world", True)
    assert response.headers["content-type"] == "text/event-stream"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
async def test_every_chunked_body_comes_back(chunks: list[bytes], data: st.DataObject) -> None:
    coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    raw = CHUNKED + coded + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    _, body, again = await read(*pieces)
    assert body == b"".join(chunks)
    assert again


async def test_a_read_gives_all_the_chunks_that_have_come() -> None:
    response = await Response.read_from(Pieces(WHOLE), lambda again: None)
    assert await response.read() == b"hello, my world"


@pytest.mark.parametrize(
    ("raw", "body", "again"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
        (HEAD + b"Content-Length: 0\r\n\r\n", b"", True),
        (HEAD + b"Content-Length: 3\r\n\r\nabcd", b"abc", False),
        (HEAD + b"Connection: Close\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (HEAD + b"\r\nabc until the end", b"abc until the end", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", b"", True),
        (WHOLE + b"HTTP/1.1 200 OK\r\n", b"hello, my world", False),
    ],
)
async def test_a_body_ends_where_its_head_says(raw: bytes, body: bytes, again: bool) -> None:
    assert (await read(raw))[1:] == (body, again)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        HEAD + b"Content-Length: -3\r\n\r\nabc",
        HEAD + b"Content-Length: 4\r\n\r\nabc",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhellooo\r\n0\r\n\r\n",
        CHUNKED + b"x\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"1" * 5_000,
    ],
)
async def test_a_response_that_is_none_or_breaks_off_is_never_taken_for_a_whole_one(
    raw: bytes,
) -> None:
    for pieces in ([raw], [raw[i : i + 9] for i in range(0, len(raw), 9)]):
        with pytest.raises(Unavailable):
            await read(*pieces)
