"""What the fleet's part needs of the gateway's client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from isthmus.v1 import fleet_pb2


@runtime_checkable
class FleetLink(Protocol):
    """`isthmus.edge.remote.RemoteTier`. Every failure is an `IsthmusError`."""

    async def report(self, outcomes: Sequence[bytes], acknowledgements: Sequence[bytes]) -> int:
        """Send a batch of serialized messages; how many outcomes were taken."""
        ...

    async def sync(self, request: fleet_pb2.SyncDeviceRequest) -> fleet_pb2.SyncDeviceResponse:
        """Tell what runs here; what should."""
        ...
