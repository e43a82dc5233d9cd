"""What is read at each scrape, from parts that keep their own state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from isthmus.core.money import usd

if TYPE_CHECKING:
    from isthmus.engine.fallback import Fallback
    from isthmus.router.budget import BudgetState
    from isthmus.router.signals import DeviceHealth


class CloudCollector(Collector):
    """What the cloud's client counts."""

    def __init__(self, resumed: Callable[[], int]) -> None:
        self._resumed = resumed

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "isthmus_edge_cloud_resumes",
            "Cloud answers whose stream broke and that were asked for again.",
            value=self._resumed(),
        )


class EngineCollector(Collector):
    """What the engine keeps, and may change while it runs."""

    def __init__(
        self,
        guesses: Callable[[], tuple[int, int]],
        runs: Callable[[], Mapping[str, str]],
        fallbacks: Callable[[], Mapping[Fallback, int]],
    ) -> None:
        self._guesses = guesses
        self._runs = runs
        self._fallbacks = fallbacks

    def collect(self) -> Iterator[Metric]:
        told = {"version": version("isthmus"), **self._runs()}
        yield InfoMetricFamily("isthmus_edge", "What this agent runs.", told)
        fallbacks = CounterMetricFamily(
            "isthmus_edge_backend_fallbacks",
            "Changes of the device's backend, by the error's kind.",
            labels=("from_backend", "to_backend", "reason"),
        )
        # A copy: the engine's thread may add to it.
        for fallback, count in dict(self._fallbacks()).items():
            fallbacks.add_metric((fallback.source, fallback.target, fallback.reason), count)
        yield fallbacks
        proposed, accepted = self._guesses()
        family = CounterMetricFamily(
            "isthmus_edge_guessed_tokens",
            "Tokens that the device's engine guessed ahead, by what became of them.",
            labels=("result",),
        )
        family.add_metric(("right",), accepted)
        family.add_metric(("wrong",), proposed - accepted)
        yield family


class RouterCollector(Collector):
    """The device's state and the budgets. What is not known has no series."""

    def __init__(
        self, health: Callable[[], DeviceHealth], budget: Callable[[], BudgetState]
    ) -> None:
        self._health = health
        self._budget = budget

    def collect(self) -> Iterator[Metric]:
        health, budget = self._health(), self._budget()
        yield _gauge("isthmus_edge_battery_ratio", "How full the battery is.", health.battery)
        yield _gauge(
            "isthmus_edge_battery_charging", "1 while the battery is charged.", health.charging
        )
        heat = GaugeMetricFamily(
            "isthmus_edge_temperature_celsius", "How hot a part of the device is.", labels=["part"]
        )
        for part, degrees in (
            ("processor", health.temperature_c),
            ("battery", health.battery_temperature_c),
        ):
            if degrees is not None:
                heat.add_metric([part], degrees)
        yield heat
        yield _gauge(
            "isthmus_edge_throttled", "1 while the processor is held back.", health.throttled
        )
        figures = ("limit", "spent", "forecast", "shadow_price")
        helps = (
            "What may be paid to the cloud in a period.",
            "What was paid or is set aside in it.",
            "What will have been at its end, if that goes on as it did.",
            "What its pace adds to each unit of price.",
        )
        names = (*(f"budget_{figure}_usd" for figure in figures[:3]), "budget_shadow_price")
        families = {
            figure: GaugeMetricFamily(f"isthmus_edge_{name}", text, labels=["period"])
            for figure, name, text in zip(figures, names, helps, strict=True)
        }
        for period, state in (("day", budget.day), ("month", budget.month)):
            if state is not None:
                families["limit"].add_metric([period], usd(state.limit_micro_usd))
                families["spent"].add_metric([period], usd(state.spent_micro_usd))
                families["forecast"].add_metric([period], usd(state.forecast_micro_usd))
                families["shadow_price"].add_metric([period], state.shadow_price)
        yield from families.values()


def _gauge(name: str, text: str, value: float | bool | None) -> Metric:
    family = GaugeMetricFamily(name, text)
    if value is not None:
        family.add_metric([], float(value))
    return family
