"""The vectorised policy of the simulation decides as `decide` does, request by request."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from isthmus.core.chat import PrivacyClass, RoutePreference
from isthmus.core.decision import Target
from isthmus.privacy.scan import ScanResult
from isthmus.router.budget import BudgetState, PeriodState
from isthmus.router.config import BudgetLimits, RouterConfig
from isthmus.router.latency import Prediction
from isthmus.router.policy import decide
from isthmus.router.presets import Preset
from isthmus.router.quality import Basis, Quality
from isthmus.router.signals import CloudState, DeviceHealth, EdgeState, Signals
from isthmus.router.simulation.choice import REASONS, CloudTerms, Facts, choose

TERMS = CloudTerms.of(0.5, 1.5, 16_000)
COUNT = 600
LIMIT_MICRO_USD = 5_000
CONFIGS = {
    "balanced": RouterConfig(),
    "saver": RouterConfig(preset=Preset.SAVER),
    "best": RouterConfig(preset=Preset.BEST),
    "private": RouterConfig(preset=Preset.PRIVATE),
    "offline": RouterConfig(preset=Preset.OFFLINE),
    "threshold": RouterConfig(threshold=0.25),
    "promise": RouterConfig(ttft_slo_ms=700.0, race=False),
    "request limit": RouterConfig(budget=BudgetLimits(request_usd=Decimal("0.001"))),
}


def random_facts(seed: int) -> tuple[Facts, list[BudgetState]]:
    """Signals of which every gate and every term decides some, with each row's budget."""
    rng = np.random.default_rng(seed)
    edge_quality = rng.random(COUNT)
    budgets = [
        BudgetState(day=PeriodState(LIMIT_MICRO_USD, spent, elapsed)) if limited else BudgetState()
        for spent, elapsed, limited in zip(
            rng.integers(0, LIMIT_MICRO_USD + 500, COUNT).tolist(),
            rng.random(COUNT).tolist(),
            (rng.random(COUNT) < 0.5).tolist(),
            strict=True,
        )
    ]
    left = [np.inf if b.left_micro_usd is None else b.left_micro_usd for b in budgets]
    facts = Facts(
        prompt_tokens=np.where(rng.random(COUNT) < 0.1, 9000, 1) * rng.integers(1, 4, COUNT),
        edge_quality=edge_quality,
        cloud_quality=np.clip(edge_quality + rng.uniform(-0.1, 0.6, COUNT), 0, 1),
        edge_context_tokens=rng.choice([2048, 8192, 32_768], COUNT),
        edge_ttft_ms=rng.exponential(900, COUNT),
        edge_tpot_ms=rng.uniform(5, 120, COUNT),
        cloud_ttft_p50_ms=rng.exponential(400, COUNT),
        cloud_ttft_p95_ms=rng.exponential(800, COUNT),
        cloud_tpot_ms=rng.uniform(5, 80, COUNT),
        private=rng.random(COUNT) < 0.05,
        offline=rng.random(COUNT) < 0.05,
        breaker_open=rng.random(COUNT) < 0.05,
        battery=np.where(rng.random(COUNT) < 0.5, np.nan, rng.random(COUNT)),
        battery_wh=rng.uniform(8, 60, COUNT),
        budget_left_micro_usd=np.array(left, np.float64),
        shadow_price=np.array([b.shadow_price for b in budgets]),
    )
    return facts, budgets


def as_signals(facts: Facts, row: int, budget: BudgetState) -> Signals:
    at: dict[str, Any] = {f.name: getattr(facts, f.name)[row].item() for f in fields(facts)}
    scan = (
        ScanResult(PrivacyClass.SENSITIVE, {"EMAIL": 1})
        if at["private"]
        else ScanResult(PrivacyClass.PUBLIC)
    )
    return Signals(
        RoutePreference(),
        scan,
        Quality(at["edge_quality"], at["cloud_quality"], Basis.CALIBRATED),
        prompt_tokens=at["prompt_tokens"],
        edge=EdgeState(
            context_tokens=at["edge_context_tokens"],
            latency=Prediction(at["edge_ttft_ms"], at["edge_ttft_ms"], at["edge_tpot_ms"]),
        ),
        cloud=CloudState(
            available=not at["offline"],
            breaker_open=at["breaker_open"],
            context_tokens=TERMS.context_tokens,
            price=TERMS.price,
            latency=Prediction(
                at["cloud_ttft_p50_ms"],
                at["cloud_ttft_p95_ms"],
                at["cloud_tpot_ms"],
            ),
        ),
        device=DeviceHealth()
        if np.isnan(at["battery"])
        else DeviceHealth(battery=at["battery"], charging=False, battery_wh=at["battery_wh"]),
        budget=budget,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_columns_decide_as_the_policy_does_request_by_request(name: str) -> None:
    config = CONFIGS[name]
    facts, budgets = random_facts(seed=sum(map(ord, name)))
    choice = choose(facts, TERMS, config)
    for row, budget in enumerate(budgets):
        asked = replace(budget, request_micro_usd=config.budget.micro_usd("request"))
        decision = decide(as_signals(facts, row, asked), config)
        assert choice.cloud[row] == (decision.target is Target.CLOUD), (row, decision)
        assert REASONS[choice.reason[row]] is decision.reasons[0], (row, decision)


def test_the_random_signals_reach_every_reason_there_is() -> None:
    seen = {
        REASONS[place]
        for name, config in CONFIGS.items()
        for place in choose(random_facts(seed=sum(map(ord, name)))[0], TERMS, config).reason
    }
    assert seen == set(REASONS)
