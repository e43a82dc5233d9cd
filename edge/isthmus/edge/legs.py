"""One tier at work on an answer: what it is asked, what it yields, what is noted of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from isthmus.core.chat import ChatRequest
from isthmus.core.decision import Reason, Target
from isthmus.core.errors import (
    InternalError,
    IsthmusError,
    NotSupported,
    PolicyRefused,
    Unavailable,
)
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started
from isthmus.core.tracing.base import NO_SPAN
from isthmus.edge.consent import Consent
from isthmus.edge.conversation import Conversation
from isthmus.edge.leg import Leg, LegEnd
from isthmus.edge.metrics import Metrics
from isthmus.edge.screen import Look, Outgoing, Screen
from isthmus.edge.tiers import Tiers
from isthmus.edge.traced import of_leg
from isthmus.edge.trail import Trail
from isthmus.edge.watched import Doubted, WatchOver, watched
from isthmus.privacy.egress import EgressBlocked
from isthmus.router.signals import estimate_tokens

log = logging.getLogger(__name__)

Shown = Delta | Finished
"""What an answer consists of, once it is known who gives it."""


class Run:
    """One leg and what it yields."""

    def __init__(self, leg: Leg, events: AsyncGenerator[Shown | Doubted, None]) -> None:
        self.leg = leg
        self._events = events
        self._early: list[Shown | Doubted] = []

    async def first(self) -> bool:
        """Read up to the first thing to show, or to the end; False when a doubt comes before.

        What was read is given again. Raises what the tier raises.
        """
        async for event in self._events:
            self._early.append(event)
            if isinstance(event, Doubted):
                return False
            if isinstance(event, Finished) or event.text or event.tool_calls:
                return True
        raise InternalError(f"the {self.leg.target} tier ended its answer without a word")

    async def events(self) -> AsyncGenerator[Shown | Doubted, None]:
        """What the tier adds to the answer, up to `Finished`."""
        while self._early:
            yield self._early.pop(0)
        async for event in self._events:
            yield event

    async def stop(self, end: LegEnd = LegEnd.STOPPED) -> None:
        """Stop the tier's work. Nothing happens when it has ended."""
        if self.leg.end is LegEnd.RUNNING:
            self.leg.end = end
        await self._events.aclose()


class Legs:
    """Sets tiers to work. Every failure of a leg is an `IsthmusError`."""

    def __init__(self, tiers: Tiers, screen: Screen, consent: Consent, metrics: Metrics) -> None:
        self._tiers = tiers
        self._screen = screen
        self._consent = consent
        self._metrics = metrics

    def on_device(self, trail: Trail, look: Look, watch: WatchOver | None = None) -> Run:
        """The device, from what is shown by now; under watch when there is one."""
        leg = trail.start(Target.EDGE)
        events = self._device(trail, leg, look, watched=watch is not None)
        if watch is None:
            return Run(leg, events)
        with_logprobs = trail.request.sampling.top_logprobs is not None
        return Run(leg, watched(events, watch, with_logprobs=with_logprobs))

    def in_cloud(self, trail: Trail, look: Look, draft: str = "") -> Run:
        """The cloud, from what is shown by now; `draft` is what may follow that."""
        asked = replace(trail.request, answer_so_far=trail.text, draft=draft)
        leg = trail.start(Target.CLOUD, expected_prompt_tokens=estimate_tokens(asked))
        return Run(leg, self._cloud(trail, leg, look, draft))

    async def _device(
        self, trail: Trail, leg: Leg, look: Look, *, watched: bool
    ) -> AsyncGenerator[Shown, None]:
        request = request_for(trail, Target.EDGE, look.conversation)
        if request is None:
            yield _at_its_limit(trail, leg)
            return
        tier = self._tiers.on_device(replace(request, watched=watched))
        async with aclosing(tier), aclosing(self._noted(leg, tier)) as events:
            async for event in events:
                yield event

    async def _cloud(
        self, trail: Trail, leg: Leg, look: Look, draft: str
    ) -> AsyncGenerator[Shown, None]:
        request = request_for(trail, Target.CLOUD, look.conversation)
        if request is None:
            yield _at_its_limit(trail, leg)
            return
        request = replace(request, request_id=trail.id_in_cloud(leg), draft=draft, span=leg.span)
        tier = self._answer_of_cloud(trail, leg, request, look)
        async with aclosing(tier), aclosing(self._noted(leg, tier)) as events:
            async for event in events:
                yield event

    async def _noted(
        self, leg: Leg, tier: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Shown, None]:
        """What the tier yields for the client; all of it is noted in `leg`."""
        try:
            async for event in tier:
                match event:
                    case Started():
                        leg.started(event)
                        self._note_backends(leg)
                    case Delta():
                        since_s = leg.wrote(event)
                        if since_s is not None:
                            self._metrics.inference.chunk(leg, since_s)
                        yield event
                    case Finished():
                        leg.finished(event.usage)
                        self._note_backends(leg)
                        yield event
        except IsthmusError as error:
            leg.end, leg.error_kind = LegEnd.FAILED, error.kind
            raise
        finally:
            if leg.span is not NO_SPAN:
                leg.span.set(of_leg(leg, self._tiers.gateway))
                leg.span.end(leg.error_kind)

    def _note_backends(self, leg: Leg) -> None:
        engine = self._tiers.device.engine
        if leg.target is Target.EDGE and engine is not None:
            leg.ran_on(engine.prefill_backend, engine.decode_backend)

    async def _answer_of_cloud(
        self, trail: Trail, leg: Leg, request: ChatRequest, look: Look
    ) -> AsyncGenerator[Event, None]:
        """The cloud's answer: placeholders leave, values are put back as they arrive.

        What it lets stand of the draft comes as its first piece.
        """
        outgoing = await self._outgoing(request, look)
        seen = b""

        def check(data: bytes) -> None:
            if data != seen:
                outgoing.check(data)  # nothing leaves unseen, whatever a tier makes of a request
            if not self._consent.granted:
                raise PolicyRefused(
                    "the consent to the use of the cloud was revoked",
                    reason=Reason.PRIVACY_NO_CONSENT.value,
                )
            trail.left(leg, data, outgoing.labels, outgoing.request.privacy_class)

        restorer = outgoing.restorer()
        try:
            # Before the cloud's own time begins: the look at megabytes takes seconds.
            seen = await self._screen.last_look(outgoing)
            async with aclosing(self._tiers.in_cloud(outgoing.request, check)) as events:
                async for event in events:
                    match event:
                        case Started():
                            if event.anew:
                                raise NotSupported(
                                    "the cloud's model cannot go on with an answer",
                                    field="answer_so_far",
                                )
                            accepted = _accepted(event, outgoing.request.draft)
                            yield event if outgoing.request.draft else replace(event, draft=None)
                            if accepted:
                                yield restorer.feed(Delta(accepted, tokens=0))
                        case Delta():
                            yield restorer.feed(event)
                        case Finished():
                            rest = restorer.flush()
                            if rest is not None:
                                yield rest
                            yield event
        except EgressBlocked as blocked:
            self._metrics.blocked(blocked.labels)
            log.warning("stopped on its way out: %s", blocked.message)
            raise

    async def _outgoing(self, request: ChatRequest, look: Look) -> Outgoing:
        """The request as it may leave: without its draft, when that is what may not."""
        try:
            return await self._screen.outgoing(request, look)
        except PolicyRefused:
            if not request.draft:
                raise
        return await self._screen.outgoing(replace(request, draft=""), look)


def _accepted(started: Started, draft: str) -> str:
    """What the cloud lets stand of the draft."""
    if started.draft is None:
        return ""
    try:
        return draft.encode()[: started.draft.accepted_bytes].decode()
    except UnicodeDecodeError:
        raise Unavailable("the gateway accepted half of a character") from None


def _at_its_limit(trail: Trail, leg: Leg) -> Finished:
    """The end of an answer to which nothing may be added: the tier was not asked."""
    leg.end = LegEnd.STOPPED
    return Finished(FinishReason.LENGTH, trail.usage)


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
