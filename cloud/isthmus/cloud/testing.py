"""Fakes for tests, ours and yours: a backend that follows a script, a gateway on loopback.

async with running_gateway(ScriptedBackend(["Hello", " there"])) as address:
    tier = RemoteTier(RemoteConfig(address))
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from isthmus.cloud.backends.base import Backend
from isthmus.cloud.config import CloudConfig
from isthmus.cloud.drafts import JudgedToken
from isthmus.cloud.server import Gateway
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import Unavailable
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started, TokenLogprob
from isthmus.core.money import Usage
from isthmus.core.tier import Load, ModelInfo


class ScriptedBackend:
    """Says `words`, one a token, with pauses, and fails where it is told to.

    `first_delay_s` comes before the start, `delay_s` before each word; `failure` is raised after
    `fail_after` words (0: after the start, `None`: before it). It continues an answer begun
    elsewhere by skipping the words that are already said.
    """

    def __init__(
        self,
        words: Sequence[str] = ("Paris", " is", " the", " capital", "."),
        *,
        first_delay_s: float = 0.0,
        delay_s: float = 0.0,
        failure: BaseException | None = None,
        fail_after: int | None = None,
        info: ModelInfo | None = None,
        draft_logprobs: Sequence[float] = (),
    ) -> None:
        self.words = tuple(words)
        self.first_delay_s = first_delay_s
        self.delay_s = delay_s
        self.failure = failure
        self.fail_after = fail_after
        self.draft_logprobs = tuple(draft_logprobs)
        """Of a draft's words; the last one stands for all that follow."""
        self.healthy = True
        self.requests: list[ChatRequest] = []
        """Every request that reached it."""
        self.stopped_at_s: list[float] = []
        """When (monotonic) an answer was stopped before its end."""
        self.running = 0
        self.most_running = 0
        self.closed = False
        self._info = info or ModelInfo(model="scripted", backend="scripted", context_tokens=4096)

    async def start(self) -> None:
        """Nothing to load."""

    async def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Follow the script."""
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        complete = False
        try:
            if self.failure is not None and self.fail_after is None:
                complete = True
                raise self.failure
            await asyncio.sleep(self.first_delay_s)
            prompt_tokens = sum(len(message.text.split()) for message in request.messages)
            yield Started(model=self._info.model, prompt_tokens=prompt_tokens)
            said = 0
            for word in self._rest(request):
                if self.failure is not None and said == self.fail_after:
                    complete = True
                    raise self.failure
                if said == request.max_tokens:
                    break
                await asyncio.sleep(self.delay_s)
                yield Delta(word, logprobs=_logprobs(word, request))
                said += 1
            complete = True
            cut = said == request.max_tokens and said < len(self.words)
            yield Finished(
                FinishReason.LENGTH if cut else FinishReason.STOP, Usage(prompt_tokens, said)
            )
        finally:
            self.running -= 1
            if not complete:
                self.stopped_at_s.append(time.monotonic())

    async def judge(self, request: ChatRequest) -> list[JudgedToken]:
        """Each word of the draft, with the spaces before it, is a token."""
        self.requests.append(request)
        told = self.draft_logprobs or (0.0,)
        return [
            JudgedToken(word.end(), told[min(at, len(told) - 1)])
            for at, word in enumerate(re.finditer(r"\s*\S+|\s+", request.draft))
        ]

    async def health(self) -> None:
        """Healthy while `healthy` is true."""
        if not self.healthy:
            raise Unavailable("the scripted backend was told to be ill")

    def load(self) -> Load:
        """What is running."""
        return Load(running_requests=self.running)

    def info(self) -> ModelInfo:
        """What it was told to be."""
        return self._info

    def collectors(self) -> Sequence[Any]:
        """None."""
        return ()

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _rest(self, request: ChatRequest) -> tuple[str, ...]:
        said = request.answer_so_far
        for i in range(len(self.words) + 1):
            if "".join(self.words[:i]) == said:
                return self.words[i:]
        return self.words


def _logprobs(word: str, request: ChatRequest) -> tuple[TokenLogprob, ...]:
    if request.sampling.top_logprobs is None:
        return ()
    return (TokenLogprob(word, -0.5, word.encode()),)


def gateway_config(**overrides: Any) -> CloudConfig:
    """A configuration for tests: any free port on loopback, no metrics page, a short drain,
    a ledger that forgets.
    """
    defaults: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "metrics_listen": None,
        "drain_s": 0.2,
        "ledger": {"kind": "off"},
    }
    return CloudConfig.load(flags=defaults | overrides)


@asynccontextmanager
async def running_gateway(backend: Backend | None = None, **overrides: Any) -> AsyncIterator[str]:
    """A real gateway over loopback gRPC in front of `backend`; yields its address.

    `overrides` are settings of `CloudConfig`.
    """
    gateway = Gateway(gateway_config(**overrides), backend or ScriptedBackend())
    await gateway.start()
    try:
        yield gateway.address
    finally:
        await gateway.stop()
