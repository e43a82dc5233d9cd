"""Where a request goes and why, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.core.chat import PrivacyClass
from isthmus.core.money import Usage


class Target(StrEnum):
    """The two tiers."""

    EDGE = "edge"
    CLOUD = "cloud"

    @property
    def other(self) -> Target:
        """The other tier."""
        return Target.CLOUD if self is Target.EDGE else Target.EDGE


class Reason(StrEnum):
    """Why a request went where it went. Stable: dashboards and tests read them."""

    FORCED_EDGE = "forced_edge"
    """The request, or the preset, allows the device only."""
    FORCED_CLOUD = "forced_cloud"
    """The request allows the cloud only."""
    PREFERRED_EDGE = "preferred_edge"
    """The request, or the preset, prefers the device."""
    PREFERRED_CLOUD = "preferred_cloud"
    """The request prefers the cloud."""
    PRIVACY_LOCAL_ONLY = "privacy_local_only"
    """Something in the conversation must not leave the device."""
    PRIVACY_SCAN_FAILED = "privacy_scan_failed"
    """The scan did not finish, so everything stays."""
    PRIVACY_NOT_REDACTABLE = "privacy_not_redactable"
    """A value may leave as a placeholder alone, and none can stand for it: it is in a name or an
    id, or it is the question itself."""
    PRIVACY_NO_CONSENT = "privacy_no_consent"
    """Nobody has consented to the use of the cloud, or the consent was revoked."""
    PRIVACY_REDACTED = "privacy_redacted"
    """Placeholders left in the place of values."""
    PRIVACY_BLOCKED = "privacy_blocked"
    """The last look at the bytes found a value in them: nothing left."""
    CLOUD_OFFLINE = "cloud_offline"
    """No gateway is configured or none can be reached."""
    BREAKER_OPEN = "breaker_open"
    """The gateway failed too often of late."""
    EDGE_UNAVAILABLE = "edge_unavailable"
    """The device has no model loaded, or it failed."""
    CONTEXT_TOO_LONG_FOR_EDGE = "context_too_long_for_edge"
    """The conversation does not fit the device's model."""
    CONTEXT_TOO_LONG_FOR_CLOUD = "context_too_long_for_cloud"
    """The conversation does not fit the cloud's model."""
    CAPABILITY_MISSING_ON_EDGE = "capability_missing_on_edge"
    """The request needs what the device cannot do (tools, images, a JSON schema)."""
    CAPABILITY_MISSING_IN_CLOUD = "capability_missing_in_cloud"
    """The request needs what the cloud's model cannot do."""
    PRICE_ABOVE_LIMIT = "price_above_limit"
    """The cloud would cost more than the request allows."""
    BUDGET_SPENT = "budget_spent"
    """The budget of the day or of the month has not enough left for this request."""
    BATTERY_LOW = "battery_low"
    """The device's battery is below its floor, and it is not being charged."""
    DEVICE_HOT = "device_hot"
    """The device is hotter than it should work."""
    LATENCY_SLO = "latency_slo"
    """Only this tier is expected to keep the promised time to the first token."""
    VALUE_ON_EDGE = "value_on_edge"
    """The device's answer is worth more, once price, time and energy are paid."""
    VALUE_IN_CLOUD = "value_in_cloud"
    """The cloud's answer is worth more, once price, time and energy are paid."""
    EASY = "easy"
    """What the cloud's answer is expected to gain is below the threshold of a target."""
    HARD = "hard"
    """What the cloud's answer is expected to gain reaches the threshold of a target."""
    UNCALIBRATED = "uncalibrated"
    """Nobody calibrated the estimate for this pair of models: it is believed in part alone."""
    NO_THRESHOLD = "no_threshold"
    """A target was set, and nobody made a threshold of it yet: what things are worth decided."""
    BUDGET_PACE = "budget_pace"
    """Spending ran ahead of its pace: at the plain price the cloud would have been chosen."""
    STICKY_SESSION = "sticky_session"
    """The conversation stays where its cache is: moving it would cost more than it gains."""
    RACE = "race"
    """The promised time to the first token is at risk: both tiers may start."""
    SHADOW = "shadow"
    """Nobody waits for this answer: it is compared with the other tier's, to watch drift."""
    DOUBT_AFTER_PREFILL = "doubt_after_prefill"
    """The device had read the prompt and doubted its own answer: the cloud gave it instead."""
    DOUBT_WHILE_DECODING = "doubt_while_decoding"
    """The device's tokens became too unlikely: the cloud went on from the part that stands."""
    REPETITION = "repetition"
    """The device went round in circles: the cloud went on from the part that stands."""
    SAMPLES_DISAGREE = "samples_disagree"
    """The device answered otherwise when it was asked again: the cloud gave the answer."""
    BROKEN_JSON = "broken_json"
    """The device lost the form that was asked for: the cloud gave the answer."""
    FELL_BACK = "fell_back"
    """The tier that was chosen failed before its first token; the other one answered."""
    HANDED_OVER = "handed_over"
    """In the middle of the answer, by a failure or a doubt, the other tier went on from there."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A target with everything that led to it, so that it can be explained and replayed."""

    target: Target
    reasons: tuple[Reason, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    fallback_allowed: bool = True
    """Whether the other tier may answer when the target fails."""
    race: bool = False
    """Whether both tiers may start at once, because the promised time to the first token is at
    risk: the first to show a piece of its answer gives the whole of it, the other is cancelled,
    and what the cloud computed is paid for either way. True only with `fallback_allowed`; `target`
    is the tier to start when they cannot both, and the one that wins a tie."""


class Status(StrEnum):
    """How a request ended."""

    OK = "ok"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request. No text of the user's: this is stored and sent."""

    request_id: str
    at_unix_s: float
    route: Target
    reasons: tuple[Reason, ...]
    status: Status
    privacy_class: PrivacyClass
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    total_ms: float = 0.0
    price_micro_usd: int = 0
    saved_micro_usd: int = 0
    error_kind: str = ""
    expected_quality: float | None = None
    """How probably the answer of `route` was good enough, as the decision took it."""
    agreement: float | None = None
    """Of a second answer (`Reason.SHADOW`): how alike it and the first one are, 0 to 1."""
    regret_micro_usd: float | None = None
    """Of a second answer: by how much `route` was worth more than the tier that was chosen."""
