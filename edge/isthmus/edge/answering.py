"""The answer path: who answers, who takes over from whom, and when.

The decision was made before; what is done here keeps to it. An answer is made of *legs*, each one
tier at work (`isthmus.edge.leg.Leg`). Another leg begins

- at once beside the first, when the decision lets both tiers race: the first to show something
  gives the answer, the other is stopped (`race`);
- when a tier fails: the other one answers, or goes on from what was shown (`fell_back`,
  `handed_over`), once in each direction;
- when the device doubts its own answer (`isthmus.router.doubt.handover`): the cloud goes on, unless
  it says nothing in time; the device then goes on as if nothing had been.

What the client has seen is never taken back and never said twice: a leg begins from `Trail.text`,
and what a tier wrote beyond it is dropped, or offered to the cloud as a draft.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Reason, Target
from isthmus.core.errors import (
    DeadlineExceeded,
    InternalError,
    IsthmusError,
    PolicyRefused,
)
from isthmus.core.events import Finished
from isthmus.edge.consent import Consent
from isthmus.edge.drafts import DraftGain
from isthmus.edge.failures import may_change_tier, note_change
from isthmus.edge.leg import LegEnd
from isthmus.edge.legs import Legs, Run, Shown, request_for
from isthmus.edge.metrics import Metrics
from isthmus.edge.screen import Look, Screen
from isthmus.edge.tiers import Tiers
from isthmus.edge.trail import Trail
from isthmus.edge.votes import Votes
from isthmus.edge.watched import AfterPrefill, Doubted, WatchOver
from isthmus.router.doubt.cascade import Watch
from isthmus.router.doubt.forms import FormCheck
from isthmus.router.doubt.handover import (
    CascadeConfig,
    Moment,
    break_even,
    may_be_watched,
    may_hand_over,
    may_vote,
)
from isthmus.router.doubt.second_look import SecondLook
from isthmus.router.signals import DeviceHealth

log = logging.getLogger(__name__)

_ALL_TOKENS = 1 << 20
"""To hold back when the client waits for the whole answer: longer than any."""


class Answering:
    """Gives the answers that were decided on. For one event loop."""

    def __init__(
        self,
        tiers: Tiers,
        screen: Screen,
        consent: Consent,
        metrics: Metrics,
        cascade: CascadeConfig | None = None,
        second_look: Callable[[], SecondLook | None] = lambda: None,
        health: Callable[[], DeviceHealth] = DeviceHealth,
    ) -> None:
        """`second_look` tells the head for the device's very model file; None: no doubt before the
        answer is written.
        """
        self.tiers = tiers
        self.screen = screen
        self.consent = consent
        self.metrics = metrics
        self.legs = Legs(tiers, screen, consent, metrics)
        self.cascade = cascade or CascadeConfig()
        self.second_look = second_look
        self.health = health
        self.draft_gain = DraftGain()

    async def answer(self, trail: Trail, look: Look) -> AsyncGenerator[Shown, None]:
        """The answer, by whichever tiers it takes."""
        async with AsyncExitStack() as stack:
            course = _Course(self, trail, look, stack)
            run: Run | None = await course.begin()
            while run is not None:
                taker: Run | None = None
                try:
                    async with aclosing(run.events()) as events:
                        async for event in events:
                            if isinstance(event, Doubted):
                                taker = await course.hand_over(run, event)
                                if taker is not None:
                                    break
                            elif isinstance(event, Finished):
                                course.learn(run)
                                yield replace(event, usage=trail.usage)
                                return
                            elif trail.show(run.leg, event):
                                yield event
                except IsthmusError as error:
                    taker = await course.fall_back(run, error)
                run = taker
            raise InternalError("the answer ended without a word")


class _Course:
    """The course of one answer: which legs there are, and which tier has failed."""

    def __init__(
        self, answering: Answering, trail: Trail, look: Look, stack: AsyncExitStack
    ) -> None:
        self._answering = answering
        self._tiers = answering.tiers
        self._metrics = answering.metrics
        self._trail = trail
        self._look = look
        self._stack = stack
        """Stops every leg in the end, whatever way that comes."""
        self._failed: dict[Target, IsthmusError] = {}
        """In order: the first is what went wrong, if all does."""
        self._taker: Run | None = None
        """The leg that took over from a doubt."""

    async def begin(self) -> Run:
        """The leg, or the winner of the race, that begins the answer."""
        decision = self._trail.decision
        if decision is None or not decision.race or not self._cloud_may_help:
            return self._run(self._trail.route, watch=self._watch())
        return await self._race(self._trail.route)

    # --- both tiers at once -------------------------------------------------------------------

    async def _race(self, preferred: Target) -> Run:
        """Both tiers; the first that has something to show. The other one is stopped."""
        tasks: dict[asyncio.Task[bool], Run] = {}
        doubting: Run | None = None
        try:
            for target in (preferred, preferred.other):
                run = self._run(target, watch=self._watch(in_haste=True))
                tasks[asyncio.create_task(run.first())] = run
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in tasks if task in done]:  # preferred first
                    run = tasks.pop(task)
                    try:
                        ready = task.result()
                    except IsthmusError as error:
                        self._failed[run.leg.target] = error
                        continue
                    if ready:
                        return await self._won(run, tasks, doubting)
                    doubting = run
        finally:
            await _ended(tasks)
        if doubting is not None:  # better than nothing, and there is nothing else
            return await self._won(doubting, tasks, None)
        self._trail.route = preferred
        raise self._failed[preferred]

    async def _won(
        self, winner: Run, losers: dict[asyncio.Task[bool], Run], doubting: Run | None
    ) -> Run:
        await _ended(losers)
        for run in losers.values():
            await run.stop(LegEnd.LOST)
        if doubting is not None:
            self._trail.note(Reason.DOUBT_AFTER_PREFILL)
            await doubting.stop(LegEnd.DOUBTED)
        self._trail.route = winner.leg.target
        for target, error in self._failed.items():
            if target is not winner.leg.target:
                note_change(self._trail, self._metrics, target, error)
        self._metrics.routing.raced(winner.leg.target)
        return winner

    # --- a doubt ------------------------------------------------------------------------------

    async def hand_over(self, run: Run, doubt: Doubted) -> Run | None:
        """The cloud's leg, whose first piece is there; None: the device goes on by itself."""
        trail, config = self._trail, self._answering.cascade
        taker = None
        if (
            self._cloud_may_help
            and (self._cloud_continues or not trail.shown)
            and may_hand_over(trail.request, self._moment())
        ):
            taker = self._run(Target.CLOUD, draft=self._worth_offering(doubt.draft))
        if taker is None:
            self._metrics.routing.doubted(doubt.reason, "kept")
            return None
        try:
            async with asyncio.timeout(config.patience_s) as patience:
                await taker.first()
        except TimeoutError:
            if not patience.expired():
                raise
            await taker.stop(LegEnd.LOST)
            self._metrics.routing.doubted(doubt.reason, "too_slow")
            return None
        except PolicyRefused:
            # What the device wrote is part of what would leave, and of what would be paid for.
            self._metrics.routing.doubted(doubt.reason, "refused")
            return None
        except IsthmusError as error:
            self._failed[Target.CLOUD] = error
            self._metrics.routing.doubted(doubt.reason, "failed")
            return None
        if taker.leg.end is LegEnd.STOPPED:
            self._metrics.routing.doubted(
                doubt.reason, "refused"
            )  # there is no money for another token
            return None
        await run.stop(LegEnd.DOUBTED)
        trail.note(doubt.reason)
        if trail.shown:
            trail.note(Reason.HANDED_OVER)
        trail.route = Target.CLOUD
        self._metrics.routing.doubted(doubt.reason, "handed_over")
        run.leg.draft_stands = taker.leg.accepted_tokens > 0
        if taker.leg.draft is not None:
            self._metrics.routing.drafted(taker.leg.draft)
        self._taker = taker
        return taker

    def learn(self, run: Run) -> None:
        """`run` has written the end of the answer."""
        if run is self._taker:
            self._answering.draft_gain.observe(run.leg.draft, run.leg.ttft_ms, run.leg.tpot_ms)

    def _moment(self) -> Moment:
        trail, cloud = self._trail, self._tiers.cloud
        return Moment(
            shown=trail.shown,
            has_tool_calls=trail.has_tool_calls,
            cloud_available=cloud is not None and cloud.available,
            consented=self._answering.consent.granted,
            elapsed_ms=trail.total_ms,
            cloud_ttft_ms=None if cloud is None else cloud.ttft_ms,
        )

    def _worth_offering(self, draft: str) -> str:
        cloud = self._tiers.cloud
        info = None if cloud is None else cloud.last_info
        if not self._answering.cascade.verify_drafts or info is None or not info.verifies_drafts:
            return ""
        if self._trail.request.sampling.top_logprobs is not None:
            return ""  # the client is promised those of every token, and nobody would tell them
        return draft if self._answering.draft_gain.pays(draft) else ""

    # --- a failure ----------------------------------------------------------------------------

    async def fall_back(self, run: Run, failure: IsthmusError) -> Run:
        """The other tier's leg from where `run` failed. Raises when there is none."""
        trail, source = self._trail, run.leg.target
        first = next(iter(self._failed.values()), None)
        self._failed[source] = failure
        if first is not None:
            if isinstance(failure, DeadlineExceeded):
                raise failure
            # The first failure is what went wrong; that the way round it failed too is a detail.
            log.warning("the fallback failed too: %s", failure.kind)
            raise first from failure
        await self._may_change_tier(source, failure)
        note_change(trail, self._metrics, source, failure)
        trail.route = source.other
        return self._run(source.other)

    async def _may_change_tier(self, source: Target, failure: IsthmusError) -> None:
        """Raise `failure` unless the other tier may take over."""
        trail = self._trail
        if not may_change_tier(trail, failure):
            raise failure
        if source is Target.CLOUD:
            return
        if not self._cloud_may_help:
            raise failure
        # What was shown of the answer leaves too now, and the device may have said anything.
        whole = replace(trail.request, answer_so_far=trail.text)
        try:
            await self._answering.screen.outgoing(whole, self._look)
        except PolicyRefused:
            trail.privacy_class = PrivacyClass.SENSITIVE
            raise failure from None

    # --- the legs -----------------------------------------------------------------------------

    @property
    def _cloud_may_help(self) -> bool:
        cloud = self._tiers.cloud
        return (
            cloud is not None
            and cloud.available
            and self._answering.consent.granted
            and Target.CLOUD not in self._failed
        )

    @property
    def _cloud_is_no_better(self) -> bool:
        """The cloud of a demo has the device's own model: it would doubt the same."""
        info = None if self._tiers.cloud is None else self._tiers.cloud.last_info
        return info is not None and info.same_model_demo

    @property
    def _cloud_continues(self) -> bool:
        """Whether the cloud goes on with an answer, as far as it has told."""
        info = None if self._tiers.cloud is None else self._tiers.cloud.last_info
        return info is None or info.continues_answers

    def _run(self, target: Target, *, watch: WatchOver | None = None, draft: str = "") -> Run:
        """A leg of `target` from what is shown by now; at the answer's end it is stopped."""
        legs = self._answering.legs
        if target is Target.EDGE:
            run = legs.on_device(self._trail, self._look, watch)
        else:
            run = legs.in_cloud(self._trail, self._look, draft)
        self._stack.push_async_callback(run.stop)
        return run

    def _watch(self, *, in_haste: bool = False) -> WatchOver | None:
        """What watches the device's answer; None where a doubt could lead nowhere.

        Nothing is held back in haste: the cloud then goes on from the very last word.
        """
        trail, config = self._trail, self._answering.cascade
        decision, request = trail.decision, trail.request
        if decision is None or not self._cloud_may_help or self._cloud_is_no_better:
            return None
        if not may_be_watched(request, decision, config):
            return None
        watch = config.watch
        if in_haste or (trail.streams and request.preference.ttft_slo_ms is not None):
            watch = replace(watch, hold_back_tokens=0, longest_word_chars=0)
        elif not trail.streams:
            watch = replace(watch, hold_back_tokens=_ALL_TOKENS)
        look, prior = self._answering.second_look(), decision.scores.get("edge.quality")
        after_prefill = None
        if look is not None and prior is not None:
            after_prefill = AfterPrefill(look, prior, min(config.edge_floor, break_even(decision)))
        sampling = request.sampling
        sampled = sampling.temperature > 0 and sampling.top_k != 1
        watch_over = Watch(watch, form=FormCheck.of(request), sampled=sampled)
        return WatchOver(watch_over, after_prefill, None if in_haste else self._votes())

    def _votes(self) -> Votes | None:
        """The device's other answers, where the client waits for a whole one and there is time."""
        trail, config, device = self._trail, self._answering.cascade, self._tiers.device
        waiting = 0 if device.engine is None else device.engine.queue_depth
        if not config.votes or trail.streams or trail.shown:
            return None
        if not may_vote(trail.request, self._answering.health(), waiting):
            return None
        asked = request_for(trail, Target.EDGE, self._look.conversation)
        if asked is None:
            return None
        votes = Votes(self._tiers.on_device, asked, config.votes, floor=config.votes_floor)
        self._stack.push_async_callback(votes.close)
        return votes


async def _ended(tasks: Collection[asyncio.Task[bool]]) -> None:
    """Stop `tasks`, and wait until they have: what they read cannot be closed before."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
