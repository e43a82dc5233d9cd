"""The two tiers as the agent sees them: what is known of each, and an answer from one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Target
from isthmus.core.errors import DeadlineExceeded, InternalError, IsthmusError, Unavailable
from isthmus.core.events import Event, Finished
from isthmus.core.money import Price
from isthmus.core.tier import ModelInfo
from isthmus.edge.breaker import CircuitBreaker
from isthmus.edge.config import EdgeConfig
from isthmus.edge.device import Device
from isthmus.edge.faults import fault
from isthmus.edge.leg import Leg
from isthmus.router.latency import NEWEST_WEIGHT, Tail, TierLatency
from isthmus.router.signals import Capability, CloudState, EdgeState, Session

log = logging.getLogger(__name__)

NO_SESSION = Session()
PRICE_PATIENCE_S = 1.0

Check = Callable[[bytes], None]
"""Hears of the bytes of a request right before they leave, and raises to keep them here."""


class Cloud(Protocol):
    """What the agent needs of the cloud's tier (`isthmus.edge.remote.RemoteTier`)."""

    breaker: CircuitBreaker
    resumed: int
    rtt_ms: float | None
    ttft_ms: float | None

    @property
    def available(self) -> bool: ...

    @property
    def last_info(self) -> ModelInfo | None: ...

    def generate(self, request: ChatRequest, check: Check) -> AsyncIterator[Event]: ...

    async def info(self) -> ModelInfo: ...

    async def close(self) -> None: ...


class Tiers:
    """The device and, where one is configured, the cloud. For one event loop."""

    def __init__(self, config: EdgeConfig, device: Device, cloud: Cloud | None) -> None:
        self._config = config
        self.device = device
        self.cloud = cloud
        self._learning: asyncio.Task[None] | None = None
        self.gateway = config.gateway_address or ""
        """Its address, or those of its replicas."""
        self.latency = {target: TierLatency() for target in Target}
        """What was measured of each tier."""
        self._counts = {target: Tail() for target in Target}
        """Tokens as each tier counts them, for one of the estimate's."""
        self.usual_answer_tokens: float | None = None
        """How long answers were of late."""
        self._rtt_ms: float | None = None
        self.fleet_price: Price | None = None
        """What the operator's bundle says that the cloud costs."""

    @property
    def cloud_price(self) -> Price:
        """The configured price, else the operator's, else what the gateway last said."""
        configured = self._config.cloud_price
        if configured != Price():
            return configured
        if self.fleet_price is not None:
            return self.fleet_price
        if self.cloud is None or self.cloud.last_info is None:
            return configured
        return self.cloud.last_info.price

    @property
    def knows_cloud(self) -> bool:
        """Whether the gateway has told what it serves."""
        return self.cloud is not None and self.cloud.last_info is not None

    @property
    def knows_cloud_price(self) -> bool:
        """Whether a price was configured, or the gateway has told its own."""
        return self.knows_cloud or self.cloud_price != Price()

    async def ask_cloud_price(self) -> None:
        """Have the gateway tell its price, if it does so within `PRICE_PATIENCE_S`."""
        if self.cloud is None or not self.cloud.available:
            return
        try:
            async with asyncio.timeout(PRICE_PATIENCE_S):
                await self.cloud.info()
        except (IsthmusError, TimeoutError) as error:
            log.info("the gateway did not tell its price: %s", type(error).__name__)

    def edge_state(self, prompt_tokens: int = 0, session: Session = NO_SESSION) -> EdgeState:
        """What the router is told of the device, for a prompt of this length."""
        engine = self.device.engine
        if engine is None:
            return EdgeState(available=False)
        capabilities = set[Capability]()
        if engine.supports_tools:
            capabilities.add(Capability.TOOLS)
        if engine.supports_json:
            capabilities |= {Capability.JSON_OBJECT, Capability.JSON_SCHEMA}
        return EdgeState(
            context_tokens=engine.context_tokens,
            capabilities=frozenset(capabilities),
            latency=self.latency[Target.EDGE].predict(
                new_tokens=self._new_tokens(Target.EDGE, prompt_tokens, session.edge_cached_tokens),
                waiting=engine.queue_depth,
                at_once=engine.running,
            ),
        )

    def cloud_state(
        self, prompt_tokens: int = 0, session: Session = NO_SESSION, *, consented: bool
    ) -> CloudState:
        """What the router is told of the cloud, for a prompt of this length."""
        if self.cloud is None:
            return CloudState(available=False)
        info = self.cloud.last_info
        return CloudState(
            consented=consented,
            breaker_open=not self.cloud.available,
            context_tokens=(info.context_tokens or None) if info else None,
            capabilities=_capabilities(info) if info else None,
            price=self.cloud_price,
            rtt_ms=self.cloud.rtt_ms,
            latency=self.latency[Target.CLOUD].predict(
                new_tokens=self._new_tokens(
                    Target.CLOUD, prompt_tokens, session.cloud_cached_tokens
                )
            ),
        )

    def observed(self, leg: Leg, estimated_tokens: int | None = None) -> None:
        """Learn a tier's times from an answer that it wrote to the end, whoever began it.

        `estimated_tokens` is what the prompt was taken to have before the tier counted it.
        """
        latency = self.latency[leg.target]
        queued_ms, rtt_ms = 0.0, None
        if leg.target is Target.EDGE:
            queued_ms = leg.queued_ms
        elif self.cloud is not None and self.cloud.rtt_ms != self._rtt_ms:
            rtt_ms = self._rtt_ms = self.cloud.rtt_ms
        if estimated_tokens and leg.prompt_tokens:
            self._counts[leg.target].observe(leg.prompt_tokens / estimated_tokens)
            self.usual_answer_tokens = _smoothed(self.usual_answer_tokens, leg.completion_tokens)
        latency.observe(
            new_tokens=max(0, leg.prompt_tokens - leg.cached_tokens),
            ttft_ms=leg.ttft_ms,
            tpot_ms=leg.tpot_ms,
            service_ms=leg.writing_ms,
            queue_ms=queued_ms,
            rtt_ms=rtt_ms,
        )

    def overtaken(self, leg: Leg, after_ms: float) -> None:
        """Learn from a leg that had shown nothing `after_ms` milliseconds after its begin.

        A race would otherwise teach the times of those alone that win it.
        """
        self.latency[leg.target].observe_at_least(
            new_tokens=max(0, leg.prompt_tokens - leg.cached_tokens), ttft_ms=after_ms
        )

    def _new_tokens(self, target: Target, estimated_tokens: int, cached_tokens: int) -> int:
        """What the tier will have to compute of a prompt, in tokens of its own."""
        tokens = estimated_tokens * (self._counts[target].p50 or 1.0)
        return max(0, round(tokens) - cached_tokens)

    async def on_device(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The device's answer. Every failure is an `IsthmusError`."""
        async with aclosing(self._told(self.device.generate(request), request, Target.EDGE)) as own:
            async for event in own:
                yield event

    async def in_cloud(self, request: ChatRequest, check: Check) -> AsyncGenerator[Event, None]:
        """The cloud's answer, if `check` lets the request leave.

        Every failure is an `IsthmusError`, silence included.
        """
        if self.cloud is None:
            raise Unavailable(
                "no gateway is configured, so there is no cloud to ask: set gateway_address, "
                "or let the device answer"
            )
        events = self.cloud.generate(request, check)
        async with aclosing(self._told(events, request, Target.CLOUD)) as told:
            async for event in told:
                yield event

    async def _told(
        self, events: AsyncIterator[Event], request: ChatRequest, target: Target
    ) -> AsyncGenerator[Event, None]:
        try:
            while True:
                event = await self._next(events, request, target)
                if isinstance(event, Finished) and target is Target.CLOUD:
                    self.learn_of_cloud()
                yield event
                if isinstance(event, Finished):
                    return
        except IsthmusError:
            raise
        except Exception as error:
            raise fault(error, f"the {target} tier") from None
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def close(self) -> None:
        """Close both."""
        if self._learning is not None:
            self._learning.cancel()
        if self.cloud is not None:
            await self.cloud.close()
        await self.device.close()

    async def _next(
        self, events: AsyncIterator[Event], request: ChatRequest, target: Target
    ) -> Event:
        deadline = request.deadline
        silence_s = self._config.cloud_silence_s if target is Target.CLOUD else None
        try:
            async with asyncio.timeout(deadline.at_most(silence_s).remaining_s()) as limit:
                return await anext(events)
        except StopAsyncIteration:
            raise InternalError(f"the {target} tier ended its answer without a word") from None
        except TimeoutError:
            if not limit.expired():
                raise
            if silence_s is None or deadline.expired:
                raise DeadlineExceeded("the time that the request gave is used up") from None
            if self.cloud is not None:
                # Its client sees a call that was given up; that it was silent only we know.
                self.cloud.breaker.fail()
            raise Unavailable(f"the {target} tier was silent for {silence_s:g} s") from None

    def learn_of_cloud(self) -> None:
        """Ask what the gateway serves and costs, beside what is going on. Only with consent."""
        cloud = self.cloud
        running = self._learning is not None and not self._learning.done()
        if cloud is None or running or not cloud.available:
            return

        async def refresh() -> None:
            try:
                await cloud.info()
            except IsthmusError as error:
                log.info("the gateway did not say what it serves: %s", error.kind)

        self._learning = asyncio.create_task(refresh(), name="isthmus-cloud-info")


def _smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + NEWEST_WEIGHT * (new - old)


def _capabilities(info: ModelInfo) -> frozenset[Capability]:
    """What the gateway says that its model can do."""
    can = set[Capability]()
    if info.supports_tools:
        can.add(Capability.TOOLS)
    if info.supports_images:
        can.add(Capability.IMAGES)
    if info.supports_json:
        can |= {Capability.JSON_OBJECT, Capability.JSON_SCHEMA}
    return frozenset(can)
