"""Fakes for those who build on the agent, and for our own tests: tiers that follow a script.

async with running_agent(ScriptedEngine(), cloud=ScriptedTier()) as agent:
    client = openai.AsyncOpenAI(base_url=f"{agent.url}/v1", api_key="none")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.core import wire
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import IsthmusError
from isthmus.core.events import (
    Delta,
    DraftVerdict,
    Event,
    Finished,
    FinishReason,
    FirstToken,
    Started,
    TokenLogprob,
)
from isthmus.core.money import Usage
from isthmus.core.tier import ModelInfo
from isthmus.core.tracing import config as tracing
from isthmus.edge.agent import Agent
from isthmus.edge.breaker import CircuitBreaker
from isthmus.edge.config import EdgeConfig
from isthmus.edge.device import Device, LocalEngine
from isthmus.edge.ledger import Ledger
from isthmus.edge.page.kept import Kept
from isthmus.edge.sensors import Sensors
from isthmus.edge.server import listen, make_server
from isthmus.edge.tiers import Check, Cloud
from isthmus.engine.fallback import Fallback
from isthmus.engine.speculation import SpeculationCount
from isthmus.privacy.policy import PrivacyConfig
from isthmus.privacy.scan import TextScanner


@dataclass(slots=True)
class ScriptedTier:
    """Answers with `pieces`, one token each, and then fails with `error` if there is one.

    It continues an answer begun elsewhere when that is a beginning of its own. It can stand for
    the device's engine and for the cloud alike, and notes what it was asked.
    """

    pieces: Sequence[str] = ("Hello", " there", ".")
    error: Exception | None = None
    """Raised after the pieces, in place of the end."""
    error_at_char: int | None = None
    """Raise it already there, counted from the beginning of the whole text."""
    delay_s: float = 0.0
    """Before each piece."""
    hang: bool = False
    """Say nothing more after the pieces, for ever."""
    model_name: str = "scripted"
    context_tokens: int = 2048
    prefill_backend: str = "scripted"
    decode_backend: str = "scripted"
    supports_tools: bool = False
    supports_json: bool = False
    prompt_tokens: int = 10
    cached_tokens: int = 0
    same_model_demo: bool = False
    logprobs: Sequence[float] = ()
    """Of the pieces, for a watched request; the last one stands for all that follow."""
    first_token: FirstToken | None = None
    """What it says of its own doubt, to a watched request."""
    accepted_chars: int | None = None
    """How much of a draft it lets stand; None: it does not judge drafts."""
    anew: bool = False
    """It cannot go on with a begun answer, and says so only then."""
    deltas: Sequence[Delta] = ()
    """Given in place of `pieces` when there are any."""
    finish_reason: FinishReason = FinishReason.STOP
    requests: list[ChatRequest] = field(default_factory=list)
    left: list[bytes] = field(default_factory=list)
    """The bytes of each request, as they would leave for the gateway."""
    resumed: int = 0
    stopped: int = 0
    """How many answers were stopped before their end."""
    running: int = 0
    queue_depth: int = 0
    speculated: SpeculationCount = field(default_factory=SpeculationCount)
    fallbacks: dict[Fallback, int] = field(default_factory=dict)
    closed: bool = False
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    rtt_ms: float | None = None
    ttft_ms: float | None = None
    last_info: ModelInfo | None = None

    @property
    def available(self) -> bool:
        """Whether the breaker lets a request pass."""
        return self.breaker.allows

    async def generate(
        self, request: ChatRequest, check: Check = lambda data: None
    ) -> AsyncGenerator[Event, None]:
        """Follow the script."""
        data = wire.request_as_bytes(request)
        check(data)
        self.requests.append(request)
        self.left.append(data)
        self.running += 1
        whole = False
        try:
            accepted = request.draft[: self.accepted_chars or 0]
            begun = request.answer_so_far + accepted
            deltas = list(self.deltas) or _continued(self._all(request), begun)
            if self.error is not None and self.error_at_char is not None:
                deltas = list(_up_to(deltas, self.error_at_char - len(begun)))
            yield Started(
                self.model_name,
                self.prompt_tokens,
                self.cached_tokens,
                self.same_model_demo,
                self._verdict(request.draft, accepted),
                self.anew and bool(request.answer_so_far),
            )
            for delta in deltas[: request.max_tokens]:
                await asyncio.sleep(self.delay_s)
                yield delta
            if self.hang:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
            whole = True
            cut = request.max_tokens is not None and request.max_tokens < len(deltas)
            usage = Usage(
                self.prompt_tokens,
                sum(delta.tokens for delta in deltas[: request.max_tokens]),
                self.cached_tokens,
            )
            yield Finished(FinishReason.LENGTH if cut else self.finish_reason, usage)
        except IsthmusError:
            whole = True
            raise
        finally:
            self.running -= 1
            self.stopped += not whole

    def _all(self, request: ChatRequest) -> list[Delta]:
        """The whole script."""
        if not request.watched:
            return [Delta(piece) for piece in self.pieces]
        deltas = []
        for at, piece in enumerate(self.pieces):
            logprob = self.logprobs[min(at, len(self.logprobs) - 1)] if self.logprobs else -0.1
            token = TokenLogprob(piece, logprob, piece.encode())
            first = self.first_token if at == 0 else None
            deltas.append(Delta(piece, logprobs=(token,), first_token=first))
        return deltas

    def _verdict(self, draft: str, accepted: str) -> DraftVerdict | None:
        if not draft:
            return None
        if self.accepted_chars is None:
            return DraftVerdict(judged=False)
        words = len(accepted.split())
        return DraftVerdict(True, len(accepted.encode()), words, max(words, len(draft.split())))

    async def info(self) -> ModelInfo:
        """What it serves."""
        self.last_info = self.last_info or ModelInfo(self.model_name, self.decode_backend)
        return self.last_info

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class ScriptedEngine(ScriptedTier):
    """A `ScriptedTier` with the blocking `close` of an engine."""

    __slots__ = ()

    def close(self) -> None:  # type: ignore[override]
        """Note that it was closed."""
        self.closed = True


def _up_to(deltas: list[Delta], chars: int) -> Iterator[Delta]:
    for delta in deltas:
        if chars > 0:
            yield replace(delta, text=delta.text[:chars])
        chars -= len(delta.text)


def _continued(whole: list[Delta], answer_so_far: str) -> list[Delta]:
    text = "".join(delta.text for delta in whole)
    if not answer_so_far or not text.startswith(answer_so_far):
        return whole
    deltas, skip = [], len(answer_so_far)
    for delta in whole:
        if len(delta.text) > skip:
            deltas.append(replace(delta, text=delta.text[skip:]))
        skip = max(0, skip - len(delta.text))
    return deltas


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """An agent that serves on a loopback port of its own."""

    url: str
    """`http://127.0.0.1:port`"""
    agent: Agent


@asynccontextmanager
async def running_agent(
    engine: LocalEngine | Callable[[], LocalEngine] | None = None,
    *,
    cloud: Cloud | None = None,
    ledger: Ledger | None = None,
    scanner: TextScanner | None = None,
    sensors: Sensors | None = None,
    kept: Kept | None = None,
    **settings: Any,
) -> AsyncIterator[RunningAgent]:
    """A real agent behind a real server, over `engine` (or what opens one) and `cloud`.

    `settings` are those of `EdgeConfig`; the use of the cloud is consented to unless they say
    otherwise. What the page keeps is in memory unless there is a `kept`. Closes everything at the
    end, the ledger and the conversations included.
    """
    load = engine if callable(engine) else (lambda: engine or ScriptedEngine())
    sock = listen("127.0.0.1", settings.get("port", 0))
    settings = {"privacy": PrivacyConfig(consent=True), **settings}
    config = EdgeConfig(**{**settings, "port": sock.getsockname()[1]})
    agent = Agent(
        config,
        device=Device(load),
        cloud=cloud,
        ledger=ledger,
        scanner=scanner,
        sensors=sensors,
        tracer=tracing.create(config.tracing, "isthmus-edge"),
    )
    kept = kept or Kept()
    server = make_server(agent, config, kept)
    agent.device.start()
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield RunningAgent(f"http://127.0.0.1:{config.port}", agent)
    finally:
        server.stop()
        await serving
        await agent.close()
        kept.store.close()
