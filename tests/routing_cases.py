"""Signals that the tests of the decision start from."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from isthmus.core.chat import PrivacyClass, RouteMode, RoutePreference
from isthmus.core.money import Price
from isthmus.privacy.scan import ScanResult
from isthmus.router.budget import BudgetState, PeriodState
from isthmus.router.latency import Prediction
from isthmus.router.quality import Basis, Quality
from isthmus.router.signals import CloudState, EdgeState, Signals

PUBLIC, REDACTED, SENSITIVE, UNKNOWN = (
    ScanResult(PrivacyClass.PUBLIC),
    ScanResult(PrivacyClass.REDACTED, {"EMAIL": 1}),
    ScanResult(PrivacyClass.SENSITIVE, {"EMAIL": 1}),
    ScanResult(PrivacyClass.UNKNOWN, failed=True),
)
EASY = Signals(RoutePreference(), PUBLIC, Quality(0.9, 0.92, Basis.CALIBRATED), prompt_tokens=100)
HARD = replace(EASY, quality=Quality(0.3, 0.9, Basis.CALIBRATED))
OFFLINE, BREAKER, NO_CONSENT, NO_EDGE = (
    CloudState(available=False),
    CloudState(breaker_open=True),
    CloudState(consented=False),
    EdgeState(available=False),
)
PRICED = CloudState(price=Price(Decimal(1), Decimal(2)))
"""100 tokens of prompt and 256 of answer cost 612 micro-dollars."""
SPENT = BudgetState(day=PeriodState(1000, 389, 0.5))
"""One micro-dollar short of that."""


def asking(mode: RouteMode, signals: Signals = EASY) -> Signals:
    """`signals` of a request for this route."""
    return replace(signals, preference=replace(signals.preference, mode=mode))


def taking(p50_ms: float, p95_ms: float | None = None, tpot_ms: float = 10) -> Prediction:
    """A tier that takes so long to its first token."""
    return Prediction(p50_ms, p95_ms or p50_ms, tpot_ms, prefill_ms_per_token=1.0)
