"""The device as a member of a fleet: what is spooled of each request, who sends it, what comes in.

Nothing leaves without the consent to the cloud, nor when the device's own policy is `offline`,
whatever a bundle says: a bundle that says `offline` would otherwise be the last one to arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from isthmus.core import wire
from isthmus.core.bundle import PinnedKeys
from isthmus.core.decision import Target
from isthmus.core.watched import read_bytes
from isthmus.edge.config import EdgeConfig
from isthmus.edge.consent import Consent
from isthmus.edge.device import Device
from isthmus.edge.fleet.bundles import Bundles, Tuned
from isthmus.edge.fleet.held import HeldBundles
from isthmus.edge.fleet.link import FleetLink
from isthmus.edge.fleet.pauses import Pauses
from isthmus.edge.fleet.reporter import Reporter
from isthmus.edge.fleet.spool import SpoolRow, ledger_spool
from isthmus.edge.fleet.status import device_status, software
from isthmus.edge.fleet.syncer import Syncer
from isthmus.edge.metrics.fleet import FleetMetrics
from isthmus.edge.sensors import Sensors
from isthmus.edge.trail import Trail
from isthmus.router.presets import CloudUse
from isthmus.v1 import fleet_pb2

_LOADING_S: Final = 30.0
"""How long a model that is being loaded is waited for before the first call."""


class Joining(Tuned, Protocol):
    """What of the agent a member needs (`isthmus.edge.agent.Agent`)."""

    config: EdgeConfig
    consent: Consent
    device: Device
    sensors: Sensors


class Member:
    """One device of the fleet. For one event loop."""

    def __init__(
        self, agent: Joining, link: FleetLink, ledger_path: Path | None, metrics: FleetMetrics
    ) -> None:
        """`ledger_path`: where the spool lies; None: there is none. Raises `ConfigError`."""
        config = agent.config.fleet
        self._agent = agent
        self._reporter: Reporter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        if ledger_path is not None:
            self._reporter = Reporter(
                link,
                ledger_spool(ledger_path, max_rows=config.spool_rows, max_days=config.spool_days),
                may_send=self._may_contact,
                shares=lambda: agent.consent.shares,
                pauses=Pauses(config.report_interval_s),
                on_state=metrics.spooled,
            )
        self.bundles: Bundles | None = None
        if config.key_file is not None and ledger_path is not None:
            self.bundles = Bundles(
                agent,
                agent.config.router,
                PinnedKeys.from_pem(read_bytes(config.key_file, "fleet.key_file")),
                HeldBundles(ledger_path.parent / "fleet"),
                software=software(),
                on_change=metrics.holds,
            )
        self._syncer = Syncer(
            link,
            self.bundles,
            may_contact=self._has_something_to_say,
            status=self._status,
            pauses=Pauses(config.sync_interval_s),
        )
        metrics.watch(self._syncer.offline_s)

    async def start(self) -> None:
        """Use the bundle of before, and begin to sync and to report."""
        if self.bundles is not None:
            await self.bundles.start()
        self._tasks.append(asyncio.create_task(self._run(), name="isthmus-fleet"))

    async def _run(self) -> None:
        # So that the first word of the device tells what computes its answers.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._agent.device.wait(), _LOADING_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._syncer.run())
            if self._reporter is not None:
                group.create_task(self._reporter.run())

    async def close(self) -> None:
        """Stop; what was not sent waits in the spool."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.bundles is not None:
            await self.bundles.close()

    def spooled(self, trail: Trail) -> tuple[SpoolRow, ...]:
        """What is to be told of a request that has ended."""
        if not self._may_contact() or self._reporter is None:
            return ()
        rows = [SpoolRow(acknowledgement=one) for one in _acknowledged(trail)]
        if self._agent.consent.shares:
            outcome = wire.outcome_to_wire(trail.outcome()).SerializeToString()
            rows[:1] = [replace(rows[0], outcome=outcome) if rows else SpoolRow(outcome)]
        return tuple(rows)

    def _may_contact(self) -> bool:
        own = self._agent.config.router
        return self._agent.consent.granted and own.cloud_use is not CloudUse.NEVER

    def _has_something_to_say(self) -> bool:
        return self._may_contact() and (self.bundles is not None or self._agent.consent.shares)

    def _status(self, offline_s: float) -> fleet_pb2.DeviceStatus | None:
        if not self._agent.consent.shares:
            return None
        dropped = 0 if self._reporter is None else self._reporter.state.dropped
        return device_status(
            self._agent.sensors.health,
            backend=self._agent.device.describe().get("decode_backend", ""),
            offline_s=offline_s,
            dropped_rows=dropped,
        )


def _acknowledged(trail: Trail) -> Iterator[bytes]:
    """A message for each request that went to the cloud: what arrived of its answer."""
    for leg in trail.legs:
        if leg.target is Target.CLOUD and leg.sent_bytes:
            yield wire.acknowledgement_to_wire(
                trail.id_in_cloud(leg), trail.at_unix_s, leg.model, leg.usage
            ).SerializeToString()
