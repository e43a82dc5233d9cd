"""The gateway's service: how each call lives, from who asks to how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

import grpc.aio

from isthmus.cloud.admission import Admission
from isthmus.cloud.answers import Answers, Asked, Window
from isthmus.cloud.backends.base import Backend
from isthmus.cloud.checks import bounded, check_request, prompt_tokens
from isthmus.cloud.delivery import Pace, deliver
from isthmus.cloud.faults import abort, code_of, fault
from isthmus.cloud.fleet.service import Fleet
from isthmus.cloud.identity import Caller, Door, Patrol, Refused, Scope
from isthmus.cloud.ledger.base import Ledger
from isthmus.cloud.limits import LimitsConfig
from isthmus.cloud.metrics import Metrics
from isthmus.cloud.work import Work
from isthmus.core import genai, wire
from isthmus.core.chat import PrivacyClass
from isthmus.core.decision import Target
from isthmus.core.errors import DeadlineExceeded, IsthmusError, Unavailable
from isthmus.core.tier import Load
from isthmus.core.tracing.base import NO_SPAN, NO_TRACER, Kind, Span, Tracer
from isthmus.v1 import fleet_pb2, gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceServicer

_LETTING_GO_S: Final = 1.0
_COME_BACK_S: Final = 0.1
"""When a device should try again that a stopping gateway sends away: another one is there by now,
or soon."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the service itself is told; the rest is the backend's."""

    same_model_demo: bool = False
    accept_privacy_classes: Set[PrivacyClass] = frozenset(
        {PrivacyClass.PUBLIC, PrivacyClass.REDACTED}
    )
    cache_salt: Callable[[str], str] = lambda tenant: ""
    """The salt of a tenant's prefixes in caches that tenants share."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)


class GatewayService(GatewayServiceServicer):
    """`isthmus.v1.GatewayService` in front of one backend."""

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        ledger: Ledger,
        metrics: Metrics,
        door: Door,
        fleet: Fleet,
        options: ServiceOptions,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._backend = backend
        self._tracer = tracer
        self._admission = admission
        self._ledger = ledger
        self._metrics = metrics
        self._door = door
        self._fleet = fleet
        self._options = options
        limits = options.limits
        work = Work(backend, admission, ledger, metrics, limits, options.same_model_demo)
        window = Window(limits.replay_s, limits.replay_max_answers, limits.replay_max_bytes)
        self._answers = Answers(work.write, window, metrics.found)
        self._pace = pace = Pace()
        self._patrol = Patrol(door)
        metrics.watch_answers(
            lambda: self._answers.kept, lambda: self._answers.kept_bytes, lambda: pace.pause_s
        )
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._closed = False

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
        code, arrived_s = "CANCELLED", time.monotonic()
        span = NO_SPAN
        try:
            asked = self._asked(message, context, arrived_s)
            if self._tracer.on:
                span = self._traced(context)
                asked = replace(asked, request=replace(asked.request, span=span))
            try:
                await self._answer(asked, context)
            except asyncio.CancelledError:
                if asked.request.deadline.expired:
                    code = "DEADLINE_EXCEEDED"
                raise
            code = "OK"
        except Exception as error:
            known = error if isinstance(error, IsthmusError) else fault(error, message.request_id)
            code = code_of(known)
            await abort(context, known)
        finally:
            self._metrics.ended(code, time.monotonic() - arrived_s)
            span.end("" if code == "OK" else code)

    async def GetModelInfo(  # noqa: N802
        self, message: gateway_pb2.GetModelInfoRequest, context: Any
    ) -> gateway_pb2.GetModelInfoResponse:
        """Tell the model, what it can do and what it costs."""
        await self._admitted(context, Scope.GENERATE)
        info = self._backend.info()
        price = self._ledger.price(info.model)
        demo = self._options.same_model_demo
        return wire.info_to_wire(replace(info, price=price, same_model_demo=demo))

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
        """Count a batch of outcomes, and reconcile the ledger."""
        caller = await self._admitted(context, Scope.REPORT)
        try:
            return await self._fleet.report(caller, message)
        except IsthmusError as error:
            await abort(context, error)

    async def SyncDevice(  # noqa: N802
        self, message: fleet_pb2.SyncDeviceRequest, context: Any
    ) -> fleet_pb2.SyncDeviceResponse:
        """Hand the device what it should run."""
        caller = await self._admitted(context, Scope.SYNC)
        try:
            return await self._fleet.sync(caller, message)
        except IsthmusError as error:
            await abort(context, error)

    # --- starting and stopping ----------------------------------------------------------------

    def start(self) -> None:
        """Watch the loop and the callers. Before the first call."""
        self._pace.start()
        self._patrol.start()

    def announce_drain(self) -> None:
        """Say to those who ask for the load that this gateway is about to stop."""
        self._draining = True

    @property
    def running(self) -> int:
        """How many answers are being given."""
        return self._calls

    async def drain(self, grace_s: float) -> int:
        """Take no new requests; those running after `grace_s` end as unavailable: how many."""
        cut = 0
        self._draining = self._closed = True
        self._admission.turn_away(_stopping("before it was this request's turn"))
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            cut = self._calls
            self._answers.stop(_stopping("before the end of the answer"))
            # A backend that does not let go is left to the server, which ends every call.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _LETTING_GO_S)
        await self._answers.close(_LETTING_GO_S)
        await self._patrol.stop()
        await self._pace.stop()
        return cut

    # --- inside -------------------------------------------------------------------------------

    async def _admitted(self, context: Any, scope: Scope) -> Caller:
        """Who makes this call, or its end."""
        try:
            return self._door.admit(context, scope)
        except IsthmusError as error:
            await abort(context, error)

    def _asked(self, message: gateway_pb2.GenerateRequest, context: Any, arrived_s: float) -> Asked:
        """Who asks what, once the caller, the form and the wishes are all right."""
        caller = self._door.admit(context, Scope.GENERATE)
        if self._closed:
            raise _stopping("before this request")
        options, limits = self._options, self._options.limits
        request = wire.request_from_wire(message)
        check_request(request, self._backend.info(), options.accept_privacy_classes)
        estimate = prompt_tokens(message)
        request = replace(
            bounded(request, limits, estimate, context.time_remaining()),
            cache_salt=options.cache_salt(caller.tenant),
        )
        return Asked(caller, request, wire.request_body(message), estimate, arrived_s)

    def _traced(self, context: Any) -> Span:
        """The span of a call that was let in, in the trace that the caller tells of."""
        said = (value for name, value in context.invocation_metadata() if name == "traceparent")
        model = self._backend.info().model
        told = {
            "rpc.system.name": "grpc",
            "rpc.method": "isthmus.v1.GatewayService/Generate",
            "gen_ai.operation.name": genai.CHAT,
            "gen_ai.provider.name": genai.PROVIDERS[Target.CLOUD],
            "gen_ai.request.model": model,
        }
        traceparent = next(said, "")
        return self._tracer.begin(f"chat {model}", Kind.SERVER, told, traceparent=traceparent)

    async def _answer(self, asked: Asked, context: Any) -> None:
        """Read the answer to the end, for the caller, until the deadline."""
        reader = self._answers.attend(asked)
        self._calls += 1
        self._idle.clear()
        try:
            try:
                async with asyncio.timeout(asked.request.deadline.remaining_s()) as limit:
                    with self._patrol.over(context, limit) as look:
                        await deliver(reader, context, self._pace, self._metrics.merged)
            except TimeoutError:
                if look.refused is not None:
                    raise look.refused from None
                raise DeadlineExceeded("the deadline of the request has passed") from None
        except IsthmusError as error:
            # Whoever is refused gets the status alone: he may not even read.
            if reader.began and not isinstance(error, Refused):
                await context.write(gateway_pb2.GenerateResponse(error=wire.error_to_wire(error)))
            raise
        finally:
            self._answers.leave(asked, reader)
            self._calls -= 1
            if not self._calls:
                self._idle.set()


def _stopping(when: str) -> Unavailable:
    return Unavailable(f"the gateway stopped {when}; ask again", retry_after_s=_COME_BACK_S)
