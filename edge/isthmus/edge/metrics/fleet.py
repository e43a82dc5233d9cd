"""The device as one of a fleet: what waits to be sent, and which bundle is in use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge

from isthmus.core.bundle import BundleState

if TYPE_CHECKING:
    from isthmus.edge.fleet.held import Held
    from isthmus.edge.fleet.spool import SpoolState


class FleetMetrics:
    """In the agent's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._oldest_unix_s: float | None = None
        self._waiting = Gauge(
            "isthmus_edge_spool_rows",
            "Rows that wait for the gateway to take them.",
            registry=registry,
        )
        self._dropped = Gauge(
            "isthmus_edge_spool_dropped_rows",
            "Rows that were dropped unsent, ever: the spool was full, or they were too old.",
            registry=registry,
        )
        age = Gauge(
            "isthmus_edge_spool_age_seconds",
            "How long the oldest row waits; 0: none does.",
            registry=registry,
        )
        age.set_function(self._age_s)
        self._offline = Gauge(
            "isthmus_edge_offline_seconds",
            "How long this device of a fleet has reached no gateway; 0: it reaches one.",
            registry=registry,
        )
        self._sequence = Gauge(
            "isthmus_edge_bundle_sequence",
            "The operator's bundle in use; 0: none, the device's own settings alone.",
            registry=registry,
        )
        self._state = Gauge(
            "isthmus_edge_bundle_state",
            "1 for what became of the bundle that was tried last.",
            ("state",),
            registry=registry,
        )

    def watch(self, offline_s: Callable[[], float]) -> None:
        """Read at each scrape for how long no gateway was reached."""
        self._offline.set_function(offline_s)

    def spooled(self, state: SpoolState) -> None:
        """How full the spool is."""
        self._oldest_unix_s = state.oldest_unix_s
        self._waiting.set(state.rows)
        self._dropped.set(state.dropped)

    def holds(self, held: Held) -> None:
        """A bundle was tried."""
        self._sequence.set(held.sequence)
        for state in BundleState:
            self._state.labels(state=state.value).set(held.state is state)

    def _age_s(self) -> float:
        oldest = self._oldest_unix_s
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)
