"""The situation that `isthmus route explain` plays: what the router would be told, made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.core.chat import RouteMode

if TYPE_CHECKING:
    from isthmus.core.bundle import Bundle
    from isthmus.core.chat import ChatRequest
    from isthmus.core.money import Price
    from isthmus.router.budget import BudgetState
    from isthmus.router.config import RouterConfig
    from isthmus.router.latency import Prediction
    from isthmus.router.learned.router_file import RouterFile
    from isthmus.router.quality import Quality
    from isthmus.router.signals import DeviceHealth, Signals


class CloudPlay(StrEnum):
    """The cloud that `explain` pretends to see."""

    OK = "ok"
    OFFLINE = "offline"
    BREAKER_OPEN = "breaker-open"


@dataclass(frozen=True, slots=True)
class Times:
    """What a tier is pretended to take, in milliseconds; `None`: never measured."""

    ttft_ms: float | None = None
    ttft_p95_ms: float | None = None
    """None: twice the median."""
    tpot_ms: float | None = None

    def prediction(self) -> Prediction:
        """As the router is told."""
        from isthmus.router.latency import Prediction

        tail = self.ttft_p95_ms
        if tail is None and self.ttft_ms is not None:
            tail = 2 * self.ttft_ms
        # With no telling of constant and slope, a prompt's time is taken to be all slope.
        return Prediction(self.ttft_ms, tail, self.tpot_ms)


@dataclass(frozen=True, slots=True)
class Deciding:
    """What the agent of this device decides by."""

    router: RouterConfig
    price: Price
    """Of the cloud."""
    file: RouterFile
    bundle: Bundle | None
    """The operator's, where one is in use."""
    changed: tuple[str, ...]
    """What that one changes."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that is made up."""

    text: str
    mode: RouteMode = RouteMode.AUTO
    cloud: CloudPlay = CloudPlay.OK
    max_tokens: int | None = None
    slo_ms: float | None = None
    edge: Times = field(default_factory=Times)
    in_cloud: Times = field(default_factory=Times)
    usd_per_mtok: tuple[str, str] | None = None
    """Of the prompt and of the answer; None: the settings'."""
    battery_percent: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    sensors: bool = False
    """Ask this device's own sensors for what is not given."""
    another_pair: bool = False
    """The models are not those of the catalogue, and nobody labelled questions with them."""
    spent_today_usd: str | None = None
    day_elapsed: float = 0.5

    def request(self) -> ChatRequest:
        """What the user asks."""
        from isthmus.core.chat import ChatRequest, Message, Role, RoutePreference, TextPart

        return ChatRequest(
            request_id="explain",
            messages=(Message(Role.USER, (TextPart(self.text),)),),
            max_tokens=self.max_tokens,
            preference=RoutePreference(mode=self.mode, ttft_slo_ms=self.slo_ms),
        )

    def signals(self, deciding: Deciding) -> Signals:
        """What the router would be told."""
        from isthmus.core.money import Price
        from isthmus.router.signals import CloudState, EdgeState, gather

        price = deciding.price
        if self.usd_per_mtok is not None:
            price = Price(*map(Decimal, self.usd_per_mtok))
        return gather(
            self.request(),
            quality=self._quality(deciding.file),
            edge=EdgeState(latency=self.edge.prediction()),
            cloud=CloudState(
                available=self.cloud is not CloudPlay.OFFLINE,
                breaker_open=self.cloud is CloudPlay.BREAKER_OPEN,
                price=price,
                latency=self.in_cloud.prediction(),
            ),
            device=self._device(),
            budget=self._budget(deciding.router),
        )

    def _quality(self, file: RouterFile) -> Quality:
        from isthmus.router.quality import estimate

        known = file.calibrations
        pair = known[0].pair if known and not self.another_pair else None
        return estimate(self.request(), file, pair)

    def _device(self) -> DeviceHealth:
        from dataclasses import replace

        from isthmus.router.signals import DeviceHealth

        health = DeviceHealth()
        if self.sensors:
            from isthmus.edge.sensors import make_sensors

            health = make_sensors().sample()
        given = {
            "battery": None if self.battery_percent is None else self.battery_percent / 100,
            "charging": self.charging,
            "temperature_c": self.temperature_c,
        }
        return replace(health, **{n: v for n, v in given.items() if v is not None})  # type: ignore[arg-type]

    def _budget(self, config: RouterConfig) -> BudgetState:
        from isthmus.core.money import MICRO_USD_PER_USD
        from isthmus.router.budget import BudgetState, PeriodState

        spent = int(Decimal(self.spent_today_usd or "0") * MICRO_USD_PER_USD)

        def period(name: str) -> PeriodState | None:
            limit = config.budget.micro_usd(name)
            return None if limit is None else PeriodState(limit, spent, self.day_elapsed)

        return BudgetState(config.budget.micro_usd("request"), period("day"), period("month"))


def settings(path: Path | None, changes: Mapping[str, Any], *, ignore_bundle: bool) -> Deciding:
    """What an agent with these settings decides by, with `changes` of the policy over it.

    Raises `ConfigError`.
    """
    from dataclasses import replace

    from isthmus.core.money import Price
    from isthmus.core.paths import home
    from isthmus.edge.config import EdgeConfig
    from isthmus.edge.fleet.parts import Parts, in_effect
    from isthmus.edge.fleet.policy import differences
    from isthmus.router.learned import router_file

    config = EdgeConfig.load(path)
    parts = Parts(config.router) if ignore_bundle else in_effect(config, home() / "fleet")
    changed = [f"router.{name}" for name in differences(config.router, parts.router)]
    price, file = config.cloud_price, parts.file
    if price == Price() and parts.price is not None:
        changed.append("price")
        price = parts.price
    if file is None:
        own = config.router_file
        file = router_file.shipped() if own is None else router_file.load(own)
    else:
        changed.append("router_file")
    given = {name: value for name, value in changes.items() if value is not None}
    router = replace(parts.router, **given)
    return Deciding(router, price, file, parts.bundle, tuple(changed))
