"""The policy for many requests at once: `isthmus.router.policy.decide`, column by column.

The worths come from the very functions of `isthmus.router.value`; gates and order are those of
`decide`, and a test holds both against each other on random signals. What a fleet on paper does
not have is left out: preferences of single requests, capabilities, sessions, races.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from isthmus.core.decision import Reason
from isthmus.core.money import Price
from isthmus.router import value
from isthmus.router.config import RouterConfig
from isthmus.router.presets import CloudUse
from isthmus.router.simulation.requests import Flags, Floats, Ints
from isthmus.router.value import Worth

REASONS = (
    Reason.PRIVACY_LOCAL_ONLY,
    Reason.CLOUD_OFFLINE,
    Reason.BREAKER_OPEN,
    Reason.CONTEXT_TOO_LONG_FOR_CLOUD,
    Reason.CONTEXT_TOO_LONG_FOR_EDGE,
    Reason.FORCED_EDGE,
    Reason.PRICE_ABOVE_LIMIT,
    Reason.BUDGET_SPENT,
    Reason.BATTERY_LOW,
    Reason.PREFERRED_EDGE,
    Reason.LATENCY_SLO,
    Reason.EASY,
    Reason.HARD,
    Reason.VALUE_ON_EDGE,
    Reason.VALUE_IN_CLOUD,
)
"""The first reason of each decision is one of these; a column holds their places."""
_PLACE = {reason: place for place, reason in enumerate(REASONS)}
_SCALE = 10**6


@dataclass(frozen=True, slots=True)
class Facts:
    """What the policy looks at; a row a request."""

    prompt_tokens: Ints
    edge_quality: Floats
    cloud_quality: Floats
    edge_context_tokens: Ints
    edge_ttft_ms: Floats
    """Median and 95th percentile alike: a device knows its own queue."""
    edge_tpot_ms: Floats
    cloud_ttft_p50_ms: Floats
    cloud_ttft_p95_ms: Floats
    cloud_tpot_ms: Floats
    private: Flags
    offline: Flags
    breaker_open: Flags
    battery: Floats
    """0 to 1; not a number where there is none or where it is being charged."""
    battery_wh: Floats
    budget_left_micro_usd: Floats
    """Infinite without a budget."""
    shadow_price: Floats


@dataclass(frozen=True, slots=True)
class Choice:
    """The decisions."""

    cloud: Flags
    reason: Ints
    """Places in `REASONS`."""
    served: Flags
    """False where the gates shut both tiers out."""


@dataclass(frozen=True, slots=True)
class CloudTerms:
    """What the cloud's model costs and takes."""

    price: Price
    context_tokens: int

    def cost_micro_usd(self, prompt_tokens: Ints, answer_tokens: Ints | int) -> Ints:
        """`Price.cost_micro_usd`, to the micro-dollar."""
        prompt, answer = (
            int(usd * _SCALE)
            for usd in (self.price.input_usd_per_mtok, self.price.output_usd_per_mtok)
        )
        exact: Ints = prompt * prompt_tokens + answer * answer_tokens
        return (exact + _SCALE // 2) // _SCALE

    @classmethod
    def of(cls, input_usd: float, output_usd: float, context_tokens: int) -> CloudTerms:
        """From dollars a million tokens; parts below a millionth of a dollar are dropped."""
        prices = (Decimal(str(usd)).quantize(Decimal("1e-6")) for usd in (input_usd, output_usd))
        return cls(Price(*prices), context_tokens)


def choose(facts: Facts, terms: CloudTerms, config: RouterConfig) -> Choice:
    """Where each request goes."""
    cost = terms.cost_micro_usd(facts.prompt_tokens, config.answer_tokens)
    needed = facts.prompt_tokens + config.answer_reserve_tokens
    limit = config.budget.micro_usd("request")
    everyone = np.ones(len(cost), bool)
    cloud_gates = (
        (Reason.PRIVACY_LOCAL_ONLY, facts.private),
        (Reason.CLOUD_OFFLINE, facts.offline),
        (Reason.BREAKER_OPEN, facts.breaker_open),
        (Reason.CONTEXT_TOO_LONG_FOR_CLOUD, needed > terms.context_tokens),
    )
    money_gates = (
        (Reason.FORCED_EDGE, everyone & (config.cloud_use is CloudUse.NEVER)),
        (Reason.PRICE_ABOVE_LIMIT, everyone & (limit is not None and cost > limit)),
        (Reason.BUDGET_SPENT, cost > facts.budget_left_micro_usd),
    )
    too_long = needed > facts.edge_context_tokens
    floors = config.cloud_use is CloudUse.WHEN_WORTH_MORE
    battery_low = (facts.battery < config.battery_floor) & floors
    cloud_shut = np.any([shut for _, shut in (*cloud_gates, *money_gates)], axis=0)
    cloud, reason = _choice(facts, cost, config)
    cloud = np.where(cloud_shut, False, np.where(too_long | battery_low, True, cloud))
    # The first reason is that of the first gate that shuts; for the cloud's answers, the first of
    # the device's. Written from the last to the first.
    _put(reason, Reason.BATTERY_LOW, battery_low & ~cloud_shut)
    for gate, shut in reversed(money_gates):
        _put(reason, gate, shut)
    _put(reason, Reason.CONTEXT_TOO_LONG_FOR_EDGE, too_long)
    for gate, shut in reversed(cloud_gates):
        _put(reason, gate, shut)
    return Choice(cloud, reason, ~(cloud_shut & too_long))


def _put(reason: Ints, gate: Reason, where: Flags) -> None:
    reason[where] = _PLACE[gate]


def _choice(facts: Facts, cost_micro_usd: Ints, config: RouterConfig) -> tuple[Flags, Ints]:
    """Which tier is worth more, where both may answer."""
    count = len(cost_micro_usd)
    if config.cloud_use is CloudUse.WHEN_NEEDED:
        return np.zeros(count, bool), np.full(count, _PLACE[Reason.PREFERRED_EDGE])
    if config.threshold is not None:
        cloud = facts.cloud_quality - facts.edge_quality >= config.threshold
        reasons = (Reason.HARD, Reason.EASY)
    else:
        edge_worth, cloud_worth = worths(facts, cost_micro_usd, config)
        cloud = np.asarray(cloud_worth.value > edge_worth.value)
        reasons = (Reason.VALUE_IN_CLOUD, Reason.VALUE_ON_EDGE)
    reason = np.where(cloud, _PLACE[reasons[0]], _PLACE[reasons[1]])
    if config.ttft_slo_ms is not None:
        edge_keeps = facts.edge_ttft_ms <= config.ttft_slo_ms
        cloud_keeps = facts.cloud_ttft_p95_ms <= config.ttft_slo_ms
        decided = edge_keeps != cloud_keeps
        cloud = np.where(decided, cloud_keeps, cloud)
        _put(reason, Reason.LATENCY_SLO, decided)
    return cloud, reason


def worths(facts: Facts, cost_micro_usd: Ints, config: RouterConfig) -> tuple[Worth, Worth]:
    """What an answer of the device and one of the cloud is worth."""
    weights, tokens = config.weights, config.answer_tokens
    reading_ms = 1000.0 / config.reading_tokens_per_s
    edge_ms = value.waiting_ms(facts.edge_ttft_ms, facts.edge_tpot_ms, tokens, reading_ms)
    cloud_ms = value.waiting_ms(facts.cloud_ttft_p50_ms, facts.cloud_tpot_ms, tokens, reading_ms)
    busy_s = (facts.edge_ttft_ms + tokens * facts.edge_tpot_ms) / 1000.0
    spare = np.isnan(facts.battery)
    energies = []
    for joules in (config.inference_watts * busy_s, np.full(len(busy_s), config.radio_joules)):
        energy = value.energy_worth(
            joules, facts.battery_wh, facts.battery, config.battery_floor, weights
        )
        energies.append(np.where(spare, 0.0, energy))
    price = value.felt_price(cost_micro_usd.astype(np.float64), facts.shadow_price)
    return (
        Worth(
            quality=value.quality_worth(facts.edge_quality, weights),
            time=value.time_worth(edge_ms, weights),
            energy=energies[0],
        ),
        Worth(
            quality=value.quality_worth(facts.cloud_quality, weights),
            price=price,
            time=value.time_worth(cloud_ms, weights),
            energy=energies[1],
            leaving=value.leaving_worth(weights),
        ),
    )
