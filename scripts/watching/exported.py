"""Every metric that the agent and the gateway export, read from their own registries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector

from isthmus.cloud.config import CloudConfig
from isthmus.cloud.server import Gateway
from isthmus.cloud.testing import ScriptedBackend
from isthmus.cloud.upstreams.metrics import UpstreamMetrics
from isthmus.edge.agent import Agent
from isthmus.edge.config import EdgeConfig
from isthmus.edge.device import Device
from isthmus.edge.testing import ScriptedEngine, ScriptedTier

_ENDS: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}
_UNITS: Final = {
    "micro_usd": "millionths of a US dollar",
    "usd": "US dollars",
    "timestamp_seconds": "seconds, Unix time",
    "seconds": "seconds",
    "bytes": "bytes",
    "celsius": "degrees Celsius",
    "ratio": "0 to 1",
    "quality": "0 to 1",
    "agreement": "0 to 1",
    "drift": "-1 to 1",
    "correction": "-1 to 1",
    "ready": "0 or 1",
    "throttled": "0 or 1",
    "charging": "0 or 1",
    "state": "0 or 1",
    "sequence": "a number",
    "latest": "a number",
    "shadow_price": "times the price",
}
"""By the last words of a name; what has none of them is counted."""
_COUNTED: Final = {"answers", "devices", "requests", "rows", "tokens", "values"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of series."""

    where: str
    """`agent`, `gateway` or `fleet`."""
    name: str
    """Without the end that its type gives it."""
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series, as they are queried."""
        return tuple(f"{self.name}{end}" for end in _ENDS[self.kind])

    @property
    def shown(self) -> str:
        """The name in a table: of a histogram the family's."""
        return self.series[0] if len(self.series) == 1 else self.name

    @property
    def unit(self) -> str:
        """What its values are."""
        if self.shown.endswith("_info"):
            return "always 1"
        words = self.name.split("_")
        ends = ("_".join(words[-length:]) for length in (2, 1))
        counted = words[-1] if words[-1] in _COUNTED else "a count"
        return next((_UNITS[end] for end in ends if end in _UNITS), counted)


def exported() -> tuple[Metric, ...]:
    """All of them, by name, with every optional part of the program on."""
    found = [*_agents(), *_gateways()]
    return tuple(sorted(found, key=lambda one: (one.where, one.shown)))


def _agents() -> Iterator[Metric]:
    engine = ScriptedEngine()
    agent = Agent(EdgeConfig(), device=_Loaded(lambda: engine), cloud=ScriptedTier())
    return _families(agent.metrics.registry, "agent")


class _Loaded(Device):
    """So that it tells what it runs."""

    def describe(self) -> dict[str, str]:
        return dict.fromkeys(("model", "prefill_backend", "decode_backend"), "")


def _gateways() -> Iterator[Metric]:
    gateway = Gateway(CloudConfig.model_validate({"ledger": {"kind": "off"}}), ScriptedBackend())
    metrics = gateway.metrics
    metrics.watch_certificates(lambda: {"server": 0.0})
    metrics.ledger.watch(gateway.ledger.state)
    metrics.serves(gateway.backend.info())
    metrics.add(UpstreamMetrics(["upstream"]).collectors())
    for one in _families(metrics.registry, "gateway"):
        fleets = one.name.startswith("isthmus_fleet_")
        yield Metric("fleet" if fleets else one.where, one.name, one.kind, one.labels, one.meaning)


def _families(registry: CollectorRegistry, where: str) -> Iterator[Metric]:
    # The library tells the labels of a family that has no series yet to nobody but itself.
    collectors: list[Any] = list(registry._collector_to_names)
    for collector in collectors:
        if isinstance(collector, ProcessCollector):
            continue  # the library's own: what it tells hangs on the platform
        for family in collector.collect():
            labels = getattr(collector, "_labelnames", getattr(family, "_labelnames", ()))
            if family.type == "info":
                labels = family.samples[0].labels
            yield Metric(where, family.name, family.type, tuple(labels), family.documentation)
