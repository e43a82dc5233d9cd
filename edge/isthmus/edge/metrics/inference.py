"""Answers as OpenTelemetry's GenAI conventions measure them: times and tokens, by who computes.

The agent is the client of both tiers. It reads each as a stream, whatever its own client asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from isthmus.core import genai
from isthmus.core.bounded import Bounded
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.edge.leg import Leg

_MOST_MODELS: Final = 16
"""A gateway may call its models what it likes."""
_TAIL_S: Final = (30.0, 60.0, 120.0, 300.0)
"""What a slow device may take."""
_TPOT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_MODALITIES: Final = {Target.EDGE: "text", Target.CLOUD: "unknown"}
"""The cloud may be shown images, and does not tell their tokens from those of text."""
_LABELS: Final = ("route", genai.OPERATION, genai.PROVIDER, genai.MODEL)


class InferenceMetrics:
    """In the agent's registry. Promised times become edges of buckets."""

    def __init__(
        self, registry: CollectorRegistry, ttft_slo_s: Sequence[float], tpot_slo_s: Sequence[float]
    ) -> None:
        self._model = Bounded(_MOST_MODELS)
        self._duration = Histogram(
            "gen_ai_client_inference_duration_seconds",
            "From a request's arrival to the end of its answer, by who gave it; `error_type` is "
            "the error's kind, or `cancelled`.",
            (*_LABELS, genai.ERROR),
            buckets=genai.edges(genai.CLIENT_EDGES_S, _TAIL_S),
            registry=registry,
        )
        self._first_chunk = Histogram(
            "gen_ai_client_inference_time_to_first_chunk_seconds",
            "From a request's arrival to the first piece of its answer, by who gave it; second "
            "answers, for which nobody waits, are in none of the times of answers.",
            _LABELS,
            buckets=genai.edges(genai.CLIENT_EDGES_S, _TAIL_S, ttft_slo_s),
            registry=registry,
        )
        self._chunk = Histogram(
            "gen_ai_client_inference_time_per_output_chunk_seconds",
            "Between two pieces that a tier wrote one after the other, shown or not.",
            _LABELS,
            buckets=genai.edges(genai.CLIENT_EDGES_S, tpot_slo_s),
            registry=registry,
        )
        # A mean over the tokens of an answer: the conventions have none for clients.
        self._tpot = Histogram(
            "isthmus_edge_time_per_output_token_seconds",
            "Mean time per token of an answer after its first, by who gave it.",
            ("route",),
            buckets=genai.edges(_TPOT_S, tpot_slo_s),
            registry=registry,
        )
        self._input, self._cached, self._output = (
            Counter(
                f"gen_ai_client_inference_usage_{name}",
                told,
                (*_LABELS, genai.MODALITY),
                registry=registry,
            )
            for name, told in (
                ("input_tokens", "Tokens of prompts, by who read them; those cached included."),
                ("cache_read_input_tokens", "Tokens of prompts that were not computed again."),
                ("output_tokens", "Tokens written, by who wrote them, whether shown or not."),
            )
        )

    def observe(self, outcome: Outcome, legs: Sequence[Leg]) -> None:
        """An answer ended; `legs` is what each tier computed for it."""
        if Reason.SHADOW not in outcome.reasons:
            self._took(outcome)
        for leg in legs:
            used, of = leg.usage, (*self._labels(leg.target, leg.model), _MODALITIES[leg.target])
            self._input.labels(*of).inc(used.prompt_tokens)
            self._cached.labels(*of).inc(used.cached_tokens)
            self._output.labels(*of).inc(used.completion_tokens)

    def _took(self, outcome: Outcome) -> None:
        """Note the times of an answer that somebody waited for."""
        labels = self._labels(outcome.route, outcome.model)
        if outcome.ttft_ms is not None:
            self._first_chunk.labels(*labels).observe(outcome.ttft_ms / 1000)
        if outcome.tpot_ms is not None:
            self._tpot.labels(outcome.route.value).observe(outcome.tpot_ms / 1000)
        self._duration.labels(*labels, _error(outcome)).observe(outcome.total_ms / 1000)

    def chunk(self, leg: Leg, seconds: float) -> None:
        """A tier wrote its next piece this long after the one before."""
        self._chunk.labels(*self._labels(leg.target, leg.model)).observe(seconds)

    def _labels(self, target: Target, model: str) -> tuple[str, ...]:
        name = self._model(model) if model else ""
        return target.value, genai.CHAT, genai.PROVIDERS[target], name


def _error(outcome: Outcome) -> str:
    """What ended the answer. One that another tier made good is none."""
    if outcome.status is Status.OK:
        return ""
    cancelled = outcome.status is Status.CANCELLED
    return outcome.status.value if cancelled else outcome.error_kind or outcome.status.value
