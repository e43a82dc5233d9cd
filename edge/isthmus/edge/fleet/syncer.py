"""Asks the gateway for the bundle that should run here, and tells what became of the last one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from isthmus.core.bundle import BundleState
from isthmus.core.errors import IsthmusError, Overloaded
from isthmus.core.wire.fleet import BUNDLE_STATES, signed_from_wire
from isthmus.edge.fleet.bundles import Bundles
from isthmus.edge.fleet.link import FleetLink
from isthmus.edge.fleet.pauses import Pauses
from isthmus.v1 import fleet_pb2

log = logging.getLogger(__name__)

_BOUNDS_S: Final = (0.05, 86_400.0)
"""Between these a gateway may say when to come back."""


class Syncer:
    """Keeps the device in step. For one event loop."""

    def __init__(
        self,
        link: FleetLink,
        bundles: Bundles | None,
        *,
        may_contact: Callable[[], bool],
        status: Callable[[float], fleet_pb2.DeviceStatus | None],
        pauses: Pauses,
    ) -> None:
        """`status(offline_s)`: how the device is; None: its owner does not share it. Without
        `bundles` (no key is pinned) the gateway hears of that alone.
        """
        self._link = link
        self._bundles = bundles
        self._may_contact = may_contact
        self._status = status
        self._pauses = pauses
        self._unreached_since_s: float | None = None

    async def run(self) -> None:
        """For ever."""
        pause_s = self._pauses.at_start()
        while True:
            await asyncio.sleep(pause_s)
            if not self._may_contact():
                pause_s = self._pauses.after_success()
                continue
            try:
                pause_s = await self.sync()
            except IsthmusError as error:
                if self._unreached_since_s is None:
                    self._unreached_since_s = time.monotonic()
                log.info("the gateway was not asked for a bundle: %s", error.kind)
                asked_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
                pause_s = self._pauses.after_failure(asked_s)

    async def sync(self) -> float:
        """One call, and a second one that tells at once what became of a new bundle; the pause
        until the next, in seconds. Raises what the call raises.
        """
        response = await self._call()
        if response.HasField("bundle") and self._bundles is not None:
            await self._bundles.take(signed_from_wire(response.bundle))
            await self._call()
            if self._bundles.held.state is BundleState.BAD_SIGNATURE:
                # It would come again with every call, and be no better.
                return self._pauses.after_failure(self._pauses.usual_s)
        pause_s = self._pauses.after_success()
        if response.next_sync_ms:
            pause_s *= response.next_sync_ms / 1000 / self._pauses.usual_s
        least_s, most_s = _BOUNDS_S
        return min(max(pause_s, least_s), most_s)

    async def _call(self) -> fleet_pb2.SyncDeviceResponse:
        request = fleet_pb2.SyncDeviceRequest(status=self._status(self.offline_s()))
        if self._bundles is not None:
            held = self._bundles.held
            request.sequence, request.tried_sequence = held.sequence, held.tried
            if held.state is not None:
                request.state = BUNDLE_STATES[held.state]
            request.problem = held.problem
        response = await self._link.sync(request)
        self._unreached_since_s = None
        return response

    def offline_s(self) -> float:
        """How long the gateway has not been reached; 0: it was, or nothing is to be said."""
        since_s = self._unreached_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s
