"""The decision. A pure function of the signals and the settings: explained, replayed, tested.

The order, each step with its reason code (`isthmus.core.decision.Reason`):

1. privacy: what is sensitive, or was not scanned to the end, stays (`privacy_local_only`,
   `privacy_scan_failed`), as does what would have to be redacted and cannot be
   (`privacy_not_redactable`); a request that allows only the cloud is then refused. What leaves
   with placeholders in it says so (`privacy_redacted`)
2. the forced route (`forced_edge`, `forced_cloud`)
3. the gates, which rule a tier out: no consent to the use of the cloud (`privacy_no_consent`,
   which refuses a request that allows only the cloud), the cloud offline (`cloud_offline`), its
   breaker (`breaker_open`), the device without a model (`edge_unavailable`), the context of each
   tier (`context_too_long_for_edge`, `context_too_long_for_cloud`), what the device cannot do
   (`capability_missing_on_edge`), the price (`price_above_limit`)
4. the preferred route (`preferred_edge`, `preferred_cloud`)
5. the promised time to the first token, when one tier keeps it and the other does not
   (`latency_slo`)
6. the expected gain in quality against its threshold (`easy`, `hard`)

When the gates rule both tiers out the device is named, whose engine then says what is wrong:
nothing leaves and nothing is paid for a request that cannot be served.
"""

from __future__ import annotations

from isthmus.core.chat import PrivacyClass, RouteMode
from isthmus.core.decision import Decision, Reason, Target
from isthmus.core.errors import PolicyRefused
from isthmus.core.money import MICRO_USD_PER_USD, Usage, usd
from isthmus.privacy.scan import ScanResult
from isthmus.router.config import RouterConfig
from isthmus.router.signals import Signals

MAY_LEAVE = {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}


def decide(signals: Signals, config: RouterConfig) -> Decision:
    """Where the request goes. Raises `PolicyRefused` alone: when what it forces is forbidden.

    `scores` and `thresholds` of the decision carry every term that was, or would have been,
    compared: the expected quality with its parts, the tokens against each context, the price,
    the times.
    """
    mode = signals.preference.mode
    if signals.privacy.privacy_class not in MAY_LEAVE:
        return _local_only(signals, config)
    if mode is RouteMode.ONLY_ON_DEVICE:
        return _decision(signals, config, Target.EDGE, Reason.FORCED_EDGE)
    cloud_gates = _cloud_gates(signals, config)
    if mode is RouteMode.ONLY_IN_CLOUD:
        if Reason.PRIVACY_NO_CONSENT in cloud_gates:
            raise PolicyRefused(
                "the request allows only the cloud, to whose use nobody has consented: "
                "isthmus privacy consent --grant, or allow the device (isthmus.route)",
                reason=Reason.PRIVACY_NO_CONSENT.value,
                field="isthmus.route",
            )
        if Reason.PRICE_ABOVE_LIMIT in cloud_gates:
            raise PolicyRefused(
                "the request allows only the cloud, whose price is above its own limit: "
                "raise isthmus.max_price_usd, lower max_tokens, or allow the device",
                reason=Reason.PRICE_ABOVE_LIMIT.value,
                field="isthmus.max_price_usd",
            )
        return _decision(signals, config, Target.CLOUD, Reason.FORCED_CLOUD, *cloud_gates)
    edge_gates = _edge_gates(signals, config)
    if cloud_gates:
        return _decision(signals, config, Target.EDGE, *cloud_gates, *edge_gates)
    if edge_gates:
        return _decision(signals, config, Target.CLOUD, *edge_gates)
    target, reason = _choice(signals, config)
    return _decision(signals, config, target, reason, fallback_allowed=True)


def answer_tokens(signals: Signals, config: RouterConfig) -> int:
    """The tokens that the answer is taken to have when its price is estimated."""
    return config.answer_tokens if signals.max_tokens is None else signals.max_tokens


def needed_tokens(signals: Signals, config: RouterConfig) -> int:
    """The room that prompt and answer need in a context."""
    reserve = config.answer_reserve_tokens if signals.max_tokens is None else signals.max_tokens
    return signals.prompt_tokens + reserve


def cloud_cost_micro_usd(signals: Signals, config: RouterConfig) -> int:
    """What the cloud is expected to cost for this request."""
    usage = Usage(signals.prompt_tokens, answer_tokens(signals, config))
    return signals.cloud.price.cost_micro_usd(usage)


def privacy_reason(found: ScanResult) -> Reason:
    """Why a request with this result stays on the device."""
    if found.privacy_class is PrivacyClass.UNKNOWN:
        return Reason.PRIVACY_SCAN_FAILED
    return Reason.PRIVACY_LOCAL_ONLY if found.redactable else Reason.PRIVACY_NOT_REDACTABLE


def _local_only(signals: Signals, config: RouterConfig) -> Decision:
    mode = signals.preference.mode
    reason = privacy_reason(signals.privacy)
    if mode is RouteMode.ONLY_IN_CLOUD:
        raise PolicyRefused(
            "the request allows only the cloud, and something in its conversation must not leave "
            "the device: allow the device (isthmus.route), or take the private value out",
            reason=reason.value,
            field="isthmus.route",
        )
    reasons = [reason]
    if mode is RouteMode.ONLY_ON_DEVICE:
        reasons.append(Reason.FORCED_EDGE)
    return _decision(signals, config, Target.EDGE, *reasons)


def _cloud_gates(signals: Signals, config: RouterConfig) -> list[Reason]:
    cloud, limit_usd = signals.cloud, signals.preference.max_price_usd
    gates = []
    if not cloud.consented:
        gates.append(Reason.PRIVACY_NO_CONSENT)
    if not cloud.available:
        gates.append(Reason.CLOUD_OFFLINE)
    if cloud.breaker_open:
        gates.append(Reason.BREAKER_OPEN)
    if cloud.context_tokens is not None and needed_tokens(signals, config) > cloud.context_tokens:
        gates.append(Reason.CONTEXT_TOO_LONG_FOR_CLOUD)
    if limit_usd is not None:
        cost = cloud_cost_micro_usd(signals, config)
        # Written so that a limit that is not a number counts as exceeded.
        if not cost <= limit_usd * MICRO_USD_PER_USD:
            gates.append(Reason.PRICE_ABOVE_LIMIT)
    return gates


def _edge_gates(signals: Signals, config: RouterConfig) -> list[Reason]:
    edge = signals.edge
    gates = []
    if not edge.available:
        gates.append(Reason.EDGE_UNAVAILABLE)
    if needed_tokens(signals, config) > edge.context_tokens:
        gates.append(Reason.CONTEXT_TOO_LONG_FOR_EDGE)
    if not signals.needs <= edge.capabilities:
        gates.append(Reason.CAPABILITY_MISSING_ON_EDGE)
    return gates


def _choice(signals: Signals, config: RouterConfig) -> tuple[Target, Reason]:
    match signals.preference.mode:
        case RouteMode.PREFER_ON_DEVICE:
            return Target.EDGE, Reason.PREFERRED_EDGE
        case RouteMode.PREFER_IN_CLOUD:
            return Target.CLOUD, Reason.PREFERRED_CLOUD
        case _:
            pass
    slo_ms, edge_ms, cloud_ms = _ttft_ms(signals)
    if slo_ms is not None and edge_ms is not None and cloud_ms is not None:
        edge_keeps, cloud_keeps = edge_ms <= slo_ms, cloud_ms <= slo_ms
        if edge_keeps != cloud_keeps:
            return (Target.EDGE if edge_keeps else Target.CLOUD), Reason.LATENCY_SLO
    if signals.quality.escalate >= config.escalate_threshold:
        return Target.CLOUD, Reason.HARD
    return Target.EDGE, Reason.EASY


def _ttft_ms(signals: Signals) -> tuple[float | None, float | None, float | None]:
    """The promise and what each tier is expected to take; `None` where it is not known."""
    return signals.preference.ttft_slo_ms, signals.edge.ttft_ms, signals.cloud.ttft_ms


def _decision(
    signals: Signals,
    config: RouterConfig,
    target: Target,
    *reasons: Reason,
    fallback_allowed: bool = False,
) -> Decision:
    if target is Target.CLOUD and signals.privacy.privacy_class is PrivacyClass.REDACTED:
        reasons = (*reasons, Reason.PRIVACY_REDACTED)
    cost_usd = usd(cloud_cost_micro_usd(signals, config))
    needed = float(needed_tokens(signals, config))
    quality = signals.quality
    scores = {
        "escalate": quality.escalate,
        "edge_quality": quality.edge,
        "cloud_quality": quality.cloud,
    }
    scores |= {f"quality.{name}": value for name, value in quality.terms}
    scores |= {"tokens_needed": needed, "cloud_price_usd": cost_usd}
    thresholds = {
        "escalate": config.escalate_threshold,
        "edge_context_tokens": float(signals.edge.context_tokens),
    }
    slo_ms, edge_ms, cloud_ms = _ttft_ms(signals)
    measured = {
        "edge_ttft_ms": edge_ms,
        "edge_tpot_ms": signals.edge.tpot_ms,
        "cloud_ttft_ms": cloud_ms,
        "cloud_rtt_ms": signals.cloud.rtt_ms,
    }
    limits = {
        "cloud_context_tokens": signals.cloud.context_tokens,
        "max_price_usd": signals.preference.max_price_usd,
        "ttft_slo_ms": slo_ms,
    }
    scores |= {name: float(value) for name, value in measured.items() if value is not None}
    thresholds |= {name: float(value) for name, value in limits.items() if value is not None}
    return Decision(target, reasons, scores, thresholds, fallback_allowed)
