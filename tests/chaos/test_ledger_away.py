"""A PostgreSQL that goes away under load, or takes connections and says nothing: two gateways end
what they cannot note, refuse what is new with advice when to come back, say that they are not
ready, and go on by themselves when it is back. Nothing is lost and nothing is charged twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from chaos_counts import count
from cloud_ledgers import postgres_database
from isthmus.core import wire
from isthmus.core.errors import IsthmusError
from ledger_devices import Device, assert_sound, check, check_counters, reconcile
from ledger_gateways import Gateways
from postgres_server import hanging, stopped

pytestmark = [pytest.mark.chaos, pytest.mark.postgres]

AWAY_S = count(4, 10)
ARRIVALS_PER_S = 15
REFUSALS = 10
"""At least so many requests of each gateway are refused before the database comes back."""
PATIENCE_S = 150
_RETRY_S = 0.5


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)


class Load:
    """Devices that come and come; each asks until it has its answer, here or there."""

    def __init__(self, addresses: list[str]) -> None:
        self.channels = [grpc.aio.insecure_channel(address) for address in addresses]
        self.devices: list[Device] = []
        self.refused = [0] * len(addresses)
        """Requests that a gateway sent away before their first token."""
        self.cut_off = 0
        """Answers that were ended after it."""
        self._answering: list[asyncio.Task[None]] = []
        self._arriving = asyncio.create_task(self._arrive())

    async def _arrive(self) -> None:
        while True:
            number = len(self.devices)
            device = Device(f"m{number}", 20 + number % 380)
            self.devices.append(device)
            self._answering.append(asyncio.create_task(self._follow(device, number)))
            await asyncio.sleep(1 / ARRIVALS_PER_S)

    async def _follow(self, device: Device, number: int) -> None:
        while not device.whole:
            at = number % len(self.channels)
            attempts = len(device.refusals)
            await device.ask(self.channels[at])
            if len(device.refusals) > attempts:
                if device.text:
                    self.cut_off += 1
                else:
                    self.refused[at] += 1
                number += 1
                await asyncio.sleep(_RETRY_S)

    async def healthy(self, *, serving: bool) -> None:
        """Return when all gateways say so."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(
            "SERVING" if serving else "NOT_SERVING"
        )
        for channel in self.channels:
            stub = health_pb2_grpc.HealthStub(channel)
            while (await stub.Check(health_pb2.HealthCheckRequest())).status != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def end(self) -> None:
        """No more arrivals; return when everybody has an answer."""
        self._arriving.cancel()
        await asyncio.gather(*self._answering)

    async def close(self) -> None:
        """Leave nothing behind."""
        self._arriving.cancel()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(self._arriving, *self._answering, return_exceptions=True)
        for channel in self.channels:
            await channel.close()


async def until(happened: Callable[[], bool]) -> None:
    """Return when it has; a test that waits in vain is ended by its own time."""
    while not happened():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


def is_whole(device: Device) -> bool:
    return device.whole


def ours(error: grpc.aio.AioRpcError) -> IsthmusError:
    """What a device reads of a refusal."""
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers.get("grpc-status-details-bin")
    assert isinstance(raw, bytes), error
    return wire.error_from_status(error.code().value[0], error.details() or "", raw)


@pytest.mark.parametrize("away", [stopped, hanging])
async def test_requests_end_honestly_while_it_is_away_and_go_on_when_it_is_back(
    tmp_path: Path, away: Callable[[], AbstractContextManager[None]]
) -> None:
    with postgres_database() as url, ExitStack() as stack:
        gateways = Gateways(tmp_path, url, ledger={"wait_s": 1.0})
        stack.callback(gateways.close)
        await gateways.start()
        load = Load(gateways.addresses)
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await load.healthy(serving=True)
                await until(lambda: sum(map(is_whole, load.devices)) > 2 * ARRIVALS_PER_S)
                assert load.refused == [0, 0]
                with away():
                    began_s = time.monotonic()
                    await load.healthy(serving=False)
                    await until(lambda: min(load.refused) >= REFUSALS)
                    await asyncio.sleep(began_s + AWAY_S - time.monotonic())
                await load.healthy(serving=True)
                await asyncio.sleep(1.0)
                await load.end()
        finally:
            await load.close()

        assert_sound(load.devices)
        assert load.cut_off, "nobody was in the middle of an answer"
        refusals = [ours(error) for device in load.devices for error in device.refusals]
        assert {error.kind for error in refusals} <= {"unavailable", "overloaded"}
        assert all(getattr(error, "retry_after_s", None) for error in refusals)
        assert [gateways.stop(number) for number in range(2)] == [0, 0]
        # Nobody was killed: the gateways themselves wrote down all of it.
        check(url, load.devices, exactly=True)
        check_counters(url)
        assert "ERROR" not in gateways.said()


@pytest.mark.parametrize("away", [stopped, hanging])
async def test_where_it_is_wanted_requests_are_served_while_it_is_away(
    tmp_path: Path, away: Callable[[], AbstractContextManager[None]]
) -> None:
    serving = {"wait_s": 1.0, "when_away": "serve", "late_dir": str(tmp_path / "late")}
    with postgres_database() as url, ExitStack() as stack:
        gateways = Gateways(tmp_path, url, ledger=serving)
        stack.callback(gateways.close)
        await gateways.start()
        load = Load(gateways.addresses)
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await until(lambda: sum(map(is_whole, load.devices)) > 2 * ARRIVALS_PER_S)
                with away():
                    began_s, before = time.monotonic(), len(load.devices)
                    await asyncio.sleep(AWAY_S)
                    await until(lambda: sum(map(is_whole, load.devices[before:])) > ARRIVALS_PER_S)
                    away_s = time.monotonic() - began_s
                await load.end()
        finally:
            await load.close()
        assert away_s < 30
        assert_sound(load.devices)
        assert load.refused == [0, 0]
        assert load.cut_off == 0
        assert [gateways.stop(number) for number in range(2)] == [0, 0]
        # What was not brought in before they ended, the next one that starts brings in.
        await gateways.start()
        assert [gateways.stop(number) for number in range(2)] == [0, 0]
        check(url, load.devices, exactly=True)
        check_counters(url)
        assert "ERROR" not in gateways.said()
    assert list((tmp_path / "late").iterdir()) == []


async def test_a_gateway_that_is_asked_to_end_does_so_while_the_database_hangs(
    tmp_path: Path,
) -> None:
    with postgres_database() as url, ExitStack() as stack:
        gateways = Gateways(tmp_path, url, count=1, ledger={"wait_s": 1.0})
        stack.callback(gateways.close)
        await gateways.start()
        load = Load(gateways.addresses)
        try:
            await until(lambda: any(one.text for one in load.devices))
            with hanging():
                await until(lambda: load.refused[0] > 0)
                status = await asyncio.wait_for(asyncio.to_thread(gateways.stop, 0), PATIENCE_S)
        finally:
            await load.close()
        assert status == 0
        await reconcile(url, load.devices)
