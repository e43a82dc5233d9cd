"""The decision. A pure function of the signals and the settings: explained, replayed, tested.

1. The gates (`isthmus.router.gates`), in their order: what they leave is all there is to choose
   from. When they shut both tiers out the device is named, whose engine then says what is wrong:
   nothing leaves and nothing is paid for a request that cannot be served.
2. The preferred route, by the request or by the preset `private` (`preferred_edge`,
   `preferred_cloud`).
3. The promised time to the first token, when one tier keeps it and the other does not
   (`latency_slo`).
4. The larger of *value of the expected quality - price - value of time - value of energy*
   (`value_on_edge`, `value_in_cloud`; `isthmus.router.value` has the terms), or, where a target was
   calibrated, the gain in quality against its threshold (`easy`, `hard`).

Further reasons say what tipped it: `uncalibrated`, `no_threshold` (of a target), `budget_pace`,
`sticky_session`; `race` that both tiers may start; `privacy_redacted` that placeholders leave in
the place of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from isthmus.core.chat import PrivacyClass, RouteMode
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.errors import PolicyRefused
from isthmus.core.money import MICRO_USD_PER_USD
from isthmus.router.appraisal import Appraisal, appraise, expected_tokens
from isthmus.router.config import RouterConfig
from isthmus.router.gates import FLOORS, Gate, cloud_cost_micro_usd, needed_tokens, shut_gates
from isthmus.router.presets import CloudUse
from isthmus.router.quality import Basis
from isthmus.router.signals import Signals

MAX_RACE_SHADOW_PRICE = 1.0
"""A race pays the cloud for what may not be used: only while the price is felt at most twice."""


def decide(signals: Signals, config: RouterConfig) -> Decision:
    """Where the request goes. Raises `PolicyRefused` alone: when what it forces is forbidden.

    `scores` and `thresholds` of the decision carry every term that was, or would have been,
    compared: each tier's value with its parts, the gain in quality against the gain that would be
    needed, tokens against contexts, prices against limits, times against promises.
    """
    gates = shut_gates(signals, config)
    appraisal = appraise(signals, config)
    cloud_shut = [gate.reason for gate in gates if gate.shut is Target.CLOUD]
    edge_shut = [gate.reason for gate in gates if gate.shut is Target.EDGE]
    if signals.preference.mode is RouteMode.ONLY_IN_CLOUD:
        _refuse(cloud_shut)
        target, reasons = Target.CLOUD, _reasons(gates)
    elif cloud_shut:
        target, reasons = Target.EDGE, _reasons(gates, leave_out=FLOORS)
    elif edge_shut:
        target, reasons = Target.CLOUD, edge_shut
    else:
        target, reasons = _choice(signals, config, appraisal)
    # A device below its floors can answer, and does before nobody does.
    fallback = not cloud_shut and FLOORS.issuperset(edge_shut)
    race = fallback and not edge_shut and _races(signals, config, appraisal)
    if race:
        reasons = [*reasons, Reason.RACE]
    if target is Target.CLOUD and signals.privacy.privacy_class is PrivacyClass.REDACTED:
        reasons = [*reasons, Reason.PRIVACY_REDACTED]
    return Decision(
        target,
        tuple(reasons),
        dict(_scores(signals, config, appraisal)),
        dict(_thresholds(signals, config, appraisal)),
        fallback,
        race,
    )


def _reasons(gates: tuple[Gate, ...], leave_out: AbstractSet[Reason] = frozenset()) -> list[Reason]:
    return [gate.reason for gate in gates if gate.reason not in leave_out]


_PRIVATE = (
    "the request allows only the cloud, and something in its conversation must not leave "
    "the device: allow the device (isthmus.route), or take the private value out"
)
_REFUSALS = {
    Reason.PRIVACY_LOCAL_ONLY: _PRIVATE,
    Reason.PRIVACY_SCAN_FAILED: _PRIVATE,
    Reason.PRIVACY_NOT_REDACTABLE: _PRIVATE,
    Reason.PRIVACY_NO_CONSENT: (
        "the request allows only the cloud, to whose use nobody has consented: "
        "isthmus privacy consent --grant, or allow the device (isthmus.route)"
    ),
    Reason.FORCED_EDGE: (
        "the request allows only the cloud, and the settings allow only the device "
        "(router.preset = offline): choose another preset, or allow the device (isthmus.route)"
    ),
    Reason.PRICE_ABOVE_LIMIT: (
        "the request allows only the cloud, whose price is above the limit for one request: raise "
        "isthmus.max_price_usd or router.budget.request_usd, lower max_tokens, or allow the device"
    ),
    Reason.BUDGET_SPENT: (
        "the request allows only the cloud, and not enough is left of the budget: raise "
        "router.budget, wait for its next day or month, or allow the device (isthmus.route)"
    ),
}
"""What is said when the cloud alone is allowed, and forbidden."""


def _refuse(cloud_shut: list[Reason]) -> None:
    """Raise for what is forbidden; what merely fails, the cloud says itself."""
    for reason in cloud_shut:
        if reason in _REFUSALS:
            price = reason is Reason.PRICE_ABOVE_LIMIT
            field = "isthmus.max_price_usd" if price else "isthmus.route"
            raise PolicyRefused(_REFUSALS[reason], reason=reason.value, field=field)


def _choice(
    signals: Signals, config: RouterConfig, appraisal: Appraisal
) -> tuple[Target, list[Reason]]:
    preferred = _preferred(signals, config)
    if preferred is Target.EDGE:
        return Target.EDGE, [Reason.PREFERRED_EDGE]
    if preferred is Target.CLOUD:
        return Target.CLOUD, [Reason.PREFERRED_CLOUD]
    edge_keeps, cloud_keeps = _keep_promise(signals, config)
    if edge_keeps is not None and edge_keeps != cloud_keeps:
        return (Target.EDGE if edge_keeps else Target.CLOUD), [Reason.LATENCY_SLO]
    if config.threshold is not None:
        hard = signals.quality.escalate >= config.threshold
        reasons = [Reason.HARD if hard else Reason.EASY]
        target = Target.CLOUD if hard else Target.EDGE
    else:
        target = Target.CLOUD if appraisal.prefers_cloud else Target.EDGE
        reasons = list(_reasons_of_value(target, appraisal))
    if signals.quality.reason is Basis.UNCALIBRATED:
        reasons.append(Reason.UNCALIBRATED)
    if config.target is not None and config.threshold is None:
        reasons.append(Reason.NO_THRESHOLD)
    return target, reasons


def _preferred(signals: Signals, config: RouterConfig) -> Target | None:
    match signals.preference.mode:
        case RouteMode.PREFER_ON_DEVICE:
            return Target.EDGE
        case RouteMode.PREFER_IN_CLOUD:
            return Target.CLOUD
        case _:
            return Target.EDGE if config.cloud_use is CloudUse.WHEN_NEEDED else None


def _reasons_of_value(target: Target, appraisal: Appraisal) -> Iterator[Reason]:
    cloud = target is Target.CLOUD
    yield Reason.VALUE_IN_CLOUD if cloud else Reason.VALUE_ON_EDGE
    if appraisal.prefers_cloud_at_plain_price != cloud:
        yield Reason.BUDGET_PACE
    if appraisal.prefers_cloud_without_caches != cloud:
        yield Reason.STICKY_SESSION


def _slo_ms(signals: Signals, config: RouterConfig) -> float | None:
    """What is left of the promised time to the first token."""
    own = signals.preference.ttft_slo_ms
    slo_ms = config.ttft_slo_ms if own is None else own
    return None if slo_ms is None else slo_ms - signals.elapsed_ms


def _keep_promise(signals: Signals, config: RouterConfig) -> tuple[bool, bool] | tuple[None, None]:
    """Whether each tier keeps the promise nearly always; None where that is not known."""
    slo_ms = _slo_ms(signals, config)
    edge_ms, cloud_ms = signals.edge.latency.ttft_p95_ms, signals.cloud.latency.ttft_p95_ms
    if slo_ms is None or edge_ms is None or cloud_ms is None:
        return None, None
    return edge_ms <= slo_ms, cloud_ms <= slo_ms


def _races(signals: Signals, config: RouterConfig, appraisal: Appraisal) -> bool:
    """Whether both tiers may start: neither keeps the promise for sure, one of them may well."""
    slo_ms = _slo_ms(signals, config)
    edge_ms, cloud_ms = signals.edge.latency.ttft_p50_ms, signals.cloud.latency.ttft_p50_ms
    if not config.race or _preferred(signals, config) is not None:
        return False
    if slo_ms is None or edge_ms is None or cloud_ms is None:
        return False
    at_risk = _keep_promise(signals, config) == (False, False)
    affordable = appraisal.shadow_price <= MAX_RACE_SHADOW_PRICE
    return at_risk and affordable and min(edge_ms, cloud_ms) <= slo_ms


def _scores(
    signals: Signals, config: RouterConfig, appraisal: Appraisal
) -> Iterator[tuple[str, float]]:
    quality, edge, cloud, device = (
        signals.quality,
        signals.edge.latency,
        signals.cloud.latency,
        signals.device,
    )
    yield "gain", quality.escalate if config.threshold is not None else appraisal.gain
    yield "edge.quality", quality.edge
    yield "cloud.quality", quality.cloud
    yield from appraisal.terms()
    yield from ((f"quality.{name}", term) for name, term in quality.terms)
    yield "answer_tokens", float(expected_tokens(signals, config))
    yield "tokens_needed", float(needed_tokens(signals, config))
    yield "cloud.price_at_most_micro_usd", float(cloud_cost_micro_usd(signals, config))
    measured = {
        "edge.ttft_p50_ms": edge.ttft_p50_ms,
        "edge.ttft_p95_ms": edge.ttft_p95_ms,
        "edge.tpot_p50_ms": edge.tpot_p50_ms,
        "cloud.ttft_p50_ms": cloud.ttft_p50_ms,
        "cloud.ttft_p95_ms": cloud.ttft_p95_ms,
        "cloud.tpot_p50_ms": cloud.tpot_p50_ms,
        "cloud.rtt_ms": signals.cloud.rtt_ms,
        "battery": device.battery,
        "temperature_c": device.temperature_c,
        "battery_temperature_c": device.battery_temperature_c,
    }
    yield from ((name, float(figure)) for name, figure in measured.items() if figure is not None)
    if signals.budget.left_micro_usd is not None:
        yield "shadow_price", appraisal.shadow_price


def _thresholds(
    signals: Signals, config: RouterConfig, appraisal: Appraisal
) -> Iterator[tuple[str, float]]:
    needed = appraisal.required_gain(config.weights.good_answer_usd * MICRO_USD_PER_USD)
    limits = {
        "gain": needed if config.threshold is None else config.threshold,
        "edge_context_tokens": signals.edge.context_tokens,
        "cloud_context_tokens": signals.cloud.context_tokens,
        "max_price_usd": signals.preference.max_price_usd,
        "budget.request_micro_usd": signals.budget.request_micro_usd,
        "budget.left_micro_usd": signals.budget.left_micro_usd,
        "ttft_slo_ms": _slo_ms(signals, config),
        "battery_floor": config.battery_floor if signals.device.battery is not None else None,
    }
    yield from ((name, float(limit)) for name, limit in limits.items() if limit is not None)
