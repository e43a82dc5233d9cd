"""What rules a tier out, whatever an answer of it would be worth. In a fixed order.

1. privacy: what is sensitive, or was not scanned to the end, stays (`privacy_local_only`,
   `privacy_scan_failed`), as does what would have to be redacted and cannot be
   (`privacy_not_redactable`)
2. consent: nobody has consented to the use of the cloud (`privacy_no_consent`)
3. presence: the cloud is offline (`cloud_offline`) or its breaker open (`breaker_open`), the device
   has no model (`edge_unavailable`)
4. the context of each tier (`context_too_long_for_cloud`, `context_too_long_for_edge`)
5. what each tier can do: images, tools, JSON (`capability_missing_in_cloud`,
   `capability_missing_on_edge`)
6. the forced route, by the request or by the preset `offline` (`forced_edge`, `forced_cloud`)
7. money: the request's own limit (`price_above_limit`), the budget (`budget_spent`)
8. the floors of the device: its battery (`battery_low`), its heat (`device_hot`). They make room
   for the cloud; where there is no cloud, the device answers all the same
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.core.chat import PrivacyClass, RouteMode
from isthmus.core.decision import Reason, Target
from isthmus.core.money import MICRO_USD_PER_USD, Usage
from isthmus.privacy.scan import ScanResult
from isthmus.router.config import RouterConfig
from isthmus.router.presets import CloudUse
from isthmus.router.signals import Signals

MAY_LEAVE = {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}
FLOORS = {Reason.BATTERY_LOW, Reason.DEVICE_HOT}
"""Reasons for which the device should not answer, though it can."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A tier that is ruled out, and why."""

    shut: Target
    reason: Reason


def shut_gates(signals: Signals, config: RouterConfig) -> tuple[Gate, ...]:
    """Every gate that is shut for this request, in their order."""
    return tuple(_gates(signals, config))


def _gates(signals: Signals, config: RouterConfig) -> Iterator[Gate]:
    edge, cloud, mode = signals.edge, signals.cloud, signals.preference.mode
    if signals.privacy.privacy_class not in MAY_LEAVE:
        yield Gate(Target.CLOUD, privacy_reason(signals.privacy))
    if not cloud.consented:
        yield Gate(Target.CLOUD, Reason.PRIVACY_NO_CONSENT)
    if not cloud.available:
        yield Gate(Target.CLOUD, Reason.CLOUD_OFFLINE)
    if cloud.breaker_open:
        yield Gate(Target.CLOUD, Reason.BREAKER_OPEN)
    if not edge.available:
        yield Gate(Target.EDGE, Reason.EDGE_UNAVAILABLE)
    needed = needed_tokens(signals, config)
    if cloud.context_tokens is not None and needed > cloud.context_tokens:
        yield Gate(Target.CLOUD, Reason.CONTEXT_TOO_LONG_FOR_CLOUD)
    if needed > edge.context_tokens:
        yield Gate(Target.EDGE, Reason.CONTEXT_TOO_LONG_FOR_EDGE)
    if cloud.capabilities is not None and not signals.needs <= cloud.capabilities:
        yield Gate(Target.CLOUD, Reason.CAPABILITY_MISSING_IN_CLOUD)
    if edge.available and not signals.needs <= edge.capabilities:
        yield Gate(Target.EDGE, Reason.CAPABILITY_MISSING_ON_EDGE)
    if mode is RouteMode.ONLY_ON_DEVICE or config.cloud_use is CloudUse.NEVER:
        yield Gate(Target.CLOUD, Reason.FORCED_EDGE)
    if mode is RouteMode.ONLY_IN_CLOUD:
        yield Gate(Target.EDGE, Reason.FORCED_CLOUD)
    yield from _money(signals, config)
    yield from _floors(signals, config)


def _money(signals: Signals, config: RouterConfig) -> Iterator[Gate]:
    cost = cloud_cost_micro_usd(signals, config)
    limit = price_limit_micro_usd(signals)
    # Written so that a limit that is not a number counts as exceeded.
    if limit is not None and not cost <= limit:
        yield Gate(Target.CLOUD, Reason.PRICE_ABOVE_LIMIT)
    left = signals.budget.left_micro_usd
    if left is not None and cost > left:
        yield Gate(Target.CLOUD, Reason.BUDGET_SPENT)


def _floors(signals: Signals, config: RouterConfig) -> Iterator[Gate]:
    if config.cloud_use is not CloudUse.WHEN_WORTH_MORE:
        return  # a warm device is no reason to let out what was to stay
    device = signals.device
    if device.battery is not None and not device.charging and device.battery < config.battery_floor:
        yield Gate(Target.EDGE, Reason.BATTERY_LOW)
    heats = (
        (device.temperature_c, config.max_temperature_c),
        (device.battery_temperature_c, config.max_battery_temperature_c),
    )
    if device.throttled or any(heat is not None and heat > most for heat, most in heats):
        yield Gate(Target.EDGE, Reason.DEVICE_HOT)


def answer_tokens(signals: Signals, config: RouterConfig) -> int:
    """The tokens that the answer is taken to have when its price is held against a limit."""
    return config.answer_tokens if signals.max_tokens is None else signals.max_tokens


def needed_tokens(signals: Signals, config: RouterConfig) -> int:
    """The room that prompt and answer need in a context."""
    reserve = config.answer_reserve_tokens if signals.max_tokens is None else signals.max_tokens
    return signals.prompt_tokens + reserve


def cloud_cost_micro_usd(signals: Signals, config: RouterConfig) -> int:
    """What the cloud may cost for this request."""
    usage = Usage(signals.prompt_tokens, answer_tokens(signals, config))
    return signals.cloud.price.cost_micro_usd(usage)


def price_limit_micro_usd(signals: Signals) -> float | None:
    """The lower one of the request's own limit and of the budget's for one request."""
    own, general = signals.preference.max_price_usd, signals.budget.request_micro_usd
    if own is None:
        return general
    own_micro_usd = own * MICRO_USD_PER_USD
    # In this order what is not a number stays what it is.
    return own_micro_usd if general is None or not general < own_micro_usd else general


def privacy_reason(found: ScanResult) -> Reason:
    """Why a request with this result stays on the device."""
    if found.privacy_class is PrivacyClass.UNKNOWN:
        return Reason.PRIVACY_SCAN_FAILED
    return Reason.PRIVACY_LOCAL_ONLY if found.redactable else Reason.PRIVACY_NOT_REDACTABLE
