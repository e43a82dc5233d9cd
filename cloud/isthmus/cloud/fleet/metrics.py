"""The whole fleet in `/metrics`: what devices reported, and how they are.

Never a device's id in a label: device classes, of which there are few, and names that this program
knows; what else devices call things is bounded (`isthmus.core.bounded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from isthmus.cloud.fleet.config import FleetConfig
from isthmus.core.bounded import Bounded, only
from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Target
from isthmus.core.money import MICRO_USD_PER_USD, usd
from isthmus.core.wire import CODE_OF_KIND

_TTFT_S: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_TPOT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_TOTAL_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_KINDS: Final = frozenset(CODE_OF_KIND)

Counted = Mapping[tuple[str, ...], float]
"""Values by the labels of a series."""


class FleetMetrics:
    """What this gateway was told by devices. For one event loop; anybody may read."""

    def __init__(self, config: FleetConfig, registry: CollectorRegistry) -> None:
        self.device_class = Bounded(config.max_classes, ("unknown",))
        self.tenant = Bounded(config.max_tenants)
        self._model = Bounded(config.max_models)
        self._begun: set[str] = set()
        """Classes that have series."""
        by_class = ("route", "device_class")
        self._requests = Counter(
            "isthmus_fleet_requests",
            "Requests that devices reported, by where they were answered and how they ended.",
            ("route", "status", "device_class"),
            registry=registry,
        )
        self._reasons = Counter(
            "isthmus_fleet_reasons",
            "Every reason of every request's route (a request may have several); `other`: one that "
            "only newer devices know.",
            ("reason", *by_class),
            registry=registry,
        )
        self._models = Counter(
            "isthmus_fleet_model_requests",
            "Requests by the model that answered.",
            ("model", "route"),
            registry=registry,
        )
        self._ttft = Histogram(
            "isthmus_fleet_time_to_first_token_seconds",
            "From a request's arrival at its device to the first piece of the answer.",
            by_class,
            buckets=_TTFT_S,
            registry=registry,
        )
        self._tpot = Histogram(
            "isthmus_fleet_time_per_output_token_seconds",
            "Time per output token after the first.",
            by_class,
            buckets=_TPOT_S,
            registry=registry,
        )
        self._total = Histogram(
            "isthmus_fleet_request_duration_seconds",
            "From a request's arrival at its device to the end of its answer.",
            by_class,
            buckets=_TOTAL_S,
            registry=registry,
        )
        self._tokens = Counter(
            "isthmus_fleet_tokens",
            "Tokens by kind: prompt_prefilled were computed, prompt_cached were not computed "
            "again, completion were written.",
            ("kind", *by_class),
            registry=registry,
        )
        self._spent = Counter(
            "isthmus_fleet_price_spent_usd",
            "Paid to the cloud, as devices reckon it. The ledger has what is charged.",
            ("device_class",),
            registry=registry,
        )
        self._saved = Counter(
            "isthmus_fleet_price_saved_usd",
            "What the cloud would have cost for answers that devices gave.",
            ("device_class",),
            registry=registry,
        )
        self._privacy = Counter(
            "isthmus_fleet_privacy_requests",
            "Requests by what the privacy gate found, and where they were answered.",
            ("privacy_class", *by_class),
            registry=registry,
        )
        self._expected = Histogram(
            "isthmus_fleet_expected_quality",
            "How probably answers were good enough, as their decisions took it.",
            by_class,
            buckets=_SHARES,
            registry=registry,
        )
        self._agreement = Histogram(
            "isthmus_fleet_shadow_agreement",
            "How alike an answer and the other tier's are, 0 to 1, by who gave the first.",
            by_class,
            buckets=_SHARES,
            registry=registry,
        )
        self._regret = Counter(
            "isthmus_fleet_shadow_regret_usd",
            "What the other tier was worth more, where both answered, by who gave the first; the "
            "cloud's answer is the reference.",
            by_class,
            registry=registry,
        )
        self._errors = Counter(
            "isthmus_fleet_errors",
            "Requests that met an error, by its kind.",
            ("kind", *by_class),
            registry=registry,
        )
        self._duplicates = Counter(
            "isthmus_fleet_duplicate_outcomes",
            "Outcomes that were reported before, and were not counted again.",
            registry=registry,
        )

    def counted(self, outcome: Outcome, unknown_reasons: int, device_class: str) -> None:
        """A device of this class reported an outcome that nobody had reported before."""
        kind = self.device_class(device_class)
        route, usage = outcome.route.value, outcome.usage
        self._requests.labels(route, outcome.status.value, kind).inc()
        for reason in outcome.reasons:
            self._reasons.labels(reason.value, route, kind).inc()
        if unknown_reasons:
            self._reasons.labels("other", route, kind).inc(unknown_reasons)
        if outcome.model:
            self._models.labels(self._model(outcome.model), route).inc()
        if Reason.SHADOW in outcome.reasons:  # nobody waited for it
            self._compared(outcome, outcome.route.other.value, kind)
        else:
            self._took(outcome, route, kind)
        prefilled = max(0, usage.prompt_tokens - usage.cached_tokens)
        self._tokens.labels("prompt_prefilled", route, kind).inc(prefilled)
        self._tokens.labels("prompt_cached", route, kind).inc(usage.cached_tokens)
        self._tokens.labels("completion", route, kind).inc(usage.completion_tokens)
        self._spent.labels(kind).inc(usd(outcome.price_micro_usd))
        self._saved.labels(kind).inc(usd(outcome.saved_micro_usd))
        if kind not in self._begun:
            self._begin_at_zero(kind)
        self._privacy.labels(outcome.privacy_class.value, route, kind).inc()
        if outcome.error_kind:
            self._errors.labels(only(outcome.error_kind, _KINDS), route, kind).inc()

    def _begin_at_zero(self, kind: str) -> None:
        """A rate over a series that appears with its first value misses that value, and here a
        single request that should not have left is an alert.
        """
        self._begun.add(kind)
        for one in PrivacyClass:
            for target in Target:
                self._privacy.labels(one.value, target.value, kind)

    def _compared(self, outcome: Outcome, *first: str) -> None:
        if outcome.agreement is not None:
            self._agreement.labels(*first).observe(outcome.agreement)
        if outcome.regret_micro_usd is not None:
            self._regret.labels(*first).inc(outcome.regret_micro_usd / MICRO_USD_PER_USD)

    def _took(self, outcome: Outcome, *labels: str) -> None:
        for histogram, ms in (
            (self._ttft, outcome.ttft_ms),
            (self._tpot, outcome.tpot_ms),
            (self._total, outcome.total_ms),
        ):
            if ms is not None:
                histogram.labels(*labels).observe(ms / 1000)
        if outcome.expected_quality is not None:
            self._expected.labels(*labels).observe(outcome.expected_quality)

    def duplicates(self, count: int) -> None:
        """So many outcomes were known already."""
        self._duplicates.inc(count)


class FleetSnapshot(Collector):
    """What the database says of devices and bundles: the same at every gateway that shares it."""

    _SERIES: Final = {
        "isthmus_fleet_devices": (
            "Devices by class and when they were last seen.",
            ("device_class", "seen"),
        ),
        "isthmus_fleet_last_report_timestamp_seconds": (
            "When a device of a class last reported, to any gateway, in Unix time.",
            ("device_class",),
        ),
        "isthmus_fleet_bundle_devices": (
            "Devices by the bundle that they run, and what became of the one that they tried last.",
            ("tenant", "sequence", "state"),
        ),
        "isthmus_fleet_software_devices": (
            "Devices that share it, by the version of their software.",
            ("software",),
        ),
        "isthmus_fleet_backend_devices": (
            "Devices that share it, by what computes their answers.",
            ("backend",),
        ),
        "isthmus_fleet_battery_devices": (
            "Devices that share it, by the state of their battery.",
            ("battery", "device_class"),
        ),
        "isthmus_fleet_heat_devices": (
            "Devices that share it, by their heat.",
            ("heat", "device_class"),
        ),
        "isthmus_fleet_offline_devices": (
            "Devices that share it, by how long they had reached no gateway before they came last.",
            ("offline",),
        ),
        "isthmus_fleet_dropped_rows": (
            "Rows that the spools of devices have dropped unsent, of those that share it.",
            (),
        ),
        "isthmus_fleet_bundle_latest": (
            "The latest bundle's sequence, by tenant; of those told as `other`, the highest.",
            ("tenant",),
        ),
    }

    def __init__(self) -> None:
        self._values: Mapping[str, Counted] = {}

    def update(self, values: Mapping[str, Counted]) -> None:
        """These are the figures now; series that are missing are empty."""
        self._values = values

    def describe(self) -> Sequence[Metric]:
        """Nothing is asked when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures as they were last."""
        values = self._values
        for name, (help_text, labels) in self._SERIES.items():
            family = GaugeMetricFamily(name, help_text, labels=labels)
            for key, value in values.get(name, {}).items():
                family.add_metric(key, value)
            yield family
