"""The answer path: the chosen tier's answer, and how the other tier takes over.

One `Answering` serves all requests of an agent. The decision was made before; what is done here
keeps to it, and writes what happens into the request's `Trail`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from isthmus.core.chat import ChatRequest, PrivacyClass
from isthmus.core.decision import Reason, Target
from isthmus.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    PolicyRefused,
)
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started
from isthmus.edge.consent import Consent
from isthmus.edge.conversation import Conversation
from isthmus.edge.metrics import Metrics
from isthmus.edge.screen import Look, Screen
from isthmus.edge.tiers import Tiers
from isthmus.edge.trail import Trail
from isthmus.privacy.egress import EgressBlocked

log = logging.getLogger(__name__)

Shown = Delta | Finished
"""What an answer consists of, once it is known who gives it."""


class Answering:
    """Gives the answers that were decided on. For one event loop."""

    def __init__(self, tiers: Tiers, screen: Screen, consent: Consent, metrics: Metrics) -> None:
        self.tiers = tiers
        self.screen = screen
        self.consent = consent
        self.metrics = metrics

    async def answer(self, trail: Trail, look: Look) -> AsyncGenerator[Shown, None]:
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
        if self.tiers.cloud is None or not self.tiers.cloud.available or not self.consent.granted:
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
        request = request_for(trail, target, look.conversation)
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
        engine = self.tiers.device.engine
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


def request_for(trail: Trail, target: Target, conversation: Conversation) -> ChatRequest | None:
    """The request as `target` gets it; None when nothing may be added any more."""
    # The name that the client used is the agent's; a tier answers with its own model.
    request = replace(trail.request, model="", answer_so_far=trail.text)
    max_tokens = request.max_tokens
    if max_tokens is not None and trail.shown:
        max_tokens -= trail.completion_tokens
    if target is Target.CLOUD:
        asked = replace(request, max_tokens=max_tokens)
        affordable = trail.purse.affordable_tokens(asked, trail.price_micro_usd)
        max_tokens = max_tokens if affordable is None else affordable
    if max_tokens is not None and max_tokens < 1:
        if not trail.shown:
            raise trail.purse.refusal()
        return None
    preference = request.preference
    if target is Target.EDGE:
        # The device's own name for the conversation: its cache may hang on it.
        preference = replace(preference, conversation=conversation.id)
    return replace(request, max_tokens=max_tokens, preference=preference)
