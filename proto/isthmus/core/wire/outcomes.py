"""What came of requests, on the wire."""

from __future__ import annotations

from typing import Final

from isthmus.core import chat
from isthmus.core.decision import Outcome, Reason
from isthmus.core.money import Usage
from isthmus.core.wire import enums
from isthmus.v1 import outcome_pb2

_OPTIONAL: Final = ("ttft_ms", "tpot_ms", "expected_quality", "agreement", "regret_micro_usd")


def outcome_to_wire(outcome: Outcome) -> outcome_pb2.Outcome:
    """The message for `outcome`."""
    return outcome_pb2.Outcome(
        request_id=outcome.request_id,
        at_unix_s=outcome.at_unix_s,
        route=enums.TARGETS[outcome.route],
        reasons=[reason.value for reason in outcome.reasons],
        status=enums.STATUSES[outcome.status],
        privacy_class=enums.PRIVACY_CLASSES[outcome.privacy_class],
        model=outcome.model,
        usage=usage_to_wire(outcome.usage),
        ttft_ms=outcome.ttft_ms,
        tpot_ms=outcome.tpot_ms,
        total_ms=outcome.total_ms,
        price_micro_usd=outcome.price_micro_usd,
        saved_micro_usd=outcome.saved_micro_usd,
        error_kind=outcome.error_kind,
        expected_quality=outcome.expected_quality,
        agreement=outcome.agreement,
        regret_micro_usd=outcome.regret_micro_usd,
    )


def outcome_from_wire(wire: outcome_pb2.Outcome, field: str = "outcome") -> Outcome:
    """The outcome of a message. A newer device's reasons that are not known here are left out."""
    known = {reason.value for reason in Reason}
    return Outcome(
        request_id=wire.request_id,
        at_unix_s=wire.at_unix_s,
        route=enums.name_of(enums.TARGETS, wire.route, f"{field}.route"),
        reasons=tuple(Reason(reason) for reason in wire.reasons if reason in known),
        status=enums.name_of(enums.STATUSES, wire.status, f"{field}.status"),
        privacy_class=enums.name_of(
            enums.PRIVACY_CLASSES,
            wire.privacy_class,
            f"{field}.privacy_class",
            chat.PrivacyClass.UNKNOWN,
        ),
        model=wire.model,
        usage=usage_from_wire(wire.usage),
        **{name: getattr(wire, name) for name in _OPTIONAL if wire.HasField(name)},
        total_ms=wire.total_ms,
        price_micro_usd=wire.price_micro_usd,
        saved_micro_usd=wire.saved_micro_usd,
        error_kind=wire.error_kind,
    )


def acknowledgement_to_wire(
    request_id: str, at_unix_s: float, model: str, received: Usage
) -> outcome_pb2.Acknowledgement:
    """The message for what a device received of the gateway's answers to one request."""
    return outcome_pb2.Acknowledgement(
        request_id=request_id, at_unix_s=at_unix_s, model=model, received=usage_to_wire(received)
    )


def usage_to_wire(usage: Usage) -> outcome_pb2.Usage:
    """The message for `usage`."""
    return outcome_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )


def usage_from_wire(wire: outcome_pb2.Usage) -> Usage:
    """The usage of a message."""
    return Usage(wire.prompt_tokens, wire.completion_tokens, wire.cached_tokens)
