"""The agent's listening socket."""

from __future__ import annotations

import asyncio
import socket

import pytest

from isthmus.edge.server import listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_piece_of_an_answer_does_not_wait_for_the_one_before(host: str) -> None:
    """Otherwise Nagle's algorithm and a delayed acknowledgement add 40 ms to a connection's."""
    without_delay = asyncio.get_running_loop().create_future()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        without_delay.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    sock = listen(host, 0)
    async with await asyncio.start_server(accepted, sock=sock):
        _, writer = await asyncio.open_connection(host, sock.getsockname()[1])
        assert await without_delay == 1
        writer.close()
        await writer.wait_closed()
