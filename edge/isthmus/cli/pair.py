"""The two models of a pair, from what is named on the command line.

A model of this machine is asked directly. A gateway, or an OpenAI-compatible endpoint, is asked
through an agent, so that consent, the privacy gate and receipts are what they always are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.core.chat import ChatRequest, RouteMode, RoutePreference
from isthmus.core.errors import ConfigError, InvalidRequest, Unavailable
from isthmus.core.events import Event, Started
from isthmus.core.money import Price

if TYPE_CHECKING:
    from isthmus.cloud.upstreams.pool import UpstreamPool
    from isthmus.core.tier import ModelInfo
    from isthmus.edge.agent import Agent
    from isthmus.edge.breaker import CircuitBreaker
    from isthmus.edge.config import EdgeConfig
    from isthmus.engine.engine import Engine

API_KEY = "ISTHMUS_API_KEY"
"""The environment variable with the key of an OpenAI-compatible endpoint."""
_CONTEXT_TOKENS = 4096


@dataclass(slots=True)
class LocalTier:
    """A model that runs here."""

    engine: Engine
    key: str
    price: Price = field(default_factory=Price)

    def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer."""
        return self.engine.generate(request)

    async def close(self) -> None:
        """Free the model."""
        self.engine.close()


@dataclass(slots=True)
class RemoteModel:
    """A model behind an agent that may ask only it."""

    agent: Agent
    key: str
    own_price: Price | None = None

    @property
    def price(self) -> Price:
        """The price that was given, else the gateway's."""
        return self.own_price or self.agent.tiers.cloud_price

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Answer, if consent and the privacy gate let the request leave."""
        from isthmus.edge.trail import Trail

        trail = Trail(replace(request, preference=RoutePreference(RouteMode.ONLY_IN_CLOUD)))
        began = False
        async with aclosing(self.agent.run(trail)) as events:
            async for event in events:
                if not began and trail.legs:
                    began = True
                    yield Started(trail.model, trail.legs[-1].prompt_tokens)
                yield event

    async def close(self) -> None:
        """Close the connection."""
        await self.agent.close()


class Endpoint:
    """An OpenAI-compatible endpoint in the gateway's place."""

    def __init__(self, backend: UpstreamPool, breaker: CircuitBreaker) -> None:
        self._backend = backend
        self.breaker = breaker
        self.resumed = 0
        self.rtt_ms: float | None = None
        self.ttft_ms: float | None = None

    @property
    def available(self) -> bool:
        """Always tried: a run of labels ends by itself when it fails."""
        return True

    @property
    def last_info(self) -> ModelInfo | None:
        """The model by the endpoint's name."""
        return self._backend.info()

    async def generate(
        self, request: ChatRequest, check: Callable[[bytes], None]
    ) -> AsyncGenerator[Event, None]:
        """Answer, once `check` has seen the request."""
        from isthmus.core import wire

        check(wire.request_as_bytes(request))
        async for event in self._backend.generate(request):
            yield event

    async def info(self) -> ModelInfo:
        """The model by the endpoint's name."""
        return self._backend.info()

    async def close(self) -> None:
        """Close the connections."""
        await self._backend.close()


AnyTier = LocalTier | RemoteModel


def local_tier(model: str, *, threads: int | None = None, price: Price | None = None) -> LocalTier:
    """A model of this machine, loaded. Raises the engine's errors."""
    from isthmus.engine.engine import Engine
    from isthmus.engine.errors import ModelUnavailable
    from isthmus.engine.sources.catalogue import locate, resolve
    from isthmus.engine.sources.checksums import sha256_of_model

    entry = resolve(model)
    path = locate(entry)
    if path is None:
        raise ModelUnavailable(f"get the model first: isthmus model pull {entry.name}")
    engine = Engine.open(model, threads=threads, context_tokens=_CONTEXT_TOKENS)
    return LocalTier(engine, sha256_of_model(path), price or Price())


async def tier_of(
    named: str,
    *,
    endpoint_model: str | None = None,
    config: Path | None = None,
    threads: int | None = None,
    price: Price | None = None,
) -> AnyTier:
    """What `named` says: an http(s) address of an endpoint, a model of this machine, or a gateway.

    Raises `InvalidRequest`, `ConfigError` (no consent), `Unavailable`, and the engine's errors.
    """
    if named.startswith(("http://", "https://")):
        return await _endpoint(named, endpoint_model, config, price)
    if endpoint_model is not None:
        raise InvalidRequest("is for an endpoint's address (http://…)", field="--cloud-model")
    if _is_gateway(named):
        return await _gateway(named, config, price)
    return local_tier(named, threads=threads, price=price)


def price_of(text: str | None) -> Price | None:
    """`0.15/0.60`: dollars per million tokens of prompt and of answer. Raises `InvalidRequest`."""
    if text is None:
        return None
    try:
        paid, earned = (Decimal(part) for part in text.split("/"))
        if not (paid.is_finite() and earned.is_finite() and paid >= 0 and earned >= 0):
            raise ValueError
    except (ValueError, InvalidOperation):
        raise InvalidRequest(
            "must be two amounts of dollars per million tokens, as 0.15/0.60", field="--price"
        ) from None
    return Price(paid, earned)


def _is_gateway(named: str) -> bool:
    from isthmus.core.addresses import split

    if named.startswith("unix:"):
        return True
    try:
        return bool(split(named)[1]) and not Path(named).exists()
    except ValueError:
        return False


def _settings(path: Path | None, gateway: str | None) -> EdgeConfig:
    from isthmus.cli.flags import given
    from isthmus.edge.config import EdgeConfig

    return EdgeConfig.load(path, given({"gateway_address": gateway}))


def _no_engine() -> Engine:
    raise Unavailable("the device is not asked here")


def _check_consent(agent: Agent) -> None:
    if not agent.consent.granted:
        raise ConfigError(
            "nobody has consented to the use of the cloud: isthmus privacy consent --grant",
            field="--cloud",
        )


async def _gateway(address: str, config: Path | None, price: Price | None) -> RemoteModel:
    from isthmus.edge.server import build_agent

    agent = build_agent(_settings(config, address), _no_engine)
    try:
        _check_consent(agent)
        if agent.cloud is None:
            raise InvalidRequest("is no gateway's address", field="--cloud")
        info = await agent.cloud.info()
        await asyncio.to_thread(agent.screen.warm_up)
    except BaseException:
        await agent.close()
        raise
    return RemoteModel(agent, info.model, price)


async def _endpoint(
    url: str, model: str | None, config: Path | None, price: Price | None
) -> RemoteModel:
    from pydantic import SecretStr

    from isthmus.cloud.backends.base import BackendConfig
    from isthmus.cloud.upstreams.pool import UpstreamPool
    from isthmus.edge.agent import Agent
    from isthmus.edge.breaker import CircuitBreaker
    from isthmus.edge.device import Device
    from isthmus.edge.ledger import Ledger
    from isthmus.privacy.installed import installed_scanner

    if model is None:
        raise InvalidRequest("is needed: the model's name at that address", field="--cloud-model")
    key = os.environ.get(API_KEY)
    backend = UpstreamPool(
        BackendConfig(kind="openai", url=url, model=model, api_key=SecretStr(key) if key else None)
    )
    await backend.start()
    settings = _settings(config, None)
    agent = Agent(
        settings,
        device=Device(_no_engine),
        cloud=Endpoint(backend, CircuitBreaker()),
        ledger=Ledger(),
        scanner=installed_scanner(settings.privacy.detectors()),
    )
    try:
        _check_consent(agent)
        await asyncio.to_thread(agent.screen.warm_up)
    except BaseException:
        await agent.close()
        raise
    return RemoteModel(agent, model, price)
