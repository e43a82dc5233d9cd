"""When a tier fails: whether the other one may take over, and what is told of it."""

from __future__ import annotations

import logging
from typing import Final

from isthmus.core.decision import Reason, Target
from isthmus.core.errors import (
    ContextTooLong,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    PolicyRefused,
)
from isthmus.edge.metrics import Metrics
from isthmus.edge.trail import Trail

log = logging.getLogger(__name__)

_AFTER_THE_DECISION: Final = {Reason.BUDGET_SPENT, Reason.PRICE_ABOVE_LIMIT}
"""What money may refuse when a leg begins: other requests were paid in the meantime, or what would
leave became longer than what was decided on."""


def may_change_tier(trail: Trail, failure: IsthmusError) -> bool:
    """Whether the request and its decision let another tier make `failure` good."""
    decision = trail.decision
    callers_fault = isinstance(failure, InvalidRequest) and not isinstance(failure, ContextTooLong)
    return (
        decision is not None
        and decision.fallback_allowed
        and not callers_fault
        and not trail.request.deadline.expired
        and not trail.has_tool_calls
    )


def note_change(trail: Trail, metrics: Metrics, source: Target, failure: IsthmusError) -> None:
    """The other tier makes good what failed at `source`, or was refused after the decision."""
    if isinstance(failure, PolicyRefused) and failure.reason in _AFTER_THE_DECISION:
        # Nothing failed. Said before the first token alone: afterwards the answer is cut short.
        trail.note(Reason(failure.reason))
        log.info("%s after the decision: the %s answers", failure.reason, source.other)
        return
    trail.error_kind = failure.kind
    if isinstance(failure, ContextTooLong) and source is Target.EDGE:
        trail.note(Reason.CONTEXT_TOO_LONG_FOR_EDGE)
    elif isinstance(failure, NotSupported) and source is Target.EDGE:
        trail.note(Reason.CAPABILITY_MISSING_ON_EDGE)
    trail.note(Reason.HANDED_OVER if trail.shown else Reason.FELL_BACK)
    stage = "mid_answer" if trail.shown else "before_first_token"
    metrics.fell_back(source, stage=stage, error=failure.kind)
    log.warning("%s failed (%s, %s): %s goes on", source, failure.kind, stage, source.other)
