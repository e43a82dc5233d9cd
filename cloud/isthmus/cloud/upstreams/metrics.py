"""What is counted of upstreams, by the names of the configuration: never by a resolved address.

The only module of this package that imports prometheus_client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from isthmus.cloud.metrics import TTFT_EDGES_S
from isthmus.cloud.upstreams.upstream import Upstream

_STATES: Final = ("available", "ejected", "down", "paused", "leaving")


class UpstreamMetrics:
    """Counters, and gauges that are read from the upstreams at a scrape."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(set(names))
        self._requests = Counter(
            "isthmus_cloud_upstream_requests",
            "Requests to an upstream, by what came of them: ok, refused (the request's own fault), "
            "overloaded, failed, cancelled.",
            ["upstream", "result"],
            registry=None,
        )
        self._ttft = Histogram(
            "isthmus_cloud_upstream_time_to_first_token_seconds",
            "From asking an upstream to its first piece of answer.",
            ["upstream"],
            buckets=TTFT_EDGES_S,
            registry=None,
        )
        self._ejections = Counter(
            "isthmus_cloud_upstream_ejections",
            "How often an upstream was left alone for its failures.",
            ["upstream"],
            registry=None,
        )
        self._moves = Counter(
            "isthmus_cloud_upstream_failovers",
            "Answers that went on with another upstream, by what was told of them by then.",
            ["stage"],
            registry=None,
        )
        for stage in ("before_first_token", "mid_answer"):
            self._moves.labels(stage=stage)
        for name in self._names:
            self._ejections.labels(upstream=name)
        self._states = _States(self._names)

    def watch(self, upstreams: Callable[[], Iterable[Upstream]]) -> None:
        """Read states and load from these whenever somebody scrapes."""
        self._states.upstreams = upstreams

    def ended(self, upstream: str, result: str) -> None:
        """A request to it ended."""
        self._requests.labels(upstream=upstream, result=result).inc()

    def first_token(self, upstream: str, seconds: float) -> None:
        """Its first piece of an answer came."""
        self._ttft.labels(upstream=upstream).observe(seconds)

    def ejected(self, upstream: str) -> None:
        """It is left alone."""
        self._ejections.labels(upstream=upstream).inc()

    def moved(self, stage: str) -> None:
        """An answer goes on elsewhere."""
        self._moves.labels(stage=stage).inc()

    def collectors(self) -> Sequence[Any]:
        """All of them, for a registry."""
        return (self._requests, self._ttft, self._ejections, self._moves, self._states)


class _States(Collector):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.upstreams: Callable[[], Iterable[Upstream]] = tuple

    def collect(self) -> Iterator[Metric]:
        """Addresses by state, and requests there, for each configured name."""
        states = GaugeMetricFamily(
            "isthmus_cloud_upstream_addresses",
            "Addresses of an upstream by state.",
            labels=["upstream", "state"],
        )
        load = GaugeMetricFamily(
            "isthmus_cloud_upstream_requests_in_flight",
            "Requests of this gateway that an upstream answers.",
            labels=["upstream"],
        )
        # From a thread: the loop may change the collection meanwhile, so it is copied at once.
        upstreams = list(self.upstreams())
        for name in self._names:
            mine = [one for one in upstreams if one.name == name]
            found = [one.state for one in mine]
            for state in _STATES:
                states.add_metric([name, state], found.count(state))
            load.add_metric([name], sum(one.in_flight for one in mine))
        yield states
        yield load
