"""The chaos proxy in front of an echo on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from isthmus.cloud.load.chaos import ChaosProxy, Faults
from isthmus.core.addresses import split


@contextlib.asynccontextmanager
async def echo(greeting: bytes = b"") -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(greeting)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def through(
    proxy: ChaosProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*split(proxy.address))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_without_faults_bytes_pass_and_the_end_passes_too() -> None:
    data = bytes(range(256)) * 4_000
    async with echo() as address, ChaosProxy(address) as proxy, through(proxy) as (reader, writer):
        writer.write(data)
        writer.write_eof()
        assert await reader.read(-1) == data


async def test_latency_comes_in_each_direction_and_does_not_add_up() -> None:
    async with echo() as address, ChaosProxy(address) as proxy, through(proxy) as (reader, writer):
        proxy.faults = Faults(latency_s=0.1, jitter_s=0.01)
        began_s = time.monotonic()
        for number in range(50):
            writer.write(bytes([number]) * 1_000)
            await asyncio.sleep(0)
        assert await reader.readexactly(50_000) == b"".join(
            bytes([number]) * 1_000 for number in range(50)
        )
        assert 0.2 <= time.monotonic() - began_s < 50 * 0.1


async def test_bandwidth_is_a_limit() -> None:
    async with echo() as address, ChaosProxy(address) as proxy, through(proxy) as (reader, writer):
        proxy.faults = Faults(bytes_per_s=1_000_000)
        began_s = time.monotonic()
        writer.write(bytes(200_000))
        await reader.readexactly(200_000)
        assert time.monotonic() - began_s > 0.15


async def test_a_reset_breaks_the_connection_at_both_ends() -> None:
    async with echo() as address, ChaosProxy(address) as proxy, through(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        async with through(proxy) as (fresh, writing):
            writing.write(b"y")
            assert await fresh.readexactly(1) == b"y"
        assert proxy.connections == 2


async def test_half_open_swallows_everything_until_it_is_over() -> None:
    async with echo() as address, ChaosProxy(address) as proxy, through(proxy) as (reader, writer):
        proxy.faults = Faults(half_open=True)
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        proxy.faults = Faults()
        assert await reader.readexactly(1) == b"x"


async def test_frozen_connections_stay_silent_and_new_ones_pass() -> None:
    async with echo() as address, ChaosProxy(address) as proxy, through(proxy) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert proxy.freeze() == 1
        writer.write(b"y")
        async with through(proxy) as (fresh, writing):
            writing.write(b"z")
            assert await fresh.readexactly(1) == b"z"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.05)


async def test_refused_connections_are_reset() -> None:
    async with echo() as address, ChaosProxy(address) as proxy:
        proxy.faults = Faults(refuse=True)
        async with through(proxy) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)


async def test_a_new_connection_goes_to_a_target_that_accepts() -> None:
    async with echo(b"a") as first, echo(b"b") as second, ChaosProxy(first, second) as proxy:
        proxy.targets.append("127.0.0.1:1")
        met = set()
        for _ in range(6):
            async with through(proxy) as (reader, _):
                met.add(await reader.readexactly(1))
        assert met == {b"a", b"b"}
