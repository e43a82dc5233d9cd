"""The router's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

from isthmus.core.errors import ConfigError
from isthmus.core.money import MICRO_USD_PER_USD
from isthmus.router.doubt.handover import CascadeConfig
from isthmus.router.presets import CloudUse, Preset, Weights


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """The most that may be paid to the cloud, in dollars. None: no such limit.

    A day and a month begin at midnight in `timezone`.
    """

    request_usd: Decimal | None = None
    day_usd: Decimal | None = None
    month_usd: Decimal | None = None
    timezone: str = "UTC"
    """A name of the IANA's (`Asia/Shanghai`)."""
    longest_answer_tokens: int = 4096
    """How long a cloud's answer may become when the request does not say and there is a limit:
    what is set aside for it before the call."""

    def __post_init__(self) -> None:
        for name in ("request_usd", "day_usd", "month_usd"):
            limit = getattr(self, name)
            if limit is not None and not (limit.is_finite() and limit >= 0):
                raise ConfigError("must be at least 0 dollars", field=f"router.budget.{name}")
        if self.longest_answer_tokens < 1:
            raise ConfigError(
                "must be at least 1 token", field="router.budget.longest_answer_tokens"
            )
        try:
            _ = self.zone
        except (OSError, ValueError, KeyError):
            raise ConfigError(
                "is no time zone that is known here (Asia/Shanghai, Europe/Berlin, UTC)",
                field="router.budget.timezone",
            ) from None

    @property
    def zone(self) -> tzinfo:
        """Whose midnight counts."""
        # Known without a data base of zones, which not every device has.
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def micro_usd(self, period: str) -> int | None:
        """The limit of `request`, `day` or `month`, rounded down."""
        limit: Decimal | None = getattr(self, f"{period}_usd")
        return None if limit is None else int(limit * MICRO_USD_PER_USD)


_WORTHS = tuple(each.name for each in fields(Weights))
"""What a preset sets, and a number of one's own stands over."""


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """What the policy may be tuned with. Raises `ConfigError` with the field when out of range."""

    preset: Preset = Preset.BALANCED
    """`saver`, `balanced`, `best`: how much quality is worth. `private`: the cloud only for what
    the device cannot do, and for requests that prefer it. `offline`: nothing leaves."""
    good_answer_usd: float | None = None
    """What a good answer in the place of a bad one is worth: the one number that says how much
    quality is worth. None: the preset's, as with the next four."""
    second_usd: float | None = None
    """What a second less of waiting is worth."""
    battery_percent_usd: float | None = None
    """What a hundredth of the full battery is worth; more the emptier it is."""
    leave_usd: float | None = None
    """What it is worth that a request stays on the device."""
    unpriced_usd: float | None = None
    """What an answer of a cloud that told no price is taken to cost."""

    max_cloud_share: float | None = None
    """A target in the place of worths: at most this share of requests goes to the cloud."""
    min_quality_share: float | None = None
    """A target in the place of worths: at least this share of the cloud's quality is kept."""
    threshold: float | None = None
    """The gain in quality from which on the cloud answers, in the place of worths. What
    `isthmus route calibrate` makes of a target; -1 escalates everything, above 1 nothing."""
    threshold_source: str = ""
    """Where `threshold` comes from (file, rows, date): for people, shown where it decides."""

    uncalibrated_trust: float = 0.5
    """How much of an estimated gain is believed (0 to 1) when nobody calibrated the estimate for
    this pair of models."""
    ttft_slo_ms: float | None = None
    """The promised time to the first token for requests that bring no promise of their own."""
    race: bool = True
    """Whether both tiers may start when a promise is at risk."""
    reading_tokens_per_s: float = 20.0
    """How quickly a person reads: what comes faster than that saves nobody time."""
    answer_tokens: int = 256
    """The length that an answer is taken to have, in tokens, when the request sets no limit.

    Against limits of price always; for what it is worth until there were answers to tell from."""
    answer_reserve_tokens: int = 64
    """What must be left of a context for the answer, in tokens, when the request sets no limit."""

    battery_floor: float = 0.15
    """Below this share of a battery that is not being charged, the cloud answers what it may."""
    max_temperature_c: float = 90.0
    """Above this the processor is too hot to work on."""
    max_battery_temperature_c: float = 45.0
    """Above this the battery is."""
    inference_watts: float = 5.0
    """What the device draws for an answer beyond what it draws at rest."""
    radio_joules: float = 3.0
    """What the device spends on the network for an answer of the cloud."""
    battery_wh: float = 15.0
    """The battery's capacity, for devices that do not tell."""

    feedback_step: float = 0.02
    """The part of one judged answer's error that is learnt; 0: nothing is."""
    feedback_bound: float = 0.15
    """The most that judged answers may add to, or take from, a tier's expected quality."""
    shadow_share: float = 0.0
    """The share of requests, of those in which nothing sensitive was found, that the other tier
    answers too, to watch drift. That costs what its answers cost, and lets a share of what would
    have stayed leave the device. Off by default."""

    budget: BudgetLimits = field(default_factory=BudgetLimits)

    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    """When the device's answer is doubted while it is made, and handed over."""

    def __post_init__(self) -> None:
        for name in _WORTHS:
            self._check(name, 0.0, 1e6)
        for name in ("max_cloud_share", "min_quality_share", "uncalibrated_trust"):
            self._check(name, 0.0, 1.0)
        for name in ("feedback_step", "feedback_bound", "shadow_share"):
            self._check(name, 0.0, 1.0)
        self._check("threshold", -2.0, 2.0)
        self._check("battery_floor", 0.0, 0.95)
        for name in ("max_temperature_c", "max_battery_temperature_c"):
            self._check(name, 0.0, 200.0)
        for name in ("inference_watts", "radio_joules"):
            self._check(name, 0.0, 1e6)
        for name in ("ttft_slo_ms", "reading_tokens_per_s", "battery_wh"):
            self._check(name, 1e-3, 1e9)
        for name in ("answer_tokens", "answer_reserve_tokens"):
            self._check(name, 1, 1e9)
        if self.max_cloud_share is not None and self.min_quality_share is not None:
            raise ConfigError(
                "cannot be given together with router.min_quality_share: one target at a time",
                field="router.max_cloud_share",
            )

    def _check(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"must be from {least:g} to {most:g}", field=f"router.{name}")

    @property
    def weights(self) -> Weights:
        """What things are worth: the preset's, where no number of its own stands over it."""
        base = self.preset.weights
        own = {name: value for name in _WORTHS if (value := getattr(self, name)) is not None}
        return replace(base, **own) if own else base

    @property
    def cloud_use(self) -> CloudUse:
        """When requests leave that do not ask for the cloud themselves."""
        return self.preset.cloud_use

    @property
    def target(self) -> str | None:
        """The target that was set, as `name=share`."""
        for name in ("max_cloud_share", "min_quality_share"):
            share = getattr(self, name)
            if share is not None and math.isfinite(share):
                return f"{name}={share:g}"
        return None
