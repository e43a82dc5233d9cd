"""What each tier's answer to one request is worth: the signals put into the terms of `value`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.core.money import Price, Usage
from isthmus.router import value
from isthmus.router.config import RouterConfig
from isthmus.router.quality import Basis
from isthmus.router.signals import Capability, Signals
from isthmus.router.value import Worth

_READ_BY_PROGRAMS = {Capability.TOOLS, Capability.JSON_OBJECT, Capability.JSON_SCHEMA}


@dataclass(frozen=True, slots=True)
class Appraisal:
    """Both tiers' worths, and what of them is owed to a shadow price and to caches."""

    edge: Worth
    cloud: Worth
    gain: float
    """What the cloud's answer is expected to gain in quality, as far as that is believed."""
    plain_price_micro_usd: float
    """The cloud's price without what a budget puts on it."""
    shadow_price: float
    """What that is, for each unit of price."""

    @property
    def prefers_cloud(self) -> bool:
        """Whether the cloud's answer is worth more; the device has the tie."""
        return bool(self.cloud.value > self.edge.value)

    @property
    def prefers_cloud_at_plain_price(self) -> bool:
        """The same, were spending on its pace."""
        shadow = self.cloud.price - self.plain_price_micro_usd
        return bool(self.cloud.value + shadow > self.edge.value)

    @property
    def prefers_cloud_without_caches(self) -> bool:
        """The same, were no tier to compute again what the other has in its cache."""
        edge, cloud = self.edge, self.cloud
        return bool(cloud.value + cloud.moving > edge.value + edge.moving)

    def required_gain(self, good_answer_micro_usd: float) -> float | None:
        """The gain in quality from which on the cloud would be worth more, -2 to 2.

        A gain is between -1 and 1: beyond them no gain is enough, or every one is, and how far
        beyond says nothing.
        """
        if not good_answer_micro_usd:
            return None
        needed = float(self.cloud.cost - self.edge.cost) / good_answer_micro_usd
        return min(2.0, max(-2.0, needed))

    def terms(self) -> Iterator[tuple[str, float]]:
        """Every term by name, in micro-dollars."""
        for tier, worth in (("edge", self.edge), ("cloud", self.cloud)):
            for name in ("value", "quality", "price", "time", "energy", "moving", "leaving"):
                yield f"{tier}.{name}_micro_usd", float(getattr(worth, name))


def appraise(signals: Signals, config: RouterConfig) -> Appraisal:
    """What each tier's answer is worth."""
    weights, quality = config.weights, signals.quality
    calibrated = quality.reason is Basis.CALIBRATED
    trust = 1.0 if calibrated else config.uncalibrated_trust
    # Of a guess a part alone is believed, which is caution enough.
    priced = signals.cloud.price != Price() or not calibrated
    cloud_quality = value.believed(quality.edge, quality.cloud, trust)
    tokens = expected_tokens(signals, config)
    edge_ms, cloud_ms = _waits_ms(signals, config, tokens)
    edge_moving_ms, cloud_moving_ms = _moving_ms(signals, edge_ms, cloud_ms)
    edge_energy, cloud_energy = _energies(signals, config, tokens)
    usage = Usage(signals.prompt_tokens, tokens, signals.session.cloud_cached_tokens)
    price = float(signals.cloud.price.cost_micro_usd(usage))
    shadow = signals.budget.shadow_price
    return Appraisal(
        edge=Worth(
            quality=value.quality_worth(quality.edge, weights),
            time=value.time_worth(edge_ms - edge_moving_ms, weights),
            energy=edge_energy,
            moving=value.time_worth(edge_moving_ms, weights),
        ),
        cloud=Worth(
            quality=value.quality_worth(cloud_quality, weights),
            price=value.felt_price(price, shadow),
            time=value.time_worth(cloud_ms - cloud_moving_ms, weights),
            energy=cloud_energy,
            moving=value.time_worth(cloud_moving_ms, weights),
            leaving=value.leaving_worth(weights, priced=priced),
        ),
        gain=float(cloud_quality - quality.edge),
        plain_price_micro_usd=price,
        shadow_price=shadow,
    )


def expected_tokens(signals: Signals, config: RouterConfig) -> int:
    """How long the answer is expected to be: as those of late; a limit is seldom reached."""
    usual = signals.usual_answer_tokens
    tokens = config.answer_tokens if usual is None else max(1, round(usual))
    return tokens if signals.max_tokens is None else min(signals.max_tokens, tokens)


def _waits_ms(signals: Signals, config: RouterConfig, tokens: int) -> tuple[float, float]:
    """How long each tier keeps its reader waiting; both 0 while one of them is not known."""
    edge, cloud = signals.edge.latency, signals.cloud.latency
    if edge.ttft_p50_ms is None or cloud.ttft_p50_ms is None:
        return 0.0, 0.0
    edge_tpot, cloud_tpot = edge.tpot_p50_ms, cloud.tpot_p50_ms
    if edge_tpot is None or cloud_tpot is None:
        edge_tpot = cloud_tpot = 0.0
    by_program = not _READ_BY_PROGRAMS.isdisjoint(signals.needs)
    reading_ms = 0.0 if by_program else 1000.0 / config.reading_tokens_per_s
    return (
        float(value.waiting_ms(edge.ttft_p50_ms, edge_tpot, tokens, reading_ms)),
        float(value.waiting_ms(cloud.ttft_p50_ms, cloud_tpot, tokens, reading_ms)),
    )


def _moving_ms(signals: Signals, edge_ms: float, cloud_ms: float) -> tuple[float, float]:
    """The part of each wait that goes into what the other tier has in its cache."""
    session = signals.session
    ahead = session.edge_cached_tokens - session.cloud_cached_tokens
    edge_again, cloud_again = float(max(0, -ahead)), float(max(0, ahead))
    edge_slope = signals.edge.latency.prefill_ms_per_token or 0.0
    cloud_slope = signals.cloud.latency.prefill_ms_per_token or 0.0
    return min(edge_ms, edge_again * edge_slope), min(cloud_ms, cloud_again * cloud_slope)


def _energies(signals: Signals, config: RouterConfig, tokens: int) -> tuple[float, float]:
    """What each tier's answer takes from the battery; both 0 where there is none to spare."""
    device, edge = signals.device, signals.edge.latency
    known = edge.ttft_p50_ms is not None and edge.tpot_p50_ms is not None
    if device.battery is None or device.charging or not known:
        return 0.0, 0.0
    busy_s = ((edge.ttft_p50_ms or 0.0) + tokens * (edge.tpot_p50_ms or 0.0)) / 1000.0
    battery_wh = device.battery_wh or config.battery_wh

    def worth(joules: float) -> float:
        return float(
            value.energy_worth(
                joules, battery_wh, device.battery or 0.0, config.battery_floor, config.weights
            )
        )

    return worth(config.inference_watts * busy_s), worth(config.radio_joules)
