"""Outcomes for ledgers of tests: one answer of each tier, to be varied by `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import replace

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Outcome, Reason, Status, Target
from isthmus.core.money import Usage

ON_EDGE = Outcome(
    request_id="",
    at_unix_s=0.0,
    route=Target.EDGE,
    reasons=(Reason.VALUE_ON_EDGE,),
    status=Status.OK,
    privacy_class=PrivacyClass.PUBLIC,
    usage=Usage(10, 20),
    ttft_ms=50.0,
    tpot_ms=5.0,
    total_ms=150.0,
    saved_micro_usd=40,
)
IN_CLOUD = replace(
    ON_EDGE,
    route=Target.CLOUD,
    reasons=(Reason.VALUE_IN_CLOUD,),
    price_micro_usd=700,
    saved_micro_usd=0,
)
