"""The gateway's service: who may ask, when it is their turn, and the stream of their answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from grpc_status import rpc_status  # type: ignore[import-untyped]

from isthmus.cloud.admission import Admission
from isthmus.cloud.backends.base import Backend
from isthmus.cloud.checks import check_request
from isthmus.cloud.drafts import judged
from isthmus.cloud.identity import Caller, Door, Scope
from isthmus.cloud.metrics import Metrics
from isthmus.core import wire
from isthmus.core.chat import ChatRequest, PrivacyClass, ResponseKind, ToolChoice
from isthmus.core.decision import Reason
from isthmus.core.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    PolicyRefused,
    Unavailable,
)
from isthmus.core.events import Delta, DraftVerdict, Event, Finished, FinishReason, Started
from isthmus.core.money import MICRO_USD_PER_USD, Price, Usage
from isthmus.core.tier import Load, ModelInfo
from isthmus.v1 import fleet_pb2, gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceServicer

_log = logging.getLogger(__name__)

_MAX_OUTCOMES: Final = 1_000
_LETTING_GO_S: Final = 1.0
_CODE_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the service itself is told; the rest is the backend's."""

    price: Price = field(default_factory=Price)
    same_model_demo: bool = False
    accept_privacy_classes: Set[PrivacyClass] = frozenset(
        {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}
    )
    cache_salt: Callable[[str], str] = lambda tenant: ""
    """The salt of a tenant's prefixes in caches that tenants share."""


class GatewayService(GatewayServiceServicer):
    """`isthmus.v1.GatewayService` in front of one backend."""

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        metrics: Metrics,
        door: Door,
        options: ServiceOptions,
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._metrics = metrics
        self._door = door
        self._options = options
        self._scopes: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._aborting = False

    # --- the calls ----------------------------------------------------------------------------

    async def Generate(  # type: ignore[override]  # noqa: N802
        self,
        message: gateway_pb2.GenerateRequest,
        context: grpc.aio.ServicerContext[
            gateway_pb2.GenerateRequest, gateway_pb2.GenerateResponse
        ],
    ) -> None:
        """Answer one request; see gateway.proto."""
        # Written with context.write and not as a generator: when the caller goes away, grpc.aio
        # leaves a generator suspended, and its `finally` would run whenever it is collected.
        stream = _Stream(self._backend, self._metrics, self._info())
        code = "CANCELLED"
        try:
            request = self._admit(message, context)
            try:
                await self._answer(request, context, stream)
            except asyncio.CancelledError:
                if request.deadline.expired:
                    code = "DEADLINE_EXCEEDED"
                raise
            code = "OK"
        except IsthmusError as error:
            code = _CODE_NAMES[wire.error_to_status(error).code]
            if stream.began:
                await context.write(gateway_pb2.GenerateResponse(error=wire.error_to_wire(error)))
            await _abort(context, error)
        finally:
            self._metrics.ended(code)

    async def GetModelInfo(  # noqa: N802
        self, message: gateway_pb2.GetModelInfoRequest, context: Any
    ) -> gateway_pb2.GetModelInfoResponse:
        """Tell the model, what it can do and what it costs."""
        await self._admitted(context, Scope.GENERATE)
        return wire.info_to_wire(self._info())

    async def GetLoad(  # noqa: N802
        self, message: gateway_pb2.GetLoadRequest, context: Any
    ) -> gateway_pb2.GetLoadResponse:
        """Tell how busy the gateway is."""
        await self._admitted(context, Scope.GENERATE)
        return wire.load_to_wire(
            Load(
                running_requests=self._admission.running,
                waiting_requests=self._admission.waiting,
                max_running_requests=self._admission.max_running,
                max_waiting_requests=self._admission.max_waiting,
                draining=self._draining,
            )
        )

    async def ReportOutcomes(  # noqa: N802
        self, message: gateway_pb2.ReportOutcomesRequest, context: Any
    ) -> gateway_pb2.ReportOutcomesResponse:
        """Count a batch of outcomes."""
        await self._admitted(context, Scope.REPORT)
        try:
            if len(message.outcomes) > _MAX_OUTCOMES:
                raise InvalidRequest(
                    f"outcomes must be at most {_MAX_OUTCOMES} a batch", field="outcomes"
                )
            # All are read before the first is counted: a batch is taken whole or not at all.
            outcomes = [
                wire.outcome_from_wire(one, f"outcomes[{i}]")
                for i, one in enumerate(message.outcomes)
            ]
        except IsthmusError as error:
            await _abort(context, error)
        for outcome in outcomes:
            self._metrics.reported(outcome)
        return gateway_pb2.ReportOutcomesResponse(accepted_outcomes=len(outcomes))

    async def SyncDevice(  # noqa: N802
        self, message: fleet_pb2.SyncDeviceRequest, context: Any
    ) -> fleet_pb2.SyncDeviceResponse:
        """Hand the device what it should run."""
        await self._admitted(context, Scope.SYNC)
        return fleet_pb2.SyncDeviceResponse()

    # --- stopping -----------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Take no new requests; those running after `grace_s` end as unavailable."""
        self._draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            self._aborting = True
            now_s = asyncio.get_running_loop().time()
            for scope in self._scopes:
                if not scope.expired():
                    scope.reschedule(now_s)
            # A backend that does not let go is left to the server, which ends every call.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _LETTING_GO_S)

    # --- inside -------------------------------------------------------------------------------

    def _info(self) -> ModelInfo:
        return replace(
            self._backend.info(),
            price=self._options.price,
            same_model_demo=self._options.same_model_demo,
        )

    async def _admitted(self, context: Any, scope: Scope) -> Caller:
        """Who makes this call, or its end."""
        try:
            return self._door.admit(context, scope)
        except IsthmusError as error:
            await _abort(context, error)

    def _admit(self, message: gateway_pb2.GenerateRequest, context: Any) -> ChatRequest:
        """The request, once its caller, its form and its wishes are all right."""
        caller = self._door.admit(context, Scope.GENERATE)
        if self._draining:
            raise Unavailable("the gateway is stopping; ask another one")
        request = wire.request_from_wire(message)
        check_request(request, self._backend.info(), self._options.accept_privacy_classes)
        deadline = request.deadline.at_most(context.time_remaining())
        deadline.check()
        return replace(
            request, deadline=deadline, cache_salt=self._options.cache_salt(caller.tenant)
        )

    async def _answer(self, request: ChatRequest, context: Any, stream: _Stream) -> None:
        """Wait for a slot and stream, until the deadline or the end of a drain."""
        scope = asyncio.timeout(request.deadline.remaining_s())
        try:
            async with scope:
                self._scopes.add(scope)
                self._idle.clear()
                try:
                    async with self._admission.slot():
                        await stream.run(request, context)
                finally:
                    self._scopes.discard(scope)
                    if not self._scopes:
                        self._idle.set()
        except TimeoutError as error:
            if not scope.expired():
                raise _unexpected(request, error) from None
            if self._aborting:
                raise Unavailable("the gateway stopped before the end of the answer") from None
            raise DeadlineExceeded("the deadline of the request has passed") from None
        except (IsthmusError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise _unexpected(request, error) from None


class _Stream:
    """One answer on its way: what the backend yields, written and measured."""

    def __init__(self, backend: Backend, metrics: Metrics, info: ModelInfo) -> None:
        self._backend = backend
        self._metrics = metrics
        self._info = info
        self._arrived_s = time.monotonic()
        self._first_s: float | None = None
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._verdict: DraftVerdict | None = None
        self.began = False
        """Whether anything was written."""

    async def run(self, request: ChatRequest, context: Any) -> None:
        """Write every event up to the end. The backend's iterator is closed in any case."""
        if request.draft:
            request = await self._without_draft(request)
        events = self._backend.generate(request)
        try:
            async for yielded in events:
                event = self._seen(yielded, request)
                for message in wire.event_to_wire(event):
                    await context.write(message)
                self.began = True
                if isinstance(event, Finished):
                    self._finished(event)
                    return
        finally:
            await _close(events)
        raise Unavailable("the backend ended the stream before the end of the answer")

    async def _without_draft(self, request: ChatRequest) -> ChatRequest:
        """The request that goes on from what stands of its draft, if anything does."""
        self._verdict = verdict = await _judged(self._backend, self._info, request)
        self._metrics.judged(verdict)
        accepted = request.draft.encode()[: verdict.accepted_bytes].decode()
        left = request.max_tokens
        return replace(
            request,
            answer_so_far=request.answer_so_far + accepted,
            draft="",
            max_tokens=None if left is None else left - verdict.accepted_tokens,
        )

    def _seen(self, event: Event, request: ChatRequest) -> Event:
        """Note `event`, and return what is to be written in its place."""
        match event:
            case Started():
                self._prompt_tokens = event.prompt_tokens
                if self._too_dear(request, 0):
                    raise PolicyRefused(
                        "the prompt alone costs more than max_price allows",
                        reason=Reason.PRICE_ABOVE_LIMIT.value,
                        field="max_price_micro_usd",
                    )
                demo = self._info.same_model_demo
                return replace(event, same_model_demo=demo, draft=self._verdict)
            case Delta():
                if self._too_dear(request, event.tokens):
                    return Finished(
                        FinishReason.LENGTH, Usage(self._prompt_tokens, self._completion_tokens)
                    )
                self._completion_tokens += event.tokens
                if self._first_s is None:
                    self._first_s = time.monotonic()
                    self._metrics.first_token(self._first_s - self._arrived_s)
        return event

    def _too_dear(self, request: ChatRequest, more_tokens: int) -> bool:
        limit_usd = request.preference.max_price_usd
        if limit_usd is None:
            return False
        usage = Usage(self._prompt_tokens, self._completion_tokens + more_tokens)
        return self._info.price.cost_micro_usd(usage) > limit_usd * MICRO_USD_PER_USD

    def _finished(self, event: Finished) -> None:
        tokens = event.usage.completion_tokens
        per_token_s: float | None = None
        if self._first_s is not None and tokens > 1:
            per_token_s = (time.monotonic() - self._first_s) / (tokens - 1)
        self._metrics.answered(event.usage, per_token_s)


async def _judged(backend: Backend, info: ModelInfo, request: ChatRequest) -> DraftVerdict:
    """What `backend` lets stand of the draft. One that cannot be judged is dropped."""
    # Of a form, or of a tool call, no part can be gone on from.
    formed = request.response_format.kind is not ResponseKind.TEXT
    calls = bool(request.tools) and request.tool_choice is not ToolChoice.NONE
    if not info.verifies_drafts or formed or calls:
        return DraftVerdict(judged=False)
    # Something must be left to write, or there would be no answer to tell the verdict with.
    most = None if request.max_tokens is None else request.max_tokens - 1
    try:
        return judged(request.draft, await backend.judge(request), most_tokens=most)
    except (NotSupported, InvalidRequest) as error:
        _log.info("request %s: its draft cannot be judged (%s)", request.request_id, error.kind)
        return DraftVerdict(judged=False)


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


async def _abort(context: Any, error: IsthmusError) -> NoReturn:
    await context.abort_with_status(rpc_status.to_status(wire.error_to_status(error)))
    raise AssertionError("abort_with_status returned")


def _unexpected(request: ChatRequest, error: Exception) -> InternalError:
    """Log where a fault happened, without its message: that may quote the user."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("request %s failed: %s\n%s", request.request_id, type(error).__name__, where)
    return InternalError("the backend failed; the gateway's log names the place")
