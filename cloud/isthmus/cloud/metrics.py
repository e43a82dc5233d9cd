"""What the gateway counts: one Prometheus registry, served over HTTP from a thread of its own.

With the metrics of the ledger, the upstreams and the fleet the only modules of the gateway that
import prometheus_client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from isthmus.cloud.admission import Admission, Shed
from isthmus.cloud.answers.register import Found
from isthmus.cloud.identity.base import Refusal
from isthmus.cloud.ledger.metrics import LedgerMetrics
from isthmus.core import genai
from isthmus.core.chat import Priority
from isthmus.core.decision import Target
from isthmus.core.events import DraftVerdict
from isthmus.core.money import Usage
from isthmus.core.tier import ModelInfo

TTFT_EDGES_S: Final = genai.edges(genai.SERVER_TTFT_EDGES_S, (0.2, 0.3, 2.0, 30.0))
TPOT_EDGES_S: Final = genai.edges(genai.SERVER_TPOT_EDGES_S, (0.005, 0.02, 0.03))
"""What is usually promised is an edge: the share of requests within it is then exact."""
WAIT_EDGES_S: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CODES: Final = (
    *("OK", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "INVALID_ARGUMENT"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNAVAILABLE", "UNKNOWN"),
)


class Metrics:
    """The gateway's registry and the few things that may be said to it."""

    def __init__(self) -> None:
        # One more series for every counter, which nobody here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.ledger = LedgerMetrics(registry)
        self._requests = Counter(
            "isthmus_cloud_requests",
            "Requests that ended, by gRPC status code.",
            ["code"],
            registry=registry,
        )
        self._cancelled = Counter(
            "isthmus_cloud_cancellations",
            "Requests whose caller went away before the end.",
            registry=registry,
        )
        by_model = (genai.OPERATION, genai.PROVIDER, genai.MODEL)
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the arrival of a request to its end; `error_type` is its gRPC status code, where "
            "that is not OK.",
            (*by_model, genai.ERROR),
            buckets=genai.edges(genai.CLIENT_EDGES_S, (120.0, 300.0)),
            registry=registry,
        )
        self._ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the arrival of a request to its first piece of answer.",
            by_model,
            buckets=TTFT_EDGES_S,
            registry=registry,
        )
        self._tpot = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time per token of an answer after its first.",
            by_model,
            buckets=TPOT_EDGES_S,
            registry=registry,
        )
        self._of = (genai.CHAT, genai.PROVIDERS[Target.CLOUD], "")
        tokens = Counter(
            "isthmus_cloud_tokens",
            "Tokens by kind: prompt, of which cached, and completion.",
            ["kind"],
            registry=registry,
        )
        # Looked up once: every answer counts them.
        self._prompt_tokens, self._cached_tokens, self._completion_tokens = (
            tokens.labels(kind=kind) for kind in ("prompt", "cached", "completion")
        )
        self._drafts = Counter(
            "isthmus_cloud_draft_tokens",
            "Tokens of drafts that devices brought, by what became of them: accepted ones did not "
            "have to be written here.",
            ["result"],
            registry=registry,
        )
        self._unjudged = Counter(
            "isthmus_cloud_unjudged_drafts",
            "Drafts that were dropped: the backend was unable to judge them, or judging is not "
            "worth it of late.",
            ["reason"],
            registry=registry,
        )
        self._draft_gain = Counter(
            "isthmus_cloud_draft_engine_seconds",
            "Capacity that drafts saved and spent, in seconds of an engine: accepted tokens by the "
            "time that a token takes, judging by what it adds to first tokens, both divided by the "
            "requests that share the engine.",
            ["part"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "isthmus_cloud_requests_in_flight", "Requests being answered.", registry=registry
        )
        self._waiting = Gauge(
            "isthmus_cloud_queue_length",
            "Requests waiting for their turn at the gateway.",
            registry=registry,
        )
        self._most_in_flight = Gauge(
            "isthmus_cloud_requests_in_flight_limit",
            "Requests that may be answered at once.",
            registry=registry,
        )
        self._most_waiting = Gauge(
            "isthmus_cloud_queue_length_limit",
            "Requests that may wait; beyond them they are refused.",
            registry=registry,
        )
        self._runs = Info("isthmus_cloud", "What this gateway runs.", registry=registry)
        queue_wait = Histogram(
            "isthmus_cloud_queue_wait_seconds",
            "From the arrival of a request to its turn, by its priority.",
            ["priority"],
            buckets=WAIT_EDGES_S,
            registry=registry,
        )
        self._queue_wait = {one: queue_wait.labels(priority=one.value) for one in Priority}
        self._shed = Counter(
            "isthmus_cloud_shed_requests",
            "Requests that were told to come back later, by why.",
            ["reason"],
            registry=registry,
        )
        self._again = Counter(
            "isthmus_cloud_repeated_requests",
            "Requests that came again, by what they found: the answer running, complete or broken "
            "off, or nothing, another gateway having begun it.",
            ["found"],
            registry=registry,
        )
        self._merged = Counter(
            "isthmus_cloud_merged_deltas",
            "Pieces of answers that went in the message of another, for a reader or a loop that "
            "was behind.",
            registry=registry,
        )
        self._kept = Gauge(
            "isthmus_cloud_kept_answers",
            "Answers that ended and can be asked for again.",
            registry=registry,
        )
        self._kept_bytes = Gauge(
            "isthmus_cloud_kept_answers_bytes", "What those take, roughly.", registry=registry
        )
        self._pause = Gauge(
            "isthmus_cloud_delivery_pause_seconds",
            "How long each stream waits between two messages; 0 while the event loop keeps up.",
            registry=registry,
        )

        self._refused = Counter(
            "isthmus_cloud_refused_calls",
            "Calls that were not let in, by why; the callers are not told.",
            ["reason"],
            registry=registry,
        )
        self._read_again = Counter(
            "isthmus_cloud_files_read_again",
            "Files of keys, certificates and secrets that changed while the gateway ran, by the "
            "setting that names them; one that failed left the file before it in force.",
            ["setting", "result"],
            registry=registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A rate over a series that appears with its first value misses that value."""
        for code in _CODES:
            self._requests.labels(code=code)
        for why in Shed:
            self._shed.labels(reason=why.value)
        for reason in Refusal:
            self._refused.labels(reason=reason.value)
        for found in Found:
            if found is not Found.NOTHING:
                self._again.labels(found=found.value)
        for result in ("accepted", "refused"):
            self._drafts.labels(result=result)
        for part in ("saved", "spent"):
            self._draft_gain.labels(part=part)

    def serves(self, info: ModelInfo) -> None:
        """Answers are given by this model from now on."""
        self._of = (*self._of[:2], info.model)
        self._runs.info(
            {"version": version("isthmus"), "model": info.model, "backend": info.backend}
        )
        # A rate over a series that appears with its first value misses that value.
        self._duration.labels(*self._of, "")
        for histogram in (self._ttft, self._tpot):
            histogram.labels(*self._of)

    def watch_queue(self, admission: Admission) -> None:
        """Read how full it is whenever somebody scrapes."""
        self._in_flight.set_function(lambda: admission.running)
        self._waiting.set_function(lambda: admission.waiting)
        self._most_in_flight.set_function(lambda: admission.max_running)
        self._most_waiting.set_function(lambda: admission.max_waiting)

    def watch_answers(
        self,
        kept: Callable[[], float],
        kept_bytes: Callable[[], float],
        pause_s: Callable[[], float],
    ) -> None:
        """Read these three from these functions whenever somebody scrapes."""
        self._kept.set_function(kept)
        self._kept_bytes.set_function(kept_bytes)
        self._pause.set_function(pause_s)

    def waited(self, priority: Priority, seconds: float) -> None:
        """A request had its turn."""
        self._queue_wait[priority].observe(seconds)

    def shed(self, why: Shed) -> None:
        """A request was refused because there is too much to do."""
        self._shed.labels(reason=why.value).inc()

    def found(self, found: Found) -> None:
        """A request found this under its id."""
        if found is not Found.NOTHING:
            self._again.labels(found=found.value).inc()

    def merged(self, pieces: int) -> None:
        """So many pieces of an answer went in another one's message."""
        self._merged.inc(pieces)

    def refused(self, reason: Refusal) -> None:
        """A call was not let in."""
        self._refused.labels(reason=reason.value).inc()

    def read_again(self, setting: str, good: bool) -> None:
        """A file that this setting names changed."""
        self._read_again.labels(setting=setting, result="good" if good else "failed").inc()

    def watch_certificates(self, expires_in_s: Callable[[], Mapping[str, float]]) -> None:
        """Read when the certificates end, in seconds by their kind, whenever somebody scrapes."""
        gauge = Gauge(
            "isthmus_cloud_certificate_expires_in_seconds",
            "Until the first certificate of a kind ends: the server's, or a root of its clients'.",
            ["certificate"],
            registry=self.registry,
        )
        for kind in expires_in_s():

            def left_s(kind: str = kind) -> float:
                return expires_in_s()[kind]

            gauge.labels(certificate=kind).set_function(left_s)

    def ended(self, code: str, seconds: float) -> None:
        """A request ended with this gRPC code's name, so long after it arrived."""
        self._requests.labels(code=code).inc()
        self._duration.labels(*self._of, "" if code == "OK" else code).observe(seconds)
        if code == "CANCELLED":
            self._cancelled.inc()

    def first_token(self, seconds: float) -> None:
        """The first piece of an answer came this long after its request."""
        self._ttft.labels(*self._of).observe(seconds)

    def answered(self, usage: Usage, seconds_per_token: float | None) -> None:
        """An answer is complete; no time per token below two tokens."""
        self._prompt_tokens.inc(usage.prompt_tokens)
        self._cached_tokens.inc(usage.cached_tokens)
        self._completion_tokens.inc(usage.completion_tokens)
        if seconds_per_token is not None:
            self._tpot.labels(*self._of).observe(seconds_per_token)

    def judged(self, verdict: DraftVerdict) -> None:
        """A draft was judged."""
        self._drafts.labels(result="accepted").inc(verdict.accepted_tokens)
        self._drafts.labels(result="refused").inc(verdict.tokens - verdict.accepted_tokens)

    def unjudged(self, reason: str) -> None:
        """A draft was dropped."""
        self._unjudged.labels(reason=reason).inc()

    def draft_gain(self, *, saved_s: float, spent_s: float) -> None:
        """What a judged draft saved and spent of an engine's time, in seconds."""
        self._draft_gain.labels(part="saved").inc(saved_s)
        self._draft_gain.labels(part="spent").inc(max(0.0, spent_s))

    def add(self, collectors: Sequence[Any]) -> None:
        """Serve a backend's own collectors too."""
        for collector in collectors:
            self.registry.register(collector)


class ProcessMetrics(Collector):
    """What a library counts in the process-wide registry, by the prefix of its names."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """Those metrics as they are now."""
        return (metric for metric in REGISTRY.collect() if metric.name.startswith(self._prefix))

    def value(self, name: str) -> float:
        """One of them (without the prefix) as it is now, its samples together; 0: not there."""
        alone = REGISTRY.restricted_registry([f"{self._prefix}{name}"])
        return sum(sample.value for metric in alone.collect() for sample in metric.samples)


class MetricsServer:
    """`/metrics` over HTTP, from a thread, so that a busy event loop can still be watched."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, host, registry=metrics.registry)
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
