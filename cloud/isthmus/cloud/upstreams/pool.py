"""The backend over one or many upstreams: it chooses, watches, and fails over inside of answers."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from isthmus.cloud.backends.base import BackendConfig, refuse_settings
from isthmus.cloud.drafts import JudgedToken
from isthmus.cloud.upstreams import discovery
from isthmus.cloud.upstreams.choice import choose, prefix_of
from isthmus.cloud.upstreams.client import UpstreamClient
from isthmus.cloud.upstreams.metrics import UpstreamMetrics
from isthmus.cloud.upstreams.progress import Progress
from isthmus.cloud.upstreams.upstream import Upstream
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    Overloaded,
    Unavailable,
)
from isthmus.core.events import Event, Finished, Started
from isthmus.core.tier import Load, ModelInfo
from isthmus.core.tracing.base import NO_SPAN

_log = logging.getLogger(__name__)

_ELSEWHERE: Final = (Unavailable, Overloaded, DeadlineExceeded, InternalError)
"""Errors of an upstream that another one may not have."""
_FIRST_PAUSE_S: Final = 0.05
_MOST_MOVES: Final = 10


class UpstreamPool:
    """Reads `url` or `urls`, `model`, `api_key`, `connect_timeout_s` and `upstreams`.

    Options join every request's body.
    """

    def __init__(
        self,
        config: BackendConfig,
        *,
        rng: random.Random | None = None,
    ) -> None:
        refuse_settings(config, "threads")
        if config.url and config.urls:
            raise ConfigError("backend.url and backend.urls must not both be given", field="url")
        self._config = config
        self._limits = config.upstreams
        self._addresses = discovery.configured(config.urls or ((config.url,) if config.url else ()))
        self._rng = rng or random.Random()
        self._tls: ssl.SSLContext | None = None
        self._watches: dict[Upstream, asyncio.Task[None]] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._metrics = UpstreamMetrics([one.name for one in self._addresses])
        self._metrics.watch(lambda: self._watches)

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look for the upstreams; one that is not there yet is not an error."""
        if any(one.scheme == "https" for one in self._addresses):
            self._tls = ssl.create_default_context()
        found = self._addresses
        if self._limits.discovery == "dns":
            found = await discovery.resolved(self._addresses)
            self._resolving = asyncio.create_task(self._resolve())
        upstreams = [self._add(address) for address in found]
        await asyncio.gather(*(upstream.probe() for upstream in upstreams))

    async def close(self) -> None:
        """Stop watching, close every connection."""
        if self._resolving is not None:
            await _cancelled(self._resolving)
            self._resolving = None
        upstreams, self._watches = self._watches, {}
        for upstream, watch in upstreams.items():
            await _cancelled(watch)
            await upstream.client.close()
        for task in list(self._closing):
            await _cancelled(task)

    # --- answering ----------------------------------------------------------------------------

    async def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer; an upstream that fails is replaced, by one that goes on where it broke off."""
        progress = Progress(request)
        tried: list[Upstream] = []
        moves = 0
        failure: IsthmusError | None = None
        while True:
            rest = progress.rest()
            anew = False
            upstream = self._choose(rest, tried, continues=bool(rest.answer_so_far))
            if upstream is None and not progress.begun:
                # None of them can go on with what was begun elsewhere.
                anew = True
                rest = replace(rest, answer_so_far="")
                upstream = self._choose(rest, tried, continues=False)
            if upstream is None:
                raise _broken_off(progress, "which no other can continue") from failure
            told = progress.tokens
            try:
                part = self._asked(upstream, rest, progress, anew=anew)
                async with aclosing(part) as events:
                    async for event in events:
                        yield event
                return
            except _ELSEWHERE as error:
                failure = error
            if progress.tokens > told:
                tried.clear()
                moves += 1
            tried.append(upstream)
            last = progress.broke()
            if last is not None:
                yield last
                return
            if isinstance(failure, Overloaded) and self._all_in(tried) and not progress.begun:
                raise failure  # to ask again at once would only add to it
            self._may_move(progress, failure, len(tried), moves)
            self._metrics.moved("mid_answer" if progress.begun else "before_first_token")
            if self._all_in(tried):
                # Wait a little before asking again where it has failed already.
                pause_s = _FIRST_PAUSE_S * 2 ** len(tried) * self._rng.uniform(0.5, 1.5)
                await asyncio.sleep(pause_s)

    async def judge(self, request: ChatRequest) -> list[JudgedToken]:
        """The draft's tokens, by an upstream that can tell them: the favourite, if it can."""
        able = [one for one in self._present() if one.client.judges]
        upstream = self._pick(able, request)
        if upstream is None:
            raise NotSupported("no upstream can judge a draft", field="draft")
        try:
            with upstream.used():
                return await upstream.client.judge(request)
        except _ELSEWHERE as error:
            # Not worth a second try: without a verdict the answer is written whole.
            upstream.failed(error, may_eject=lambda: self._others(upstream))
            raise NotSupported("the upstream failed to judge a draft", field="draft") from error

    # --- what it says of itself ---------------------------------------------------------------

    async def health(self) -> None:
        """Return when a probe of any upstream succeeded of late."""
        if not any(one.healthy for one in self._present()):
            raise Unavailable("no upstream can be reached")

    def load(self) -> Load:
        """What this gateway has running there, and how many wait where the fewest do.

        As long as one of them has no queue, there is somewhere to send the next request.
        """
        available = [one for one in self._watches if one.available]
        return Load(
            running_requests=sum(one.in_flight for one in self._watches),
            waiting_requests=min((one.client.told.waiting for one in available), default=0),
            engines=max(1, len(available)),
        )

    def info(self) -> ModelInfo:
        """The model by the upstreams' name; what they cannot do they refuse themselves."""
        present = self._present()
        told = [context for one in present if (context := one.client.told.context_tokens)]
        return ModelInfo(
            model=self._config.model,
            backend="openai",
            context_tokens=min(told, default=0),
            supports_tools=True,
            supports_images=True,
            supports_json=True,
            verifies_drafts=any(one.client.judges for one in present),
            continues_answers=any(one.client.continues for one in present),
        )

    def collectors(self) -> Sequence[Any]:
        """What is counted of each upstream."""
        return self._metrics.collectors()

    # --- inside: one upstream's part of an answer ---------------------------------------------

    async def _asked(
        self, upstream: Upstream, request: ChatRequest, progress: Progress, *, anew: bool
    ) -> AsyncGenerator[Event, None]:
        """Its events, mended; what came of it is noted."""
        clock = asyncio.get_running_loop().time
        asked_s = clock()
        result = "cancelled"
        waiting = True
        span = request.span
        if span is not NO_SPAN:
            span = upstream.client.span_of(request)
            request = replace(request, span=span)
        try:
            with upstream.used():
                async with aclosing(upstream.client.generate(request)) as events:
                    async for event in events:
                        if waiting and not isinstance(event, Started):
                            waiting = False
                            span.event("first token")
                            self._metrics.first_token(upstream.name, clock() - asked_s)
                        for seen in progress.see(event):
                            if isinstance(seen, Finished):
                                result = "ok"
                                upstream.succeeded()
                            yield replace(seen, anew=anew) if isinstance(seen, Started) else seen
                            if isinstance(seen, Finished):
                                return
        except (InvalidRequest, NotSupported):
            result = "refused"
            upstream.succeeded()
            raise
        except _ELSEWHERE as error:
            result = "overloaded" if isinstance(error, Overloaded) else "failed"
            if upstream.failed(error, may_eject=lambda: self._others(upstream)):
                self._metrics.ejected(upstream.name)
            raise
        finally:
            self._metrics.ended(upstream.name, result)
            span.end("" if result == "ok" else result)

    def _may_move(self, progress: Progress, error: IsthmusError, tried: int, moves: int) -> None:
        """Raise unless another upstream is to be tried."""
        if not progress.begun:
            if tried >= self._limits.attempts:
                raise error
            return
        if not progress.movable:
            raise _broken_off(progress, "whose form no other can continue") from error
        if tried >= self._limits.attempts or moves >= _MOST_MOVES:
            raise _broken_off(progress, "and so did the others") from error

    # --- inside: choosing ---------------------------------------------------------------------

    def _present(self) -> list[Upstream]:
        return [one for one in self._watches if not one.leaving]

    def _others(self, upstream: Upstream) -> bool:
        return any(one.available for one in self._present() if one is not upstream)

    def _all_in(self, tried: Sequence[Upstream]) -> bool:
        return all(one in tried for one in self._present())

    def _choose(
        self, request: ChatRequest, tried: Sequence[Upstream], *, continues: bool
    ) -> Upstream | None:
        """An upstream for `request`, rather one that was not tried; none: none can do it."""
        able = [one for one in self._present() if one.client.continues or not continues]
        if not self._watches:
            raise Unavailable("no upstream is known")
        fresh = [one for one in able if one not in tried]
        return self._pick(fresh or able, request)

    def _pick(self, able: Sequence[Upstream], request: ChatRequest) -> Upstream | None:
        if not able:
            return None
        # When none is well, asking any is better than asking none.
        usable = [one for one in able if one.available] or list(able)
        prefix = prefix_of(request) if self._limits.sticky else None
        return usable[choose([one.candidate() for one in usable], prefix, self._rng)]

    # --- inside: finding ----------------------------------------------------------------------

    async def _resolve(self) -> None:
        while True:
            await asyncio.sleep(self._limits.resolve_s * self._rng.uniform(0.8, 1.2))
            self.update(await discovery.resolved(self._addresses))

    def update(self, found: Sequence[discovery.Address]) -> None:
        """Take in newcomers and let those go that are not there any more."""
        names = {one.name for one in found}
        known = {one.client.address: one for one in self._watches}
        for address in found:
            if address not in known:
                self._add(address, newcomer=bool(known))
            else:
                known[address].leaving = False
        for address, upstream in known.items():
            # A name without an address says nothing: the resolver may be what fails.
            if address not in found and address.name in names and not upstream.leaving:
                upstream.leaving = True
                task = asyncio.create_task(self._let_go(upstream))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _add(self, address: discovery.Address, *, newcomer: bool = False) -> Upstream:
        tls = self._tls if address.scheme == "https" else None
        client = UpstreamClient(self._config, address, tls=tls)
        upstream = Upstream(client, self._limits, newcomer=newcomer, rng=self._rng)
        self._watches[upstream] = asyncio.create_task(upstream.watch())
        return upstream

    async def _let_go(self, upstream: Upstream) -> None:
        """Forget it once its last answer has ended, unless it comes back."""
        await upstream.idle.wait()
        if upstream.leaving:
            watch = self._watches.pop(upstream)
            await _cancelled(watch)
            await upstream.client.close()


def _broken_off(progress: Progress, why: str) -> Unavailable:
    return Unavailable(f"the upstream failed after {progress.tokens} tokens of the answer, {why}")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
