"""The on-device engine: a model, a plan, and what a caller asks of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from isthmus.core.chat import ChatRequest, Sampling
from isthmus.core.checks import check_sampling
from isthmus.core.deadline import Deadline
from isthmus.core.errors import (
    ContextTooLong,
    InvalidRequest,
)
from isthmus.core.events import Event
from isthmus.engine.answer import Answer, Job
from isthmus.engine.calls import MAX_CALLS
from isthmus.engine.constraint import (
    Constraint,
    Grammars,
    is_constrained,
    is_installed,
    may_call,
)
from isthmus.engine.fallback import Fallback, FallbackPlan, Loaded, Runner
from isthmus.engine.kv import KVPool
from isthmus.engine.model import ModelConfig
from isthmus.engine.opening import open_runners
from isthmus.engine.outlet import Outlet
from isthmus.engine.prepared import LoadedModel
from isthmus.engine.scheduler import Scheduler
from isthmus.engine.speculation import PromptLookup, SpeculationCount
from isthmus.engine.tokens.tokenizer import Segment, Tokenizer
from isthmus.engine.worker import Worker
from isthmus.kernels.base import BLOCK_TOKENS, Backend, KVShape, KVType

if TYPE_CHECKING:
    from isthmus.engine.template import ChatTemplate, Prompt

_log = logging.getLogger(__name__)

PREFILL_CHUNK = 128
"""The most tokens in one step: a cancelled prefill stops at the next one."""
DEFAULT_CONTEXT_TOKENS = 8192


class Engine:
    """Answers chat requests with a model on this machine. Any thread, any event loop.

    One thread of its own computes; callers get events through their own loop and never hold it
    up. `close` ends it.
    """

    def __init__(
        self,
        model: LoadedModel,
        backend: Backend,
        *,
        context_tokens: int | None = None,
        max_waiting: int = 64,
        kv_bytes: int | None = None,
        kv_type: str = "int8",
        speculation: bool = True,
        idle_unload_s: float | None = None,
        reload: Callable[[], LoadedModel] | None = None,
        renew: Callable[[], Loaded] | None = None,
        standbys: Sequence[Runner] = (),
    ) -> None:
        """Plan `model` on `backend`, and on the next of `standbys` whenever one fails.

        One that was lost is made anew by `renew` and goes on when it works again.

        `context_tokens` bounds a conversation; `kv_bytes` what the keys and values of all
        conversations, running and remembered, may take: by default as much as one that fills the
        context. A limit below that shortens the context. `kv_type` is their form: float32, float16
        or int8. With `speculation`, tokens are guessed from the prompt where that pays; answers are
        the same without. After `idle_unload_s` without work the plan and what it remembers are
        freed, and the weights too when `reload` can load them; the next request brings them back.
        Raises `InvalidRequest` for a limit that holds nothing.
        """
        # Without its weights: the plan alone holds those, so that they can go.
        self._model = replace(model, ops=())
        wanted = context_tokens or DEFAULT_CONTEXT_TOKENS
        shape = _pool_shape(model.config, wanted, kv_bytes, KVType(kv_type))
        self.context_tokens = min(model.config.context, wanted, shape.blocks * shape.block_tokens)
        self.tokenizer = Tokenizer(model.tokenizer)
        self._template: ChatTemplate | None = None
        self._grammars: Grammars | None = None
        self._keeps_forms = is_installed()
        ops_again = None if reload is None else lambda: reload().ops
        first = Runner.of(backend, model.ops, reload=ops_again, renew=renew)
        self._plan = FallbackPlan([first, *standbys], kv=shape, max_tokens=PREFILL_CHUNK)
        self._pool = KVPool(shape, self._plan.copy_block)
        self._scheduler = Scheduler(
            self._plan,
            self._pool,
            model=model.name,
            drafter=PromptLookup if speculation else None,
        )
        self._worker = Worker(
            self._plan,
            self._pool,
            self._scheduler,
            name=model.name,
            max_waiting=max_waiting,
            idle_unload_s=idle_unload_s,
        )

    @classmethod
    def open(
        cls,
        model: str,
        *,
        backend: str = "auto",
        threads: int | None = None,
        context_tokens: int | None = None,
        kv_bytes: int | None = None,
        kv_type: str = "int8",
        speculation: bool = True,
        idle_unload_s: float | None = None,
    ) -> Self:
        """Load a model by catalogue name or path. Blocks: seconds at first, less than one later.

        With `auto` prompts and answers each get the backend that was measured to be the better one,
        at the first start where there are several, and the next goes on when one fails. One asked
        for by name does both and is strict. Raises the engine's errors (unknown, missing, damaged
        or unsupported model) and `BackendUnavailable`.
        """
        opened = open_runners(model, backend=backend, threads=threads)
        engine = cls(
            opened.model,
            opened.backend,
            context_tokens=context_tokens,
            kv_bytes=kv_bytes,
            kv_type=kv_type,
            speculation=speculation,
            idle_unload_s=idle_unload_s,
            reload=opened.reload,
            renew=opened.renew,
            standbys=opened.standbys,
        )
        engine.fallbacks.update(opened.passed_over or {})
        _log.info("%s on %s (%s)", engine.model_name, opened.backend.name, engine.device)
        return engine

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._model.config

    @property
    def step_bytes(self) -> int | None:
        """Bytes of weights that the last step read; None where the backend does not count."""
        return self._scheduler.step_bytes

    @property
    def prefill_backend(self) -> str:
        """The backend that computes prompts."""
        return self._plan.prefill_backend

    @property
    def decode_backend(self) -> str:
        """The backend that writes answers."""
        return self._plan.decode_backend

    @property
    def device(self) -> str:
        """What the backend runs on."""
        return self._plan.backend.device

    @property
    def fallbacks(self) -> Counter[Fallback]:
        """How often the engine went on with another backend."""
        return self._plan.fallbacks

    @property
    def supports_tools(self) -> bool:
        """Whether it can call tools."""
        return self._keeps_forms

    @property
    def supports_json(self) -> bool:
        """Whether its answers can be held to JSON and to a JSON schema."""
        return self._keeps_forms

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory; an idle one may not be."""
        return self._plan.loaded

    @property
    def queue_depth(self) -> int:
        """Answers that wait for a place in the batch."""
        return self._worker.queue_depth

    @property
    def running(self) -> int:
        """Answers in the batch."""
        return self._scheduler.running

    @property
    def kv_used_tokens(self) -> int:
        """Positions of the KV pool that are in use."""
        return self._pool.used_tokens

    @property
    def speculated(self) -> SpeculationCount:
        """Tokens guessed so far, and those guessed right."""
        return self._scheduler.speculated

    def prompt(self, request: ChatRequest) -> Prompt:
        """The request as this model's prompt. Raises `NotSupported` for what it cannot do."""
        tools = request.tools if may_call(request) else ()
        return self._chat_template().render(
            request.messages, tools=tools, answer_so_far=request.answer_so_far
        )

    def constraint(self, request: ChatRequest) -> Constraint | None:
        """The form that the request's answer must have; `None` when any text will do.

        Raises `InvalidRequest` or `NotSupported`, whose `field` names the schema.
        """
        if not is_constrained(request):
            return None
        if self._grammars is None:
            self._grammars = Grammars(self.tokenizer)
        trained = self._chat_template().supports_tools
        return self._grammars.constraint(request, most_calls=MAX_CALLS if trained else 1)

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Answer a chat request. Closing the iterator stops the work at the next step.

        Raises `InvalidRequest`, `ContextTooLong`, `NotSupported`, `Overloaded`,
        `DeadlineExceeded`, `Unavailable`.
        """
        prompt, constraint = await asyncio.to_thread(
            lambda: (self.prompt(request), self.constraint(request))
        )
        events = self.complete(
            prompt,
            request.sampling,
            max_tokens=request.max_tokens,
            deadline=request.deadline,
            constraint=constraint,
            reads_calls=may_call(request),
            watched=request.watched,
            cache_salt=request.cache_salt,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def complete(
        self,
        prompt: Prompt | str,
        sampling: Sampling,
        *,
        max_tokens: int | None = None,
        deadline: Deadline = Deadline.NEVER,
        constraint: Constraint | None = None,
        reads_calls: bool = False,
        watched: bool = False,
        cache_salt: str = "",
    ) -> AsyncGenerator[Event, None]:
        """Continue a prompt. As `generate`, without a chat template.

        `reads_calls` parts the tool calls, which `constraint` then allows, from the text. `watched`
        and `cache_salt` are as in `ChatRequest`.
        """
        check_sampling(sampling)
        segments = (Segment(prompt),) if isinstance(prompt, str) else prompt.segments
        longest = self.context_tokens * self.tokenizer.longest_token_bytes
        if sum(len(segment.text) for segment in segments) > longest:
            # Found out by tokenizing, it would take seconds and some hundred bytes a character.
            raise ContextTooLong(
                f"the conversation has more than {longest} characters, which cannot fit the "
                f"model's context of {self.context_tokens} tokens: shorten it",
                field="messages",
            )
        tokens = await asyncio.to_thread(self._tokenize, segments, cache_salt)
        room = self.context_tokens - len(tokens)
        if room < 1:
            raise ContextTooLong(
                f"the conversation has {len(tokens)} tokens; with an answer it must fit the "
                f"model's context of {self.context_tokens}: shorten it",
                field="messages",
            )
        if not tokens:
            # Something must come before the first.
            tokens = [next(iter(self._model.tokenizer.eos_ids), 0)]
        outlet = Outlet(deadline)
        limit = room if max_tokens is None else min(max_tokens, room)
        job = Job(
            segments,
            tokens,
            sampling,
            limit,
            deadline,
            outlet.put,
            constraint,
            reads_calls,
            watched,
            cache_salt=cache_salt,
        )
        answer = Answer(job, self.tokenizer)
        self._worker.submit(answer)
        try:
            async with contextlib.aclosing(outlet.events()) as events:
                async for event in events:
                    yield event
        finally:
            answer.cancelled = True

    async def judge(self, request: ChatRequest) -> list[tuple[bytes, float, bool]]:
        """The tokens of the request's draft: bytes, log-probability, whether none is likelier.

        All from one prefill, whose keys and values an answer then finds. The first token may begin
        before the draft. Raises as `generate`.
        """
        begun = replace(request, answer_so_far=request.answer_so_far + request.draft)
        prompt = await asyncio.to_thread(self.prompt, begun)
        tokens = await asyncio.to_thread(self._tokenize, prompt.segments, request.cache_salt)
        wanted, count, length = len(request.draft.encode()), 0, 0
        while length < wanted and count < len(tokens) - 1:
            count += 1
            length += len(self.tokenizer.token_bytes(tokens[-count]))
        if len(tokens) >= self.context_tokens:
            raise ContextTooLong("the draft does not fit the model's context", field="draft")
        outlet = Outlet(request.deadline)
        job = Job(
            (),
            tokens,
            Sampling(temperature=0),
            1,
            request.deadline,
            outlet.put,
            judged=count,
            cache_salt=request.cache_salt,
        )
        answer = Answer(job, self.tokenizer)
        self._worker.submit(answer)
        try:
            async with contextlib.aclosing(outlet.events()) as events:
                async for _ in events:
                    pass
        finally:
            answer.cancelled = True
        raw = [self.tokenizer.token_bytes(token) for token in tokens[-count:]]
        return [(one, *told) for one, told in zip(raw, answer.judgement, strict=True)]

    def close(self) -> None:
        """Stop the thread; answers that still run end with `Unavailable`."""
        self._worker.close()

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            from isthmus.engine.template import ChatTemplate

            self._template = ChatTemplate.of(self.tokenizer)
        return self._template

    def _tokenize(self, segments: tuple[Segment, ...], salt: str) -> list[int]:
        known = self._pool.continued_by(segments, salt)
        if known is None:
            return self.tokenizer.encode(segments)
        rest = self.tokenizer.encode(segments[len(known.segments) :], from_start=False)
        return [*known.tokens, *rest]


def _pool_shape(
    config: ModelConfig, context_tokens: int, kv_bytes: int | None, kv_type: KVType
) -> KVShape:
    if kv_bytes is None:
        return KVShape.for_tokens(min(config.context, context_tokens), kv_type)
    block_bytes = BLOCK_TOKENS * config.kv_bytes_per_token(kv_type)
    if kv_bytes < block_bytes:
        raise InvalidRequest(
            f"{kv_bytes} bytes hold no keys and values: a block of {BLOCK_TOKENS} tokens takes "
            f"{block_bytes}",
            field="kv_bytes",
        )
    return KVShape(kv_bytes // block_bytes, dtype=kv_type)
