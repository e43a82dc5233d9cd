"""What devices report, checked: forms and ranges first, so that no figure can spoil a series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from isthmus.cloud.ledger.base import Acknowledged
from isthmus.core import wire
from isthmus.core.decision import Outcome
from isthmus.core.errors import InvalidRequest
from isthmus.core.money import Usage
from isthmus.v1 import gateway_pb2

MAX_ROWS: Final = 1_000
_MAX_ID: Final = 256
_MAX_REASONS: Final = 64
_MAX_TOKENS: Final = 1 << 40
_MAX_MS: Final = 1e10
_MAX_MICRO_USD: Final = 1 << 50


def outcomes_of(message: gateway_pb2.ReportOutcomesRequest) -> list[Outcome]:
    """The outcomes of a batch, each request once. Raises `InvalidRequest` that names the row."""
    _check_length(message.outcomes, "outcomes")
    found: dict[str, Outcome] = {}
    for number, one in enumerate(message.outcomes):
        field = f"outcomes[{number}]"
        if len(one.reasons) > _MAX_REASONS:
            raise InvalidRequest(f"{field}.reasons are too many", field=f"{field}.reasons")
        outcome = wire.outcome_from_wire(one, field)
        _check_id(outcome.request_id, field)
        _check_usage(outcome.usage, f"{field}.usage")
        for name in ("ttft_ms", "tpot_ms", "total_ms"):
            value = getattr(outcome, name)
            if value is not None and not 0 <= value <= _MAX_MS:
                raise InvalidRequest(f"{field}.{name} is no time", field=f"{field}.{name}")
        for name in ("expected_quality", "agreement"):
            value = getattr(outcome, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidRequest(f"{field}.{name} is no share", field=f"{field}.{name}")
        for name in ("price_micro_usd", "saved_micro_usd", "regret_micro_usd"):
            if not 0 <= (getattr(outcome, name) or 0) <= _MAX_MICRO_USD:
                raise InvalidRequest(f"{field}.{name} is no price", field=f"{field}.{name}")
        if not math.isfinite(outcome.at_unix_s):
            raise InvalidRequest(f"{field}.at_unix_s is no time", field=f"{field}.at_unix_s")
        found.setdefault(outcome.request_id, outcome)
    return list(found.values())


def acknowledged_of(message: gateway_pb2.ReportOutcomesRequest) -> list[Acknowledged]:
    """The acknowledgements of a batch, the last of each request. Raises `InvalidRequest`."""
    _check_length(message.acknowledgements, "acknowledgements")
    found: dict[str, Acknowledged] = {}
    for number, one in enumerate(message.acknowledgements):
        field = f"acknowledgements[{number}]"
        _check_id(one.request_id, field)
        received = wire.usage_from_wire(one.received)
        _check_usage(received, f"{field}.received")
        found[one.request_id] = Acknowledged(one.request_id, received)
    return list(found.values())


def _check_length(rows: Sequence[object], field: str) -> None:
    if len(rows) > MAX_ROWS:
        raise InvalidRequest(f"{field} must be at most {MAX_ROWS} a batch", field=field)


def _check_id(request_id: str, field: str) -> None:
    # PostgreSQL has no column for a NUL.
    if not 0 < len(request_id) <= _MAX_ID or "\0" in request_id:
        raise InvalidRequest(
            f"{field}.request_id must have 1 to {_MAX_ID} characters, none of them NUL",
            field=f"{field}.request_id",
        )


def _check_usage(usage: Usage, field: str) -> None:
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        if getattr(usage, name) > _MAX_TOKENS:
            raise InvalidRequest(f"{field}.{name} is no count", field=f"{field}.{name}")
