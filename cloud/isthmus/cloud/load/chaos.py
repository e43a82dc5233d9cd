"""A TCP proxy that misbehaves on demand: latency, bandwidth, resets, half-open connections.

It stands between clients and one or several gateways, as a service address would; a new connection
goes to the next gateway that accepts it. For tests of whatever speaks over TCP::

    async with ChaosProxy("127.0.0.1:50051") as proxy:
        client = ...(proxy.address)
        proxy.faults = Faults(latency_s=0.1, bytes_per_s=100_000)
        proxy.reset()
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from typing import Self

from isthmus.core.addresses import split

_CHUNK_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Faults:
    """How every connection behaves; the default does nothing."""

    latency_s: float = 0.0
    """Added one way, in each direction."""
    jitter_s: float = 0.0
    """At most this much more, at random; the order of the bytes stays."""
    bytes_per_s: float = 0.0
    """The most in each direction of a connection; 0: no limit."""
    half_open: bool = False
    """Nothing passes any more, and nobody is told: as behind a router that forgot."""
    refuse: bool = False
    """New connections are reset at once."""


class ChaosProxy:
    """Listens on a free port of loopback between `async with` and its end."""

    def __init__(self, *targets: str, seed: int = 0) -> None:
        """`targets` are `host:port`."""
        self.targets = list(targets)
        """May be changed at any time; it counts for new connections."""
        self.passing = asyncio.Event()
        self.faults = Faults()
        self.connections = 0
        """How many were accepted so far."""
        self._chance = random.Random(seed)
        self._next = 0
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    @property
    def faults(self) -> Faults:
        """May be changed at any time; it counts for all connections."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if faults.half_open:
            self.passing.clear()
        else:
            self.passing.set()

    @property
    def address(self) -> str:
        """Where clients find it."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [connection.task for connection in self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def reset(self, share: float = 1.0) -> int:
        """Break each open connection with this chance, with a TCP reset to both ends; how many."""
        chosen = [one for one in self._open if self._chance.random() < share]
        for connection in chosen:
            connection.reset()
        return len(chosen)

    def freeze(self) -> int:
        """Leave the connections that are open now half-open for ever; how many. New ones pass."""
        for connection in self._open:
            connection.passing = asyncio.Event()
        return len(self._open)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self, task, writer)
        self._open.add(connection)
        try:
            if self.faults.refuse:
                connection.reset()
                return
            await connection.carry(reader)
        except (OSError, asyncio.CancelledError):
            connection.reset()
        finally:
            self._open.discard(connection)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next target that accepts. Raises `OSError` when none does."""
        error: OSError = ConnectionRefusedError("no target")
        for _ in range(len(self.targets)):
            self._next = (self._next + 1) % len(self.targets)
            try:
                return await asyncio.open_connection(*split(self.targets[self._next]))
            except OSError as refused:
                error = refused
        raise error

    def delay_s(self) -> float:
        """For the next chunk."""
        return self.faults.latency_s + self._chance.random() * self.faults.jitter_s


class _Connection:
    """One client's connection and its twin to a target."""

    def __init__(
        self, proxy: ChaosProxy, task: asyncio.Task[None], writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._writers = [writer]
        self.passing = proxy.passing
        self.task = task

    async def carry(self, reader: asyncio.StreamReader) -> None:
        """Carry bytes both ways until both directions have ended."""
        far_reader, far_writer = await self._proxy.dial()
        self._writers.append(far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._one_way(reader, far_writer))
                both.create_task(self._one_way(far_reader, self._writers[0]))
        except* OSError:
            self.reset()
        finally:
            for writer in self._writers:
                writer.close()

    def reset(self) -> None:
        """Break it without a word: what is closed with lingering time 0 is reset."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and not writer.is_closing():
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read at once and write when it is due: latency does not make the way narrower."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        async with asyncio.TaskGroup() as pair:
            pair.create_task(self._write(due, writer))
            now = asyncio.get_running_loop().time
            while chunk := await reader.read(_CHUNK_BYTES):
                await due.put((now() + self._proxy.delay_s(), chunk))
            await due.put((now() + self._proxy.delay_s(), b""))

    async def _write(
        self, due: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        now = asyncio.get_running_loop().time
        free_s = 0.0
        while True:
            due_s, chunk = await due.get()
            await asyncio.sleep(max(due_s, free_s) - now())
            await self.passing.wait()
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()
            if self._proxy.faults.bytes_per_s:
                free_s = max(now(), free_s) + len(chunk) / self._proxy.faults.bytes_per_s
