"""How an answer is made: a turn, a verdict on the draft, an account, the backend's events."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.cloud.admission import Admission
from isthmus.cloud.answers import Answer, Asked
from isthmus.cloud.answers.tab import Tab
from isthmus.cloud.backends.base import Backend
from isthmus.cloud.checks import too_long
from isthmus.cloud.draft_gain import DraftGain
from isthmus.cloud.drafts import judged
from isthmus.cloud.ledger.base import Ledger, Opening
from isthmus.cloud.limits import LimitsConfig
from isthmus.cloud.metrics import Metrics
from isthmus.core.chat import ChatRequest, ResponseKind, ToolChoice
from isthmus.core.decision import Reason
from isthmus.core.errors import (
    InvalidRequest,
    NotSupported,
    PolicyRefused,
    Unavailable,
)
from isthmus.core.events import Delta, DraftVerdict, Event, Finished, FinishReason, Started
from isthmus.core.money import MICRO_USD_PER_USD, Price, Usage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """Writes answers. What it does for one request is `write`."""

    backend: Backend
    admission: Admission
    ledger: Ledger
    metrics: Metrics
    limits: LimitsConfig
    same_model_demo: bool = False
    draft_gain: DraftGain = field(default_factory=DraftGain)

    def write(self, asked: Asked, answer: Answer) -> Coroutine[Any, Any, None]:
        """Write `answer` to its end, from wherever it broke off. Raises an `IsthmusError`.

        Its account is asked for at once, before what is returned is awaited.
        """
        request = asked.request
        opening = Opening(
            asked.caller,
            request.request_id,
            asked.body,
            request.model or self.backend.info().model,
            asked.prompt_tokens,
            max(0, self.most(request) - answer.log.last.tokens),
            request.received_tokens,
        )
        answer.tab = tab = Tab(self.ledger, opening)
        return self._write(asked, answer, tab)

    async def _write(self, asked: Asked, answer: Answer, tab: Tab) -> None:
        request = asked.request
        with request.span.child("wait for a turn") as waiting:
            async with self.admission.slot(request.priority, request.deadline):
                waiting.end()
                tab.check()
                await self._answer(request, answer, tab, asked.arrived_s)

    def most(self, request: ChatRequest) -> int:
        """The most tokens that an answer to `request` may have."""
        most = self.limits.max_completion_tokens
        return most if request.max_tokens is None else min(most, request.max_tokens)

    async def _answer(
        self, request: ChatRequest, answer: Answer, tab: Tab, arrived_s: float
    ) -> None:
        log = answer.log
        run = Run(self, answer, tab, request, arrived_s)
        if request.draft and request.received is None and not log.last.pieces:
            log.stands(await self._verdict(request, run), request.draft)
        if log.last.tokens >= run.most:
            await run.started(Started(self.backend.info().model, 0))
            run.finished(Finished(FinishReason.LENGTH))
            return
        left = None if request.max_tokens is None else request.max_tokens - log.last.tokens
        events = self.backend.generate(
            replace(
                request, answer_so_far=request.answer_so_far + log.text, draft="", max_tokens=left
            )
        )
        try:
            async for event in events:
                match event:
                    case Started():
                        await run.started(event)
                    case Delta():
                        if not run.may_add(event):
                            run.finished(Finished(FinishReason.LENGTH))
                            return
                        run.wrote(event)
                    case Finished():
                        run.finished(event)
                        return
        finally:
            await _close(events)
        raise Unavailable("the backend ended the stream before the end of the answer")

    async def _verdict(self, request: ChatRequest, run: Run) -> DraftVerdict:
        """What stands of the request's draft: nothing, where judging it does not pay."""
        able = can_judge(self.backend, request)
        worth = able and self.draft_gain.wants(request.draft)
        verdict = await judge_draft(self.backend, request) if worth else DraftVerdict(judged=False)
        if verdict.judged:
            self.metrics.judged(verdict)
        else:
            self.metrics.unjudged("not_worth_it" if able and not worth else "unable")
        if verdict.judged or (able and not worth):
            run.drafted = verdict
        return verdict

    def learn(
        self, verdict: DraftVerdict, draft: str, first_s: float, token_s: float | None
    ) -> None:
        """What a draft, judged or left alone for comparison, was worth."""
        self.draft_gain.observe(verdict, draft, first_s, token_s)
        judging_s = self.draft_gain.judging_s
        if verdict.judged and token_s is not None and judging_s is not None:
            load = self.backend.load()
            # Of an engine that answers many at once, each has its part of every second.
            part = load.engines / max(1, load.running_requests)
            self.metrics.draft_gain(
                saved_s=verdict.accepted_tokens * token_s * part, spent_s=judging_s * part
            )


class Run:
    """One attempt at an answer, as the backend's events come: bounds, counts, measures."""

    def __init__(
        self, work: Work, answer: Answer, tab: Tab, request: ChatRequest, arrived_s: float
    ) -> None:
        self._work = work
        self._answer = answer
        self._tab = tab
        self._request = request
        self._arrived_s = arrived_s
        self._turn_s = time.monotonic()
        self.drafted: DraftVerdict | None = None
        """Of a draft that could be judged, whether it was or not."""
        log = answer.log
        self._before = log.last.tokens - log.begin.tokens
        """Tokens of the answer that earlier attempts wrote; a draft's are the prompt's."""
        self._begun = log.last.pieces > log.begin.pieces
        self.most = work.most(request)
        """Tokens of the whole answer."""
        self._price = Price()
        self._prompt = Usage()
        self._written = 0
        self._first_s: float | None = None

    async def started(self, event: Started) -> None:
        """The backend has read the prompt. Nothing is seen before the account is open.

        Raises what opening it raises, and the refusal of a prompt that is too long or too dear.
        """
        log = self._answer.log
        if event.anew and (log.text or log.last.pieces > log.begin.pieces):
            raise Unavailable("nobody here can go on from what was sent of this answer")
        if event.prompt_tokens > self._work.limits.max_prompt_tokens:
            raise too_long(self._work.limits)
        self._price = (await self._tab.opened()).price
        # What an earlier attempt wrote is part of this one's prompt, and not of the request's.
        first = self._answer.log.started
        prompt_tokens = self._own(event.prompt_tokens) if first is None else first.prompt_tokens
        self._prompt = Usage(prompt_tokens, 0, min(event.cached_tokens, prompt_tokens))
        if self._too_dear(0):
            raise PolicyRefused(
                "the prompt alone costs more than max_price allows",
                reason=Reason.PRICE_ABOVE_LIMIT.value,
                field="max_price_micro_usd",
            )
        self._tab.started(self._prompt)
        self._answer.started(
            replace(
                event,
                prompt_tokens=self._prompt.prompt_tokens,
                cached_tokens=self._prompt.cached_tokens,
                same_model_demo=self._work.same_model_demo,
                draft=self._answer.log.verdict,
            )
        )

    def may_add(self, delta: Delta) -> bool:
        """Whether the answer may take this piece: neither too long nor too dear with it."""
        long = self._answer.log.last.tokens + delta.tokens > self.most
        return not (long or self._too_dear(delta.tokens))

    def wrote(self, delta: Delta) -> None:
        """The next piece."""
        self._written += delta.tokens
        if self._first_s is None:
            self._first_s = time.monotonic()
            self._request.span.event("first token")
            if not self._begun:
                self._work.metrics.first_token(self._first_s - self._arrived_s)
        self._answer.wrote(delta)

    def finished(self, event: Finished) -> None:
        """The end. The device hears of the whole answer, whoever wrote the parts of it."""
        told = event.usage
        room = self.most - self._answer.log.last.tokens + self._written
        # More than was asked for cannot be true.
        credible = 0 < told.completion_tokens <= room
        written = told.completion_tokens if credible else self._written
        prompt_tokens = self._prompt.prompt_tokens or min(
            self._own(told.prompt_tokens), self._work.limits.max_prompt_tokens
        )
        cached_tokens = min(told.cached_tokens or self._prompt.cached_tokens, prompt_tokens)
        whole = Usage(prompt_tokens, self._before + written, cached_tokens)
        self._tab.complete(whole)
        per_token_s: float | None = None
        if self._first_s is not None and written > 1:
            per_token_s = (time.monotonic() - self._first_s) / (written - 1)
        if self.drafted is not None and self._first_s is not None:
            first_s = self._first_s - self._turn_s
            self._work.learn(self.drafted, self._request.draft, first_s, per_token_s)
        own = replace(whole, completion_tokens=written)
        self._work.metrics.answered(own, per_token_s)
        self._answer.finished(Finished(event.reason, whole))
        self._request.span.set(
            {
                "gen_ai.usage.input_tokens": whole.prompt_tokens,
                "gen_ai.usage.output_tokens": whole.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": whole.cached_tokens,
                "gen_ai.response.finish_reasons": (event.reason.value,),
            }
        )

    def _own(self, prompt_tokens: int) -> int:
        """The request's own prompt, where the backend counts what earlier attempts wrote too."""
        return prompt_tokens - self._before if prompt_tokens > self._before else prompt_tokens

    def _too_dear(self, more_tokens: int) -> bool:
        limit_usd = self._request.preference.max_price_usd
        if limit_usd is None:
            return False
        tokens = self._before + self._written + more_tokens
        usage = replace(self._prompt, completion_tokens=tokens)
        return self._price.cost_micro_usd(usage) > limit_usd * MICRO_USD_PER_USD


def can_judge(backend: Backend, request: ChatRequest) -> bool:
    """Whether `backend` may judge the draft of `request`: of a form, or of a call, nobody can."""
    formed = request.response_format.kind is not ResponseKind.TEXT
    calls = bool(request.tools) and request.tool_choice is not ToolChoice.NONE
    return backend.info().verifies_drafts and not formed and not calls


async def judge_draft(backend: Backend, request: ChatRequest) -> DraftVerdict:
    """What `backend` lets stand of the draft. One that cannot be judged is dropped."""
    # Something must be left to write, or there would be no answer to tell the verdict with.
    most = None if request.max_tokens is None else request.max_tokens - 1
    try:
        return judged(request.draft, await backend.judge(request), most_tokens=most)
    except (NotSupported, InvalidRequest) as error:
        _log.info("request %r: its draft cannot be judged (%s)", request.request_id, error.kind)
        return DraftVerdict(judged=False)


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
