"""The fleet's two calls: what devices report is counted once, and each is handed its bundle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from isthmus.cloud.fleet.config import FleetConfig
from isthmus.cloud.fleet.metrics import FleetMetrics, FleetSnapshot
from isthmus.cloud.fleet.reports import acknowledged_of, outcomes_of
from isthmus.cloud.fleet.snapshot import snapshot
from isthmus.cloud.fleet.store import DeviceRow, FleetStore, Published, handed
from isthmus.cloud.identity.base import Caller
from isthmus.cloud.ledger.base import Ledger, Reconciled
from isthmus.core.bundle import SignedBundle
from isthmus.core.errors import IsthmusError, Overloaded, Unavailable
from isthmus.core.wire.fleet import BUNDLE_STATES, signed_to_wire
from isthmus.v1 import fleet_pb2, gateway_pb2

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_FRESH_S: Final = 1.0
"""How old the list of bundles may be that a device is served from."""
_KEPT_BUNDLES: Final = 4
_DAY_S: Final = 86_400.0
_MAX_TEXT: Final = 64
_MOST_WAITING: Final = 500
"""Calls that may wait for the database; nobody is in a hurry, and each comes back by itself."""
_COME_BACK_S: Final = 30.0
_PATIENCE_S: Final = 10.0
"""The longest that a call waits for the database."""
_STATES: Final = {number: state.value for state, number in BUNDLE_STATES.items()}


@dataclass(frozen=True, slots=True)
class _Known:
    """The bundles of a tenant, as they were a moment ago."""

    bundles: tuple[Published, ...]
    read_at_s: float


class Fleet:
    """For one event loop; the database has a thread of its own."""

    def __init__(
        self,
        config: FleetConfig,
        engine: sa.Engine,
        ledger: Ledger,
        metrics: FleetMetrics,
    ) -> None:
        self._config = config
        self._store = FleetStore(engine)
        self._ledger = ledger
        self._metrics = metrics
        self.snapshot = FleetSnapshot()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="isthmus-fleet")
        self._waiting = 0
        self._known: dict[str, _Known] = {}
        self._payloads: dict[tuple[str, int], SignedBundle] = {}
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database. Raises `ConfigError` or `Unavailable`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.open)
        self._watching = asyncio.create_task(self._watch(), name="isthmus-fleet-snapshot")

    async def close(self) -> None:
        """Let the database go. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
            with contextlib.suppress(IsthmusError):
                await self._in_thread(self._store.close)
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def report(
        self, caller: Caller, message: gateway_pb2.ReportOutcomesRequest
    ) -> gateway_pb2.ReportOutcomesResponse:
        """Count what is new, and tell the ledger what was received. Raises an `IsthmusError`.

        Whole or not at all: a batch with a row that cannot be is refused before anything counts.
        One that fails between its two halves may be sent again.
        """
        outcomes, acknowledged = outcomes_of(message), acknowledged_of(message)
        named = {one.request_id: one for one in message.outcomes}
        new = await self._in_thread(
            lambda: self._store.count_once(caller, [one.request_id for one in outcomes])
        )
        for outcome in outcomes:
            if outcome.request_id in new:
                unknown = len(named[outcome.request_id].reasons) - len(outcome.reasons)
                self._metrics.counted(outcome, unknown, caller.device_class)
        self._metrics.duplicates(len(message.outcomes) - len(new))
        result = Reconciled()
        if acknowledged:
            result = await self._ledger.reconcile(caller, acknowledged)
        await self._in_thread(lambda: self._store.reported(caller))
        return gateway_pb2.ReportOutcomesResponse(
            accepted_outcomes=len(message.outcomes),
            counted_outcomes=len(new),
            reconciled=result.settled,
        )

    async def sync(
        self, caller: Caller, message: fleet_pb2.SyncDeviceRequest
    ) -> fleet_pb2.SyncDeviceResponse:
        """Note what runs on the device, and hand it what should. Raises an `IsthmusError`."""
        await self._in_thread(lambda: self._store.synced(caller, _row(message)))
        response = fleet_pb2.SyncDeviceResponse(
            next_sync_ms=round(self._config.sync_interval_s * 1000)
        )
        published = await self._bundles(caller.tenant)
        meant = handed(published, caller.device, caller.device_class)
        # An older one would be refused: to go back, an operator publishes anew.
        if meant > max(message.sequence, message.tried_sequence):
            response.bundle.CopyFrom(signed_to_wire(await self._bundle(caller.tenant, meant)))
        return response

    async def _bundles(self, tenant: str) -> tuple[Published, ...]:
        known = self._known.get(tenant)
        if known is None or time.monotonic() - known.read_at_s > _FRESH_S:
            bundles = await self._in_thread(lambda: self._store.published(tenant))
            known = self._known[tenant] = _Known(bundles, time.monotonic())
        return known.bundles

    async def _bundle(self, tenant: str, sequence: int) -> SignedBundle:
        key = (tenant, sequence)
        bundle = self._payloads.get(key)
        if bundle is None:
            bundle = await self._in_thread(lambda: self._store.bundle(tenant, sequence))
            self._payloads[key] = bundle
            while len(self._payloads) > _KEPT_BUNDLES:
                del self._payloads[next(iter(self._payloads))]
        return bundle

    async def _watch(self) -> None:
        """Look at all devices again and again, and forget what is old once a day."""
        forget_at_s = time.monotonic()
        while True:
            with contextlib.suppress(IsthmusError):
                values = await self._in_thread(
                    lambda: snapshot(self._store, self._metrics.device_class, self._metrics.tenant)
                )
                self.snapshot.update(values)
                if time.monotonic() >= forget_at_s:
                    await self._in_thread(self._forget)
                    forget_at_s = time.monotonic() + _DAY_S
            await asyncio.sleep(self._config.snapshot_s)

    def _forget(self) -> None:
        self._store.forget_before(self._config.remember_days)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        if self._waiting >= _MOST_WAITING:
            raise Overloaded("the fleet's database is behind", retry_after_s=_COME_BACK_S)
        self._waiting += 1
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except TimeoutError:
            raise Unavailable(
                "the fleet's database is away or behind; try again", retry_after_s=_COME_BACK_S
            ) from None
        finally:
            self._waiting -= 1


def _row(message: fleet_pb2.SyncDeviceRequest) -> DeviceRow:
    status = message.status
    return DeviceRow(
        sequence=_counted(message.sequence),
        tried_sequence=_counted(message.tried_sequence),
        state=_STATES.get(message.state, ""),
        problem=_text(message.problem),
        shares=message.HasField("status"),
        software=_text(status.software),
        backend=_text(status.backend),
        battery=_band(fleet_pb2.BatteryBand, status.battery, "BATTERY_BAND_"),
        heat=_band(fleet_pb2.HeatBand, status.heat, "HEAT_BAND_"),
        offline_s=_counted(status.offline_s),
        dropped_rows=_counted(status.dropped_rows),
    )


def _text(text: str) -> str:
    """What a column of any database holds, and a terminal shows."""
    return "".join(one for one in text[:_MAX_TEXT] if one.isprintable())


def _counted(number: int) -> int:
    """A count that a column holds."""
    return min(number, (1 << 53) - 1)


def _band(bands: Any, number: int, prefix: str) -> str:
    """The name of a band; those that are not set, or not known here, are `unknown`."""
    if number == 0 or number not in bands.values():
        return "unknown"
    return str(bands.Name(number)).removeprefix(prefix).lower()
