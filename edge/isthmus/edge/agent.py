"""The life of a request: found conversation, privacy scan, signals, decision, answer, record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from isthmus.core import wire
from isthmus.core.chat import ChatRequest, PrivacyClass, RouteMode
from isthmus.core.decision import Decision, Reason, Status, Target
from isthmus.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    Overloaded,
    PolicyRefused,
)
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started
from isthmus.core.money import MICRO_USD_PER_USD, Price, Usage
from isthmus.edge.config import EdgeConfig
from isthmus.edge.consent import Consent
from isthmus.edge.conversation import Conversation
from isthmus.edge.device import Device, DeviceState
from isthmus.edge.faults import fault
from isthmus.edge.ledger import Ledger
from isthmus.edge.metrics import Metrics
from isthmus.edge.screen import Look, Screen
from isthmus.edge.tiers import Cloud, Tiers
from isthmus.edge.trail import Trail
from isthmus.privacy.egress import EgressBlocked
from isthmus.privacy.scan import TextScanner
from isthmus.privacy.scanner import Scanner
from isthmus.router.policy import decide
from isthmus.router.signals import estimate_tokens, gather

log = logging.getLogger(__name__)

LOADING_GRACE_S = 5.0
"""How long a request waits for the device's model before it is treated as missing."""

Shown = Delta | Finished
"""What an answer consists of, once it is known who gives it."""


class Agent:
    """Answers chat requests on the device or in the cloud, and records each one.

    For one event loop. `run` may be called for many requests at once.
    """

    def __init__(
        self,
        config: EdgeConfig,
        *,
        device: Device,
        cloud: Cloud | None = None,
        ledger: Ledger | None = None,
        metrics: Metrics | None = None,
        scanner: TextScanner | None = None,
        consent: Consent | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.cloud = cloud
        self.tiers = Tiers(config, device, cloud)
        self.ledger = ledger
        self.metrics = metrics or Metrics(
            ttft_slo_ms=config.ttft_slo_ms, tpot_slo_ms=config.tpot_slo_ms
        )
        self.consent = consent or Consent(config.privacy.consent)
        self.screen = Screen(scanner or Scanner(), config.privacy, timeout_s=config.scan_timeout_s)
        self._in_flight = 0
        self.metrics.watch(
            in_flight=lambda: self._in_flight,
            engine_queue=lambda: device.engine.queue_depth if device.engine else 0,
            engine_running=lambda: device.engine.running if device.engine else 0,
            guesses=self._guesses,
            runs=device.describe,
            backend_fallbacks=lambda: device.engine.fallbacks if device.engine else {},
            ready=lambda: device.ready,
            breaker=lambda: cloud.breaker.state.value if cloud else "none",
        )

    def _guesses(self) -> tuple[int, int]:
        if self.device.engine is None:
            return 0, 0
        count = self.device.engine.speculated
        return count.proposed, count.accepted

    async def run(self, trail: Trail) -> AsyncGenerator[Shown, None]:
        """Answer `trail.request`: pieces, then `Finished`. Raises an `IsthmusError`.

        Closing the iterator stops the work. Whatever happens, the outcome is recorded once.
        """
        self._in_flight += 1
        look: Look | None = None
        try:
            if self._in_flight > self.config.max_in_flight:
                raise Overloaded(
                    f"{self.config.max_in_flight} requests are being answered already; "
                    "come back later"
                )
            look = await self._decide(trail)
            async with aclosing(self._answer(trail, look)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        trail.end(Status.OK)
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            trail.end(Status.CANCELLED)
            raise
        except IsthmusError as error:
            trail.end(Status.FAILED, error)
            raise
        except Exception as error:
            ours = fault(error, "the agent")
            trail.end(Status.FAILED, ours)
            raise ours from None
        finally:
            self._in_flight -= 1
            if look is not None and trail.shown:
                # A part of an answer too: the client may well go on from there.
                self.screen.remember(look.conversation, trail.request, trail.answer())
            self._record(trail)

    async def close(self) -> None:
        """Close both tiers and the ledger."""
        await self.tiers.close()
        if self.ledger is not None:
            await asyncio.to_thread(self.ledger.close)

    async def look(self, request: ChatRequest) -> Look:
        """What is known of `request`, once a model that is just being loaded may take part."""
        await self._give_loading_a_moment(request)
        return await self.screen.look(request)

    def decide(self, request: ChatRequest, look: Look, *, consented: bool) -> Decision:
        """The decision on `request`. Raises `PolicyRefused`."""
        signals = gather(
            request,
            edge=self.tiers.edge_state(),
            cloud=self.tiers.cloud_state(consented=consented),
            privacy=look.found,
        )
        return decide(signals, self.config.router)

    async def _decide(self, trail: Trail) -> Look:
        look = await self.look(trail.request)
        consented = self.consent.granted
        if not consented:
            self.screen.vaults.wipe()
        trail.privacy_class = look.found.privacy_class
        trail.policy = look.policy.name
        trail.found = look.found.labels
        self.metrics.found(look.found.labels)
        trail.cloud_price = self.tiers.cloud_price
        try:
            decision = self.decide(trail.request, look, consented=consented)
        except PolicyRefused as error:
            trail.reasons = [Reason(error.reason)]
            raise
        trail.decision = decision
        trail.route = decision.target
        trail.reasons = list(decision.reasons)
        return look

    async def _give_loading_a_moment(self, request: ChatRequest) -> None:
        """Let a model that is just being loaded take part in the decision."""
        mode = request.preference.mode
        if self.device.state is not DeviceState.LOADING or mode is RouteMode.ONLY_IN_CLOUD:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.deadline.at_most(LOADING_GRACE_S).remaining_s()):
                await self.device.wait()
        request.deadline.check()

    async def _answer(self, trail: Trail, look: Look) -> AsyncGenerator[Shown, None]:
        """The answer of the chosen tier, and of the other one from where that failed."""
        target = trail.route
        try:
            async with aclosing(self._on_tier(trail, target, look)) as events:
                async for event in events:
                    yield event
            return
        except IsthmusError as error:
            failure = error
        await self._may_change_tier(trail, failure, look)
        self._change_tier(trail, failure)
        try:
            async with aclosing(self._on_tier(trail, target.other, look)) as events:
                async for event in events:
                    yield event
        except IsthmusError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            # The first failure is what went wrong; that the way round it failed too is a detail.
            log.warning("the fallback failed too: %s", error.kind)
            raise failure from error

    async def _may_change_tier(self, trail: Trail, failure: IsthmusError, look: Look) -> None:
        """Raise `failure` unless the other tier may take over."""
        decision = trail.decision
        callers_fault = isinstance(failure, InvalidRequest) and not isinstance(
            failure, ContextTooLong
        )
        if (
            decision is None
            or not decision.fallback_allowed
            or callers_fault
            or trail.request.deadline.expired
            or trail.has_tool_calls
        ):
            raise failure
        if trail.route is Target.CLOUD:
            return
        if self.cloud is None or not self.cloud.available or not self.consent.granted:
            raise failure
        # What was shown of the answer leaves too now, and the device may have said anything.
        whole = replace(trail.request, answer_so_far=trail.text)
        try:
            await self.screen.outgoing(whole, look)
        except PolicyRefused:
            trail.privacy_class = PrivacyClass.SENSITIVE
            raise failure from None

    def _change_tier(self, trail: Trail, failure: IsthmusError) -> None:
        source = trail.route
        trail.error_kind = failure.kind
        if isinstance(failure, ContextTooLong) and source is Target.EDGE:
            trail.reasons.append(Reason.CONTEXT_TOO_LONG_FOR_EDGE)
        elif isinstance(failure, NotSupported) and source is Target.EDGE:
            trail.reasons.append(Reason.CAPABILITY_MISSING_ON_EDGE)
        trail.reasons.append(Reason.HANDED_OVER if trail.shown else Reason.FELL_BACK)
        stage = "mid_answer" if trail.shown else "before_first_token"
        self.metrics.fell_back(source, stage=stage, error=failure.kind)
        log.warning("%s failed (%s, %s): %s goes on", source, failure.kind, stage, source.other)

    async def _on_tier(
        self, trail: Trail, target: Target, look: Look
    ) -> AsyncGenerator[Shown, None]:
        """What `target` adds to the answer. Every failure is an `IsthmusError`."""
        request = self.request_for(trail, target, look.conversation)
        if request is None:
            yield Finished(FinishReason.LENGTH, trail.usage)
            return
        if target is Target.CLOUD:
            tier = self._in_cloud(trail, request, look)
        else:
            trail.start(target)
            tier = self.tiers.on_device(request)
        async with aclosing(tier) as events:
            async for event in events:
                match event:
                    case Started():
                        trail.started(event)
                        self._tell_backends(trail)
                    case Delta():
                        if trail.show(event):
                            yield event
                    case Finished():
                        trail.finished(event.usage)
                        self._tell_backends(trail)
                        yield replace(event, usage=trail.usage)

    def _tell_backends(self, trail: Trail) -> None:
        engine = self.device.engine
        if trail.route is Target.EDGE and engine is not None:
            trail.ran_on(engine.prefill_backend, engine.decode_backend)

    async def _in_cloud(
        self, trail: Trail, request: ChatRequest, look: Look
    ) -> AsyncGenerator[Event, None]:
        """The cloud's answer: placeholders leave, values are put back as they arrive."""
        outgoing = await self.screen.outgoing(request, look)
        seen = b""

        def check(data: bytes) -> None:
            if data != seen:
                outgoing.check(data)  # nothing leaves unseen, whatever a tier makes of a request
            if not self.consent.granted:
                raise PolicyRefused(
                    "the consent to the use of the cloud was revoked",
                    reason=Reason.PRIVACY_NO_CONSENT.value,
                )
            trail.left(data, outgoing.labels, outgoing.request.privacy_class)

        trail.start(Target.CLOUD)
        restorer = outgoing.restorer()

        try:
            # Before the cloud's own time begins: the look at megabytes takes seconds.
            seen = await self.screen.last_look(outgoing)
            async with aclosing(self.tiers.in_cloud(outgoing.request, check)) as events:
                async for event in events:
                    match event:
                        case Delta():
                            yield restorer.feed(event)
                        case Finished():
                            rest = restorer.flush()
                            if rest is not None:
                                yield rest
                            yield event
                        case _:
                            yield event
        except EgressBlocked as blocked:
            self.metrics.blocked(blocked.labels)
            log.warning("stopped on its way out: %s", blocked.message)
            raise

    def request_for(
        self, trail: Trail, target: Target, conversation: Conversation
    ) -> ChatRequest | None:
        """The request as `target` gets it; None when nothing may be added any more."""
        # The name that the client used is the agent's; a tier answers with its own model.
        request = replace(trail.request, model="", answer_so_far=trail.text)
        max_tokens = request.max_tokens
        if max_tokens is not None and trail.shown:
            max_tokens -= trail.completion_tokens
        if target is Target.CLOUD:
            affordable = self._affordable_tokens(request, trail.cloud_price)
            if affordable is not None:
                max_tokens = min(affordable, affordable if max_tokens is None else max_tokens)
        if max_tokens is not None and max_tokens < 1:
            if not trail.shown:
                raise PolicyRefused(
                    "the cloud's price for the prompt alone is above the request's own limit: "
                    "raise isthmus.max_price_usd or allow the device",
                    reason=Reason.PRICE_ABOVE_LIMIT.value,
                    field="isthmus.max_price_usd",
                )
            return None
        preference = request.preference
        if target is Target.EDGE:
            # The device's own name for the conversation: its cache may hang on it.
            preference = replace(preference, conversation=conversation.id)
        return replace(request, max_tokens=max_tokens, preference=preference)

    @staticmethod
    def _affordable_tokens(request: ChatRequest, price: Price) -> int | None:
        """How long the cloud's answer may be for the request's own price limit."""
        limit_usd = request.preference.max_price_usd
        if limit_usd is None or not price.output_usd_per_mtok:
            return None
        prompt = price.cost_micro_usd(Usage(prompt_tokens=estimate_tokens(request)))
        left_micro_usd = limit_usd * MICRO_USD_PER_USD - prompt
        return max(0, int(left_micro_usd / float(price.output_usd_per_mtok)))

    def _record(self, trail: Trail) -> None:
        outcome = trail.outcome()
        self.metrics.observe(outcome, trail.usage_by_target())
        if outcome.status is Status.OK and len(trail.legs) == 1 and outcome.route is Target.EDGE:
            self.tiers.observed_on_edge(outcome)
        if self.ledger is not None:
            # Without the id, so that the same question is known again.
            content = wire.request_as_bytes(replace(trail.request, request_id=""))
            hmac = self.ledger.key.content_hmac(content)
            self.ledger.record(outcome, trail.receipt(hmac))
