"""vLLM in this process: `AsyncLLM`, whose engine core runs in a process of its own.

With `vllm_tools` and `serving.installed` the only module of the gateway that imports vLLM (0.32 or
newer).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from isthmus.cloud.backends.base import BackendConfig, refuse_settings
from isthmus.cloud.backends.openai_body import message_of
from isthmus.cloud.backends.vllm_tokens import Tokens
from isthmus.cloud.backends.vllm_tools import CallReader, ToolCalling, may_call
from isthmus.cloud.drafts import JudgedToken, ends_of
from isthmus.cloud.metrics import ProcessMetrics
from isthmus.cloud.serving.arguments import engine_arguments
from isthmus.cloud.serving.config import ServingConfig
from isthmus.cloud.serving.installed import installed
from isthmus.core.chat import ChatRequest, Message, ResponseKind
from isthmus.core.errors import (
    ConfigError,
    ContextTooLong,
    InternalError,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    Overloaded,
    Unavailable,
)
from isthmus.core.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
)
from isthmus.core.money import Usage
from isthmus.core.tier import Load, ModelInfo

# Nothing of the engine is worth keeping: its processes are ended when they take longer.
_SHUTDOWN_S: Final = 1.0
_LOGGING_ARGUMENTS: Final = ("enable_log_requests", "log_config_file", "logging_config")
_FINISH: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class VllmBackend:
    """Reads `model` (a folder or a hub name); how it is served is said in `[serving]`."""

    def __init__(self, config: BackendConfig, serving: ServingConfig) -> None:
        refuse_settings(
            config, "url", "urls", "upstreams", "api_key", "threads", "connect_timeout_s", "options"
        )
        self._config = config
        self._serving = serving
        self._engine: Any = None
        self._tokenizer: Any = None
        self._tools: ToolCalling | None = None
        self._name = config.model.rstrip("/").rpartition("/")[2]
        self._context_tokens = 0
        self._running = 0
        self._metrics = ProcessMetrics("vllm:")

    async def start(self) -> None:
        """Load the model. Raises `Unavailable` without vLLM, `ConfigError` for what it refuses."""
        _prepare_environment()
        _refuse_logging(self._serving)
        # Before a model is loaded: a misspelt option should not cost minutes.
        installed().check(self._serving)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            arguments = AsyncEngineArgs(model=self._config.model, **engine_arguments(self._serving))
            self._engine = AsyncLLM.from_engine_args(arguments)
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(f"vLLM refuses [serving]: {error}", field="serving") from error
        except RuntimeError as error:
            raise Unavailable("vLLM's engine did not start; its own log says why") from error
        self._tokenizer = self._engine.get_tokenizer()
        self._context_tokens = int(self._engine.model_config.max_model_len)
        self._tools = ToolCalling(
            self._serving.tool_call_parser, self._tokenizer, self._engine.model_config
        )

    async def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer with vLLM; leaving aborts the request in its scheduler."""
        engine = self._opened()
        calls = self._tools.begin(request) if self._tools and may_call(request) else None
        prompt = await asyncio.to_thread(self._prompt, request, calls)
        params = self._params(request, len(prompt), calls)
        tokens, most_top = Tokens(self._tokenizer), request.sampling.top_logprobs
        self._running += 1
        try:
            # Closed by hand: leaving an `async for` does not close what it iterates.
            async with aclosing(
                engine.generate(
                    _salted(prompt, request),
                    params,
                    request.request_id,
                    trace_headers=self._trace_headers(request),
                )
            ) as outputs:
                began, completion_tokens, cached_tokens = False, 0, 0
                async for output in outputs:
                    if not began:
                        began = True
                        cached_tokens = int(output.num_cached_tokens or 0)
                        yield Started(self._name, len(prompt), cached_tokens)
                    piece = output.outputs[0]
                    completion_tokens += len(piece.token_ids)
                    text, called = piece.text, tuple[ToolCallDelta, ...]()
                    if calls is not None:
                        text, called = calls.read(
                            text, list(piece.token_ids), prompt, finished=output.finished
                        )
                    if text or called or piece.token_ids:
                        logprobs = () if most_top is None else tokens.logprobs(piece, most_top)
                        yield Delta(text, len(piece.token_ids), logprobs, called)
                    if output.finished:
                        reason = _finish(piece.finish_reason)
                        if reason is FinishReason.STOP and calls is not None and calls.called:
                            reason = FinishReason.TOOL_CALLS
                        usage = Usage(len(prompt), completion_tokens, cached_tokens)
                        yield Finished(reason, usage)
        except Exception as error:
            raise error_of(error, field=_form_field(request, calls)) from error
        finally:
            self._running -= 1

    async def judge(self, request: ChatRequest) -> list[JudgedToken]:
        """The draft's tokens by one prefill, whose blocks the answer then finds in the cache.

        The prefill itself reads no cached block: vLLM 0.32 tells nothing of positions that it does
        not compute (`skip_reading_prefix_cache` is on by default with `prompt_logprobs`).
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        begun = replace(request, answer_so_far=request.answer_so_far + request.draft)
        prompt = await asyncio.to_thread(self._prompt, begun, None)
        ends = await asyncio.to_thread(self._draft_ends, prompt, request.draft)
        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        rows: Any = None
        try:
            async with aclosing(
                self._opened().generate(
                    _salted(prompt, begun), params, f"{request.request_id}-draft"
                )
            ) as outputs:
                async for output in outputs:
                    rows = output.prompt_logprobs
        except Exception as error:
            raise error_of(error) from error
        if not rows:
            raise NotSupported("vLLM told no log-probabilities of the prompt", field="draft")
        told = [
            row[token] for token, row in zip(prompt[-len(ends) :], rows[-len(ends) :], strict=True)
        ]
        return [
            JudgedToken(end, one.logprob, one.rank == 1)
            for end, one in zip(ends, told, strict=True)
        ]

    def _draft_ends(self, prompt: list[int], draft: str) -> list[int]:
        """Where each of the draft's tokens, the last of `prompt`, ends in it."""
        # No token of a text holds less than a byte of it.
        last = prompt[-len(draft.encode()) :]
        tokens = Tokens(self._tokenizer)
        ends = ends_of([tokens.raw(token) or b"" for token in last], draft)
        if ends is None:
            raise NotSupported("the model's tokenizer changes the draft's text", field="draft")
        return ends

    async def health(self) -> None:
        """Ask the engine; a dead one is `Unavailable`."""
        try:
            await self._opened().check_health()
        except IsthmusError:
            raise
        except Exception as error:
            raise error_of(error) from error

    def load(self) -> Load:
        """What was sent to the engine and has not ended, and how much of it waits there."""
        return Load(
            running_requests=self._running,
            waiting_requests=int(self._metrics.value("num_requests_waiting")),
        )

    def info(self) -> ModelInfo:
        """The model by the name of its folder."""
        return ModelInfo(
            model=self._name,
            backend="vllm",
            context_tokens=self._context_tokens,
            supports_tools=True,
            supports_json=True,
            verifies_drafts=True,
        )

    def collectors(self) -> Sequence[Any]:
        """VLLM's own metrics, which it keeps in the process-wide registry."""
        return (self._metrics,)

    async def close(self) -> None:
        """Stop the engine's process."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.shutdown, _SHUTDOWN_S)

    def _trace_headers(self, request: ChatRequest) -> dict[str, str] | None:
        """What makes vLLM's spans part of the request's trace, where it was told to trace."""
        traceparent = request.span.traceparent
        if not traceparent or not self._serving.engine.get("otlp_traces_endpoint"):
            return None
        return {"traceparent": traceparent}

    def _opened(self) -> Any:
        if self._engine is None:
            raise Unavailable("the vllm backend is not started")
        return self._engine

    def _prompt(self, request: ChatRequest, calls: CallReader | None) -> list[int]:
        """The token ids of the conversation in the model's own chat template."""
        try:
            text = self._tokenizer.apply_chat_template(
                [_spoken(message) for message in request.messages],
                tools=None if calls is None else calls.tools,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:
            # A template may quote a message in what it raises, so its words are not repeated.
            raise InvalidRequest(
                f"the model's chat template fails on this conversation ({type(error).__name__})",
                field="messages",
            ) from None
        # An answer begun elsewhere is appended as it is: templates would trim it.
        ids: list[int] = self._tokenizer.encode(
            text + request.answer_so_far, add_special_tokens=False
        )
        if len(ids) >= self._context_tokens:
            raise ContextTooLong(
                f"the conversation has {len(ids)} tokens, the model's context "
                f"{self._context_tokens}; shorten it",
                field="messages",
            )
        return ids

    def _params(self, request: ChatRequest, prompt_tokens: int, calls: CallReader | None) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        sampling, form = request.sampling, request.response_format
        room = self._context_tokens - prompt_tokens
        structured = None
        if calls is not None:
            structured = calls.structured_outputs
        elif form.kind is ResponseKind.JSON_SCHEMA:
            structured = StructuredOutputsParams(json=dict(form.schema or {}))
        elif form.kind is ResponseKind.JSON_OBJECT:
            structured = StructuredOutputsParams(json_object=True)
        if structured is not None and request.answer_so_far:
            # vLLM matches the form from the first token that it writes itself.
            raise NotSupported(
                "vLLM cannot go on with a form that was begun elsewhere", field="answer_so_far"
            )
        try:
            return SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                presence_penalty=sampling.presence_penalty,
                frequency_penalty=sampling.frequency_penalty,
                seed=sampling.seed,
                stop=list(sampling.stop),
                ignore_eos=sampling.ignore_eos,
                logprobs=sampling.top_logprobs,
                max_tokens=room if request.max_tokens is None else min(request.max_tokens, room),
                structured_outputs=structured,
                skip_special_tokens=calls is None or calls.skip_special_tokens,
                output_kind=RequestOutputKind.DELTA,
            )
        except ValueError as error:
            raise InvalidRequest("vLLM refuses the sampling settings", field="sampling") from error


def _salted(prompt: list[int], request: ChatRequest) -> dict[str, Any]:
    """What vLLM is asked, its blocks kept apart from those of other salts."""
    asked: dict[str, Any] = {"prompt_token_ids": prompt}
    if request.cache_salt:
        asked["cache_salt"] = request.cache_salt
    return asked


def _prepare_environment() -> None:
    """Set what vLLM reads from the environment, unless the operator has set it."""
    for name, value in {
        # Its processes fork by default, which breaks once gRPC has threads.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        # Its own would show, after a crash or for a form that does not compile, stop strings,
        # schemas and tokens of the requests; at DEBUG, prompts.
        "VLLM_LOGGING_CONFIG_PATH": str(Path(__file__).with_name("vllm_logging.json")),
    }.items():
        os.environ.setdefault(name, value)


def _refuse_logging(serving: ServingConfig) -> None:
    """Raise `ConfigError` for an engine argument that would log what requests hold."""
    for name in _LOGGING_ARGUMENTS:
        if serving.engine.get(name):
            raise ConfigError(
                f"serving.engine.{name} would log what users write; remove it",
                field=f"serving.engine.{name}",
            )


def _spoken(message: Message) -> dict[str, Any]:
    """A message as templates expect it: the arguments of calls as values, for they write JSON."""
    spoken = message_of(message)
    for call in spoken.get("tool_calls", ()):
        with contextlib.suppress(ValueError):  # what is no JSON stays as the model wrote it
            call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
    return spoken


def _finish(reason: str | None) -> FinishReason:
    if reason not in _FINISH:
        raise Unavailable("vLLM ended the answer before its time")
    return _FINISH[reason]


def _form_field(request: ChatRequest, calls: CallReader | None) -> str | None:
    """What holds the schemas that vLLM compiles, if there are any: it does not say so itself."""
    if calls is not None:
        return "tools"
    return None if request.response_format.kind is ResponseKind.TEXT else "response_format"


def error_of(error: Exception, field: str | None = None) -> IsthmusError:
    """Core's error for one of vLLM's. Their messages stay out: they may quote the request.

    `field` is to blame for a refused request when vLLM names no parameter.
    """
    from vllm.exceptions import MaxQueuedTokensError, QueueOverflowError, VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    match error:
        case IsthmusError():
            return error
        case QueueOverflowError() | MaxQueuedTokensError():
            return Overloaded("vLLM's queue is full; come back later")
        case EngineDeadError():
            return Unavailable("vLLM's engine is dead; restart the gateway")
        case VLLMClientError() | ValueError():
            parameter = getattr(error, "parameter", None)
            return InvalidRequest("vLLM refuses the request", field=parameter or field)
        case EngineGenerateError():
            return InternalError("vLLM failed on this request; others are not affected")
        case _:
            return InternalError(f"vLLM failed ({type(error).__name__})")


def create(config: BackendConfig, serving: ServingConfig) -> VllmBackend:
    """The registry's factory."""
    return VllmBackend(config, serving)
