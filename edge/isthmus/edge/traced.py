"""What the spans of the agent tell: names, counts, times and kinds, and never a word of a user's.

Names with `gen_ai.` are those of OpenTelemetry's GenAI conventions (client inference).
"""

from __future__ import annotations

from typing import Final

from isthmus.core import genai
from isthmus.core.addresses import split
from isthmus.core.decision import Decision, Target
from isthmus.core.money import Usage
from isthmus.core.tracing.base import Value
from isthmus.edge.leg import Leg, LegEnd
from isthmus.edge.screen import Look
from isthmus.edge.trail import Trail

Told = dict[str, Value | None]

_MS_PER_S: Final = 1000


def whole(trail: Trail) -> Told:
    """A request, when it has ended."""
    request = trail.request
    ttft_ms = trail.ttft_ms
    return {
        **_who(trail.route, trail.model, trail.usage),
        "gen_ai.request.model": request.model or None,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.temperature": request.sampling.temperature,
        "gen_ai.request.stream": trail.streams,
        "gen_ai.response.time_to_first_chunk": None if ttft_ms is None else ttft_ms / _MS_PER_S,
        "isthmus.request_id": request.request_id,
        "isthmus.route": trail.route.value,
        "isthmus.reasons": [reason.value for reason in trail.reasons],
        "isthmus.privacy_class": trail.privacy_class.value,
        "isthmus.status": trail.status.value,
        "isthmus.price_micro_usd": trail.price_micro_usd,
        "isthmus.saved_micro_usd": trail.saved_micro_usd,
        "isthmus.legs": len(trail.legs),
    }


def scanned(look: Look) -> Told:
    """What a scan found, as counts."""
    labels = look.found.labels
    return {
        "isthmus.privacy_class": look.found.privacy_class.value,
        "isthmus.privacy_policy": look.policy.name,
        "isthmus.privacy_labels": sorted(labels),
        "isthmus.privacy_values": sum(labels.values()),
    }


def decided(decision: Decision) -> Told:
    """A decision: where to, and why."""
    return {
        "isthmus.route": decision.target.value,
        "isthmus.reasons": [reason.value for reason in decision.reasons],
        "isthmus.race": bool(decision.race),
        **{f"isthmus.score.{name}": score for name, score in decision.scores.items()},
    }


def of_leg(leg: Leg, gateway: str) -> Told:
    """One tier's work on an answer, when it has ended."""
    ttft_ms = leg.ttft_ms
    return {
        **_who(leg.target, leg.model, leg.usage),
        **(_server(gateway) if leg.target is Target.CLOUD else {}),
        "gen_ai.response.time_to_first_chunk": None if ttft_ms is None else ttft_ms / _MS_PER_S,
        # Cut off from outside, which nobody has noted yet.
        "isthmus.end": (LegEnd.STOPPED if leg.end is LegEnd.RUNNING else leg.end).value,
        "isthmus.shown_tokens": leg.shown_tokens,
        "isthmus.sent_bytes": leg.sent_bytes,
        "isthmus.decode_backend": leg.decode_backend,
    }


def _who(target: Target, model: str, usage: Usage) -> Told:
    return {
        "gen_ai.operation.name": genai.CHAT,
        "gen_ai.provider.name": genai.PROVIDERS[target],
        "gen_ai.response.model": model or None,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }


def _server(gateway: str) -> Told:
    """Which of several replicas answered is in the trace of the gateway."""
    if "," in gateway or gateway.startswith("unix:"):
        return {"server.address": gateway}
    host, port = split(gateway)
    return {"server.address": host, "server.port": port}
