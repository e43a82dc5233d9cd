"""The agent's figures for Prometheus: one registry, names and base units by its conventions.

The only package of the agent that imports prometheus_client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.money import usd
from isthmus.edge.leg import Leg
from isthmus.edge.metrics.collectors import CloudCollector, EngineCollector
from isthmus.edge.metrics.fleet import FleetMetrics
from isthmus.edge.metrics.inference import InferenceMetrics
from isthmus.edge.metrics.routing import RoutingMetrics
from isthmus.privacy.base import Label
from isthmus.privacy.receipts import Treatment

if TYPE_CHECKING:
    from isthmus.engine.fallback import Fallback

CONTENT_TYPE = CONTENT_TYPE_LATEST

_PRIVACY = {
    Reason.PRIVACY_LOCAL_ONLY,
    Reason.PRIVACY_SCAN_FAILED,
    Reason.PRIVACY_NOT_REDACTABLE,
}
BREAKER_STATES = ("closed", "half_open", "open")


class Metrics:
    """Everything the agent counts. `ttft_slo_ms` and `tpot_slo_ms` become edges of buckets."""

    def __init__(
        self, *, ttft_slo_ms: Sequence[float] = (), tpot_slo_ms: Sequence[float] = ()
    ) -> None:
        # One more series for every counter, which nobody here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.inference = InferenceMetrics(
            self.registry, [ms / 1000 for ms in ttft_slo_ms], [ms / 1000 for ms in tpot_slo_ms]
        )
        self.routing = RoutingMetrics(self.registry)
        self.fleet = FleetMetrics(self.registry)
        self._requests = Counter(
            "isthmus_edge_requests",
            "Requests, by route, deciding reason and how they ended.",
            ("route", "reason", "status"),
            registry=self.registry,
        )
        self._reasons = Counter(
            "isthmus_edge_reasons",
            "Every reason of every request's route (a request may have several).",
            ("route", "reason"),
            registry=self.registry,
        )
        self._spent = Counter(
            "isthmus_edge_price_spent_usd", "Paid to the cloud.", registry=self.registry
        )
        self._saved = Counter(
            "isthmus_edge_price_saved_usd",
            "What the cloud would have cost for answers that the device gave.",
            registry=self.registry,
        )
        self._private = Counter(
            "isthmus_edge_privacy_local_requests",
            "Requests kept on the device because of what is in them.",
            registry=self.registry,
        )
        self._found = Counter(
            "isthmus_edge_privacy_found_values",
            "Sensitive values found in requests, by label. A value counts with each of its turns.",
            ("label",),
            registry=self.registry,
        )
        self._treated = Counter(
            "isthmus_edge_privacy_values",
            "Sensitive values of requests that ended, by label and by what became of them: stayed, "
            "redacted (a placeholder left), allowed (it left).",
            ("label", "treatment"),
            registry=self.registry,
        )
        self._sent_bytes = Counter(
            "isthmus_edge_sent_bytes",
            "What left the device for the cloud, requests alone.",
            registry=self.registry,
        )
        self._redacted = Counter(
            "isthmus_edge_privacy_redacted_requests",
            "Requests that left for the cloud with placeholders in them.",
            registry=self.registry,
        )
        self._blocked = Counter(
            "isthmus_edge_privacy_blocked_values",
            "Values that the last look at the bytes found and stopped, by label: should be zero.",
            ("label",),
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "isthmus_edge_fallbacks",
            "Answers that the other tier took over, by stage and the error's kind.",
            ("from_route", "to_route", "stage", "error"),
            registry=self.registry,
        )
        self._dropped_tokens = Counter(
            "isthmus_edge_dropped_tokens",
            "Tokens that were computed and are in no answer, by route and how that leg ended.",
            ("route", "end"),
            registry=self.registry,
        )
        self._unused = Counter(
            "isthmus_edge_price_unused_usd",
            "The part of what was paid to the cloud that is for answers that nobody saw.",
            registry=self.registry,
        )
        self._rejected = Counter(
            "isthmus_edge_rejected_requests",
            "Requests refused before a route was sought, by HTTP status.",
            ("code",),
            registry=self.registry,
        )
        self._ledger_lost = Counter(
            "isthmus_edge_ledger_lost_rows",
            "Outcomes that the ledger could not store.",
            registry=self.registry,
        )
        self._breaker = Gauge(
            "isthmus_edge_cloud_breaker_state",
            "1 for the state that the cloud's breaker is in.",
            ("state",),
            registry=self.registry,
        )
        self._queue = Gauge(
            "isthmus_edge_queue_length",
            "Requests waiting, by queue.",
            ("queue",),
            registry=self.registry,
        )
        self._running = Gauge(
            "isthmus_edge_running_requests",
            "Requests being answered, by place.",
            ("place",),
            registry=self.registry,
        )
        self._ready = Gauge(
            "isthmus_edge_model_ready",
            "1 when the device's model is loaded.",
            registry=self.registry,
        )
        # A rate over a series that appears with its first value misses that value: of this one,
        # the only value that there should ever be.
        for label in Label:
            self._blocked.labels(label.value)

    def observe(self, outcome: Outcome, legs: Sequence[Leg]) -> None:
        """Count one outcome; `legs` is what each tier did for it."""
        route = outcome.route.value
        decisive = _deciding(outcome.reasons)
        self._requests.labels(route, decisive, outcome.status.value).inc()
        for reason in outcome.reasons:
            self._reasons.labels(route, reason.value).inc()
        self.inference.observe(outcome, legs)
        if Reason.SHADOW not in outcome.reasons:
            self.routing.expected(outcome.route, outcome.expected_quality)
        self._sent_bytes.inc(sum(leg.sent_bytes for leg in legs))
        self._spent.inc(usd(outcome.price_micro_usd))
        self._saved.inc(usd(outcome.saved_micro_usd))
        if outcome.status is not Status.REFUSED and not _PRIVACY.isdisjoint(outcome.reasons):
            self._private.inc()
        asked = {leg.target for leg in legs}
        if Reason.PRIVACY_REDACTED in outcome.reasons and Target.CLOUD in asked:
            self._redacted.inc()

    def treated(self, treatments: Mapping[str, Mapping[Treatment, int]]) -> None:
        """Count what became of the values of a request that ended, by label."""
        for label, counts in treatments.items():
            for treatment, count in counts.items():
                self._treated.labels(label, treatment).inc(count)

    def found(self, labels: Mapping[str, int]) -> None:
        """Count the values that a scan found."""
        for label, count in labels.items():
            self._found.labels(label).inc(count)

    def blocked(self, labels: Mapping[str, int]) -> None:
        """Count the values that were stopped on their way out."""
        for label, count in labels.items():
            self._blocked.labels(label).inc(count)

    def fell_back(self, source: Target, *, stage: str, error: str) -> None:
        """Count a change of tier; `stage` is `before_first_token` or `mid_answer`."""
        self._fallbacks.labels(source.value, source.other.value, stage, error).inc()

    def dropped(self, target: Target, end: str, tokens: int, price_micro_usd: int) -> None:
        """Count what one leg computed for nobody, and what that cost."""
        if tokens:
            self._dropped_tokens.labels(target.value, end).inc(tokens)
        self._unused.inc(usd(price_micro_usd))

    def rejected(self, code: int) -> None:
        """Count a request that was refused before a route was sought."""
        self._rejected.labels(str(code)).inc()

    def ledger_lost(self, rows: int) -> None:
        """Count outcomes that were not stored."""
        self._ledger_lost.inc(rows)

    def watch(
        self,
        *,
        in_flight: Callable[[], float],
        engine_queue: Callable[[], float],
        engine_running: Callable[[], float],
        guesses: Callable[[], tuple[int, int]],
        runs: Callable[[], Mapping[str, str]],
        backend_fallbacks: Callable[[], Mapping[Fallback, int]],
        ready: Callable[[], bool],
        breaker: Callable[[], str],
        resumed: Callable[[], int],
    ) -> None:
        """Read these at each scrape.

        `guesses`: tokens guessed ahead, and how many were right; `runs`: model and backends.
        """
        self.registry.register(EngineCollector(guesses, runs, backend_fallbacks))
        self.registry.register(CloudCollector(resumed))
        self._running.labels("agent").set_function(in_flight)
        self._running.labels("engine").set_function(engine_running)
        self._queue.labels("engine").set_function(engine_queue)
        self._ready.set_function(lambda: float(ready()))
        for state in BREAKER_STATES:
            self._breaker.labels(state).set_function(partial(_is_state, breaker, state))

    def counts(self, counter: str, **labels: str) -> dict[str, int]:
        """A counter's values by its `label`, of those that have `labels` besides."""
        registry = self.registry.restricted_registry([f"{counter}_total"])
        return {
            sample.labels["label"]: int(sample.value)
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == f"{counter}_total" and labels.items() <= sample.labels.items()
        }

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


def _is_state(current: Callable[[], str], state: str) -> float:
    return float(current() == state)


def _deciding(reasons: Sequence[Reason]) -> str:
    """The first reason, unless a failure moved the request elsewhere."""
    for moved in (Reason.HANDED_OVER, Reason.FELL_BACK):
        if moved in reasons:
            return moved.value
    return reasons[0].value if reasons else "none"
