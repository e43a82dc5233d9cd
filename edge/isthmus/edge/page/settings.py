"""`/v1/isthmus/settings`: preset, budget and privacy, changed for the next request and kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from isthmus.core.bundle import BundleRefused
from isthmus.edge.agent import Agent
from isthmus.edge.choices import (
    NO_LIMIT,
    Choices,
    keep_choices,
    read_choices,
    set_by_environment,
)
from isthmus.edge.config import ENV_PREFIX, EdgeConfig
from isthmus.edge.fields import Field
from isthmus.edge.http import Refused
from isthmus.privacy.policy import PRESETS
from isthmus.router.config import RouterConfig
from isthmus.router.presets import Preset

SUMMARIES: Final = {
    Preset.SAVER: "The cloud only where it is clearly better: spends least.",
    Preset.BALANCED: "Quality against money, time, battery and staying on the device.",
    Preset.BEST: "Quality first: the cloud wherever it is likely to be better.",
    Preset.PRIVATE: "The cloud only for what the device cannot answer at all.",
    Preset.OFFLINE: "Nothing leaves the device.",
}
MOST_USD: Final = 1e9
_PLACES: Final = {
    "preset": "preset",
    "day_usd": "budget.day_usd",
    "month_usd": "budget.month_usd",
    "privacy": "privacy.policy",
}
"""Each choice's name in the body."""


class PageSettings:
    """The settings that the page shows and changes. For one event loop."""

    def __init__(self, agent: Agent, path: Path | None) -> None:
        """`path`: where choices are kept; None: nowhere."""
        self._agent = agent
        self._path = path
        self._changing = asyncio.Lock()

    async def json(self) -> dict[str, Any]:
        """What is in effect, what there is to choose from, and what is fixed by whom."""
        agent = self._agent
        router, limits = agent.router, agent.router.budget
        allowed = {one: await self._allowed(one) for one in Preset}
        return {
            "object": "isthmus.settings",
            "preset": router.preset.value,
            "presets": [
                {"name": one.value, "summary": SUMMARIES[one], "allowed": allowed[one]}
                for one in Preset
            ],
            "budget": {"day_usd": _usd(limits.day_usd), "month_usd": _usd(limits.month_usd)},
            "privacy": {
                "policy": agent.config.privacy.preset,
                "policies": list(PRESETS),
                "consent": agent.consent.granted,
            },
            "fixed": self._fixed(),
        }

    async def change(self, body: Any) -> None:
        """Change what `body` names. Raises `InvalidRequest`, `Refused` (409), `ConfigError`."""
        chosen, consent = parse_settings(body)
        async with self._changing:
            fixed = self._fixed()
            for name in _given(chosen):
                if name in set_by_environment(ENV_PREFIX):
                    raise _fixed_by(_PLACES[name], fixed[_PLACES[name]])
            if consent is not None and "privacy.consent" in fixed:
                raise _fixed_by("privacy.consent", fixed["privacy.consent"])
            if _given(chosen):
                config = _with(self._agent.config, chosen)
                try:
                    await self._check_bundle(chosen, config.router)
                    await self._agent.use_settings(config)
                except BundleRefused:
                    raise _fixed_by(_PLACES[_given(chosen)[0]], self._bundle) from None
                await asyncio.to_thread(self._keep, chosen)
            if consent is not None:
                await asyncio.to_thread(self._agent.consent.keep, consent)

    def _keep(self, chosen: Choices) -> None:
        if self._path is not None:
            keep_choices(chosen.over(read_choices(self._path)), self._path)

    async def _allowed(self, preset: Preset) -> bool:
        if "preset" in set_by_environment(ENV_PREFIX):
            return preset is self._agent.router.preset
        own = Choices(preset=preset).router(self._agent.config.router)
        return (await self._agent.in_effect(own)).preset is preset

    async def _check_bundle(self, chosen: Choices, own: RouterConfig) -> None:
        """Raise where the fleet's bundle leaves nothing of a choice."""
        tuned = await self._agent.in_effect(own)
        lost = _differences(own, tuned)
        for name in _given(chosen):
            if _PLACES[name] in lost:
                raise _fixed_by(_PLACES[name], self._bundle)

    @property
    def _bundle(self) -> str:
        return f"fleet bundle {self._agent.bundle}"

    def _fixed(self) -> dict[str, str]:
        """Who fixes what, by the body's names."""
        agent = self._agent
        found = dict.fromkeys(_differences(agent.config.router, agent.router), self._bundle)
        for choice, variable in set_by_environment(ENV_PREFIX).items():
            found[_PLACES[choice]] = variable
        if agent.consent.fixed_by is not None:
            found["privacy.consent"] = agent.consent.fixed_by
        return found


def _differences(own: RouterConfig, tuned: RouterConfig) -> list[str]:
    """The settings of the page of which a bundle makes something else, by the body's names."""
    pairs: dict[str, tuple[object, object]] = {
        "preset": (own.preset, tuned.preset),
        "budget.day_usd": (own.budget.day_usd, tuned.budget.day_usd),
        "budget.month_usd": (own.budget.month_usd, tuned.budget.month_usd),
    }
    return [name for name, (mine, theirs) in pairs.items() if mine != theirs]


def _with(config: EdgeConfig, chosen: Choices) -> EdgeConfig:
    changed = {"router": chosen.router(config.router), "privacy": chosen.of_privacy(config.privacy)}
    return config.model_copy(update=changed)


def _given(chosen: Choices) -> list[str]:
    return [name for name in _PLACES if getattr(chosen, name) is not None]


def parse_settings(body: Any) -> tuple[Choices, bool | None]:
    """What a body chooses, and whether it gives consent. Raises `InvalidRequest`."""
    root = Field(body).object()
    root.only("preset", "budget", "privacy")
    chosen, consent = Choices(), None
    preset, budget, privacy = (root.get(name) for name in ("preset", "budget", "privacy"))
    if preset.given:
        chosen = replace(chosen, preset=Preset(preset.choice(*Preset)))
    if budget.given:
        budget.object().only("day_usd", "month_usd")
        # Here null says something: no limit.
        if "day_usd" in budget.value:
            chosen = replace(chosen, day_usd=_limit(budget.get("day_usd")))
        if "month_usd" in budget.value:
            chosen = replace(chosen, month_usd=_limit(budget.get("month_usd")))
    if privacy.given:
        privacy.object().only("policy", "consent")
        policy = privacy.get("policy")
        if policy.given:
            chosen = replace(chosen, privacy=policy.choice(*PRESETS))
        consent = privacy.get("consent").optional_flag()
    return chosen, consent


def _limit(field: Field) -> Decimal:
    if not field.given:
        return NO_LIMIT
    # As it was written: 0.1 is a tenth.
    return Decimal(str(field.number(0, MOST_USD)))


def _usd(limit: Decimal | None) -> float | None:
    return None if limit is None else float(limit)


def _fixed_by(name: str, who: str) -> Refused:
    return Refused(
        409, f"'{name}' is fixed by {who}: change it there", code="setting_fixed", param=name
    )
