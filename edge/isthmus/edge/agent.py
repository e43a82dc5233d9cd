"""The life of a request: found conversation, privacy scan, signals, decision, answer, record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from isthmus.core import wire
from isthmus.core.chat import ChatRequest, RouteMode
from isthmus.core.decision import Decision, Reason, Status
from isthmus.core.errors import IsthmusError, Overloaded, PolicyRefused
from isthmus.core.events import Finished
from isthmus.core.money import Price
from isthmus.core.tracing.base import NO_TRACER, Kind, Tracer
from isthmus.edge.answering import Answering
from isthmus.edge.config import EdgeConfig
from isthmus.edge.consent import Consent
from isthmus.edge.device import Device, DeviceState
from isthmus.edge.faults import fault
from isthmus.edge.fleet.link import FleetLink
from isthmus.edge.fleet.member import Member
from isthmus.edge.learning import Learning
from isthmus.edge.ledger import Ledger
from isthmus.edge.leg import LegEnd
from isthmus.edge.legs import Shown
from isthmus.edge.metrics import Metrics
from isthmus.edge.screen import Look, Screen
from isthmus.edge.sensors import Sensors
from isthmus.edge.sessions import Sessions
from isthmus.edge.shadows import Shadows
from isthmus.edge.spending import Spending
from isthmus.edge.tiers import Cloud, Tiers
from isthmus.edge.traced import decided, scanned, whole
from isthmus.edge.trail import Trail
from isthmus.edge.trained import Trained
from isthmus.privacy.scan import TextScanner
from isthmus.privacy.scanner import Scanner
from isthmus.router.config import RouterConfig
from isthmus.router.gates import MAY_LEAVE
from isthmus.router.online import Pace
from isthmus.router.policy import decide
from isthmus.router.presets import CloudUse
from isthmus.router.signals import estimate_tokens, gather

log = logging.getLogger(__name__)

LOADING_GRACE_S = 5.0
"""How long a request waits for the device's model before it is treated as missing."""


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
        sensors: Sensors | None = None,
        trained: Trained | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.config = config
        self._tracer = tracer
        self.router = config.router
        """The policy in effect: the device's own, as far as no bundle tunes it."""
        self.device = device
        self.cloud = cloud
        self.tiers = Tiers(config, device, cloud)
        self.ledger = ledger
        self.metrics = metrics or Metrics(
            ttft_slo_ms=config.ttft_slo_ms, tpot_slo_ms=config.tpot_slo_ms
        )
        self.spending = Spending(config.router.budget, ledger)
        self.sessions = Sessions()
        self.sensors = sensors or Sensors()
        self.trained = trained or Trained()
        self.consent = consent or Consent(config.privacy.consent, share=config.fleet.share)
        self.screen = Screen(scanner or Scanner(), config.privacy, timeout_s=config.scan_timeout_s)
        self.answering = Answering(
            self.tiers,
            self.screen,
            self.consent,
            self.metrics,
            config.router.cascade,
            second_look=lambda: self.trained.second_look,
            health=lambda: self.sensors.health,
        )
        self.learning = Learning(
            ledger,
            Pace(config.router.feedback_step, config.router.feedback_bound),
            self.metrics.routing.learnt_of,
        )
        self.shadows = Shadows(
            config.router.shadow_share,
            answering=self.answering,
            spending=self.spending,
            metrics=self.metrics,
            record=self._record,
        )
        link: object = cloud
        path = None if ledger is None else ledger.path
        self.member = (
            Member(self, link, path, self.metrics.fleet) if isinstance(link, FleetLink) else None
        )
        """Of the fleet, where the cloud's client can tell of it."""
        self._in_flight = 0
        self.metrics.routing.watch(
            health=lambda: self.sensors.health,
            budget=lambda: self.spending.state,
            correction=lambda: self.learning.correction,
            drift=self.shadows.drift,
        )
        self.metrics.watch(
            in_flight=lambda: self._in_flight,
            engine_queue=lambda: device.engine.queue_depth if device.engine else 0,
            engine_running=lambda: device.engine.running if device.engine else 0,
            guesses=self._guesses,
            runs=device.describe,
            backend_fallbacks=lambda: device.engine.fallbacks if device.engine else {},
            ready=lambda: device.ready,
            breaker=lambda: cloud.breaker.state.value if cloud else "none",
            resumed=lambda: cloud.resumed if cloud else 0,
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
        trail.span = self._tracer.begin(
            f"chat {trail.request.model}", Kind.SERVER, traceparent=trail.traceparent
        )
        try:
            if self._in_flight > self.config.max_in_flight:
                raise Overloaded(
                    f"{self.config.max_in_flight} requests are being answered already; "
                    "come back later"
                )
            look = await self._decide(trail)
            async with aclosing(self.answering.answer(trail, look)) as events:
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
                self.sessions.remember(look.conversation.id, trail)
            self._record(trail)
            if self._tracer.on:
                trail.span.set(whole(trail))
                trail.span.end(trail.failure)
            if look is not None:
                self.shadows.consider(trail, look)
                self.learning.consider(trail)

    def use_policy(self, router: RouterConfig, price: Price | None = None) -> None:
        """Decide by `router` from the next request on, with the operator's price of the cloud."""
        self.router = router
        self.tiers.fleet_price = price
        self.spending.limit(router.budget)
        self.answering.cascade = router.cascade
        self.shadows.share = router.shadow_share
        self.learning.pace = Pace(router.feedback_step, router.feedback_bound)

    async def use_settings(self, config: EdgeConfig) -> None:
        """Go on with other settings of the router and of privacy, from the next request on.

        Raises `BundleRefused` when the fleet's bundle cannot be read over them.
        """
        if self.member is not None and self.member.bundles is not None:
            await self.member.bundles.use_own(config.router)
        else:
            self.use_policy(config.router, self.tiers.fleet_price)
        self.config = config
        self.screen.use(config.privacy)

    async def in_effect(self, own: RouterConfig) -> RouterConfig:
        """The policy that would be in effect if the device were set to `own`."""
        if self.member is None or self.member.bundles is None:
            return own
        return await self.member.bundles.over(own)

    @property
    def bundle(self) -> int:
        """The number of the fleet's bundle in use; 0: none."""
        if self.member is None or self.member.bundles is None:
            return 0
        return self.member.bundles.held.sequence

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._in_flight

    def forget(self, conversation: str) -> None:
        """Forget what is kept of a conversation of this name (`isthmus.conversation`)."""
        self.sessions.forget(self.screen.forget(conversation))

    async def start(self) -> None:
        """Begin to load the model, and to look at sensors and files.

        When it returns the bundle of before is in use: no request is decided without it.
        """
        self.device.start()
        self.sensors.start()
        self.trained.start()
        if self.member is not None:
            await self.member.start()
        if self._cloud_may_be_asked:
            self.tiers.learn_of_cloud()

    async def close(self) -> None:
        """Close both tiers and the ledger."""
        if self.member is not None:
            await self.member.close()
        await self.shadows.close()
        await self.learning.close()
        await self.trained.close()
        await self.tiers.close()
        self.sensors.close()
        if self.ledger is not None:
            await asyncio.to_thread(self.ledger.close)
        await asyncio.to_thread(self._tracer.close)

    async def look(self, request: ChatRequest) -> Look:
        """What is known of `request`, once a model that is just being loaded may take part."""
        await self._give_loading_a_moment(request)
        return await self.screen.look(request)

    def decide(
        self, request: ChatRequest, look: Look, *, consented: bool, elapsed_ms: float = 0.0
    ) -> Decision:
        """The decision on `request`, which is here since `elapsed_ms`. Raises `PolicyRefused`."""
        prompt_tokens = estimate_tokens(request)
        session = self.sessions.find(look.conversation.id, prompt_tokens)
        info = None if self.cloud is None else self.cloud.last_info
        signals = gather(
            request,
            quality=self.learning.apply(self.trained.rate(request, info)),
            edge=self.tiers.edge_state(prompt_tokens, session),
            cloud=self.tiers.cloud_state(prompt_tokens, session, consented=consented),
            privacy=look.found,
            prompt_tokens=prompt_tokens,
            device=self.sensors.health,
            budget=self.spending.state,
            session=session,
            usual_answer_tokens=self.tiers.usual_answer_tokens,
            elapsed_ms=elapsed_ms,
        )
        return decide(signals, self.router)

    async def _decide(self, trail: Trail) -> Look:
        await self._give_loading_a_moment(trail.request)
        with trail.span.child("privacy scan") as span:
            look = await self.screen.look(trail.request)
            if self._tracer.on:
                span.set(scanned(look))
        consented = self.consent.granted
        if not consented:
            self.screen.vaults.wipe()
        trail.privacy_class = look.found.privacy_class
        trail.policy = look.policy.name
        trail.found = look.found.labels
        self.metrics.found(look.found.labels)
        await self._learn_of_cloud(trail.request, look)
        trail.cloud_price = self.tiers.cloud_price
        trail.purse = self.spending.purse(trail.request, trail.cloud_price)
        began_s = time.perf_counter()
        try:
            with trail.span.child("decide") as span:
                decision = self.decide(
                    trail.request, look, consented=consented, elapsed_ms=trail.total_ms
                )
                if self._tracer.on:
                    span.set(decided(decision))
        except PolicyRefused as error:
            trail.reasons = [Reason(error.reason)]
            raise
        self.metrics.routing.decided(time.perf_counter() - began_s)
        trail.decision = decision
        trail.route = decision.target
        trail.reasons = list(decision.reasons)
        return look

    @property
    def _cloud_may_be_asked(self) -> bool:
        return self.consent.granted and self.router.cloud_use is not CloudUse.NEVER

    async def _learn_of_cloud(self, request: ChatRequest, look: Look) -> None:
        """Have the gateway tell what it serves, lest a pair that was calibrated pass for unknown.

        A request waits for it only where a budget would be no budget without the price.
        """
        may_leave = (
            self._cloud_may_be_asked
            and look.found.privacy_class in MAY_LEAVE
            and request.preference.mode is not RouteMode.ONLY_ON_DEVICE
        )
        if not may_leave:
            return
        if self.spending.limited and not self.tiers.knows_cloud_price:
            await self.tiers.ask_cloud_price()
        elif not self.tiers.knows_cloud:
            self.tiers.learn_of_cloud()

    async def _give_loading_a_moment(self, request: ChatRequest) -> None:
        """Let a model that is just being loaded take part in the decision."""
        mode = request.preference.mode
        if self.device.state is not DeviceState.LOADING or mode is RouteMode.ONLY_IN_CLOUD:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.deadline.at_most(LOADING_GRACE_S).remaining_s()):
                await self.device.wait()
        request.deadline.check()

    def _record(self, trail: Trail) -> None:
        outcome = trail.outcome()
        self.spending.settle(outcome)
        self.metrics.observe(outcome, trail.legs)
        self.metrics.treated(trail.treatments())
        for leg in trail.legs:
            unused_micro_usd = 0 if leg.in_answer else trail.price_of(leg)
            self.metrics.dropped(leg.target, leg.end, leg.dropped_tokens, unused_micro_usd)
            if leg.end is LegEnd.ANSWERED:
                # A part of an answer in the prompt is not in the estimate.
                whole = len(trail.legs) == 1
                self.tiers.observed(leg, estimate_tokens(trail.request) if whole else None)
            elif leg.end is LegEnd.LOST and leg.first_token_s is None and trail.first_token_s:
                self.tiers.overtaken(leg, (trail.first_token_s - leg.began_s) * 1000)
        if self.ledger is not None:
            # Without the id, so that the same question is known again.
            content = wire.request_as_bytes(replace(trail.request, request_id=""))
            hmac = self.ledger.key.content_hmac(content)
            spooled = () if self.member is None else self.member.spooled(trail)
            self.ledger.record(outcome, trail.receipt(hmac), trail.leg_rows(), spooled)
