"""Two gateways as processes behind one chaos proxy, and the devices that ask them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from isthmus.cli.gateway_process import Served, start_gateway
from isthmus.cloud.load.base import Order, Target
from isthmus.cloud.load.chaos import ChaosProxy
from isthmus.cloud.load.grpc_target import request_of
from isthmus.edge.remote import RemoteConfig, RemoteTier

DEVICES = 8
_NOTICED_S = 0.3


class Replicas:
    """Gateways with a scripted backend, each with a state folder and a journal of its own."""

    def __init__(self, folder: Path, count: int = 2, **settings: Any) -> None:
        self._folder = folder
        self._settings = settings
        self._running: list[Served] = []
        self.addresses: list[str] = []
        self.deaths = 0
        for number in range(count):
            (folder / str(number)).mkdir()
            served = self._start(number, "127.0.0.1:0")
            self._running.append(served)
            self.addresses.append(served.ready()["address"])

    def journal(self, number: int) -> Path:
        """What replica `number` said, over all its lives."""
        return self._folder / str(number) / "journal.jsonl"

    async def kill(self, number: int) -> None:
        """End one without a word, and start it again."""
        self._running[number].kill()
        await self._again(number)

    async def restart(self, number: int, proxy: ChaosProxy | None = None) -> None:
        """Ask one to end, wait until it has, and start it again.

        A `proxy` that is given hears of both a moment later, as a cluster's load balancer does.
        """
        self._running[number].terminate()
        if proxy is not None:
            await asyncio.sleep(_NOTICED_S)
            proxy.targets.remove(self.addresses[number])
        status = await asyncio.to_thread(self._running[number].wait)
        assert status == 0, self._running[number].last_words(20)
        await self._again(number)
        if proxy is not None:
            await asyncio.sleep(_NOTICED_S)
            proxy.targets.append(self.addresses[number])

    def close(self) -> None:
        """End all of them."""
        for served in self._running:
            served.terminate()
        for served in self._running:
            served.kill_after(10)

    async def _again(self, number: int) -> None:
        self.deaths += 1
        self._running[number] = self._start(number, self.addresses[number])
        await asyncio.to_thread(self._running[number].ready)

    def _start(self, number: int, listen: str) -> Served:
        options = {"tokens_per_s": 40.0, "journal": str(self.journal(number))}
        return start_gateway(
            self._folder / str(number),
            home=self._folder / str(number),
            listen=listen,
            backend={"kind": "scripted", "model": "scripted", "options": options},
            **self._settings,
        )


class TierTarget:
    """The tiers of devices as a target, in turns: clients that try again."""

    def __init__(self, tiers: Iterable[RemoteTier]) -> None:
        self._tiers = itertools.cycle(tiers)

    async def ask(self, order: Order) -> AsyncGenerator[str, None]:
        """One answer."""
        events = next(self._tiers).generate(request_of(order))
        try:
            async for event in events:
                if text := getattr(event, "text", ""):
                    yield text
        finally:
            await events.aclose()

    async def close(self) -> None:
        """Nothing: what was given is its owner's."""


@asynccontextmanager
async def devices(
    address: str, count: int = DEVICES, **config: Any
) -> AsyncIterator[tuple[Target, list[RemoteTier]]]:
    """Clients that try again, as the agent's are, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        tiers = [RemoteTier(RemoteConfig(address, **config)) for _ in range(count)]
        for tier in tiers:
            stack.push_async_callback(tier.close)
        yield TierTarget(tiers), tiers


@asynccontextmanager
async def service(
    folder: Path, **settings: Any
) -> AsyncIterator[tuple[Replicas, ChaosProxy, Target, list[RemoteTier]]]:
    """Replicas, the proxy before them, and devices that know the proxy's address alone."""
    replicas = Replicas(folder, **settings)
    try:
        async with (
            ChaosProxy(*replicas.addresses) as proxy,
            devices(proxy.address) as (target, tiers),
        ):
            yield replicas, proxy, target, tiers
    finally:
        await asyncio.to_thread(replicas.close)
