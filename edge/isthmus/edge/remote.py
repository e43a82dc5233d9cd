"""The cloud tier, as the agent sees it: a `Generator` over gRPC, to one of a gateway's replicas.

gRPC's errors become core's here. Nothing connects before the first call, so a request that must
stay on the device opens no connection. A stream that breaks is asked for again, and goes on where
it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

import grpc
import grpc.aio

from isthmus.core import wire
from isthmus.core.chat import ChatRequest, RouteMode
from isthmus.core.deadline import Deadline
from isthmus.core.errors import (
    DeadlineExceeded,
    InternalError,
    IsthmusError,
    Unavailable,
)
from isthmus.core.events import Delta, Event, Finished
from isthmus.core.tier import Load, ModelInfo
from isthmus.edge.breaker import CircuitBreaker
from isthmus.edge.line import Line, RemoteConfig, Tls
from isthmus.edge.progress import Broken, Progress, Unreachable
from isthmus.v1 import fleet_pb2, gateway_pb2, outcome_pb2

__all__ = ["RemoteConfig", "RemoteTier", "Tls"]

_T = TypeVar("_T")

_CONNECTION_LOST: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""What gRPC itself says when a connection goes away under a call."""
_DETAILS_TRAILER: Final = "grpc-status-details-bin"
_UNARY_TIMEOUT_S: Final = 5.0
_FLEET_TIMEOUT_S: Final = 60.0
"""For a bundle of a few MiB over a slow network; nobody waits for it."""
_NEW_SAMPLE_WEIGHT: Final = 0.2


class RemoteTier:
    """The gateway behind a channel that opens with the first call and heals by itself.

    All calls must come from one event loop. `available`, `breaker.state`, `rtt_ms` and `ttft_ms`
    are observations for the router; reading them costs and opens nothing.
    """

    def __init__(self, config: RemoteConfig, *, breaker: CircuitBreaker | None = None) -> None:
        self.config = config
        self.breaker = breaker or CircuitBreaker()
        self.rtt_ms: float | None = None
        """Smoothed round trip of small calls; `None` before the first."""
        self.ttft_ms: float | None = None
        """Smoothed time to the first piece of text; `None` before the first."""
        self.resumed = 0
        """How often a stream that broke was asked for again."""
        self._lines = [Line(config, address) for address in config.addresses]
        self._at = 0
        """The line of the last call."""
        self._info: tuple[float, ModelInfo] | None = None
        self._closed = False

    @property
    def available(self) -> bool:
        """Whether a request may be sent: not closed, and the breaker lets it pass."""
        return not self._closed and self.breaker.allows

    @property
    def connected(self) -> bool:
        """Whether a channel was ever opened."""
        return any(line.opened for line in self._lines)

    @property
    def last_info(self) -> ModelInfo | None:
        """What the gateway last said of its model, however long ago; never asks."""
        return None if self._info is None else self._info[1]

    async def generate(
        self, request: ChatRequest, check: Callable[[bytes], None] = lambda data: None
    ) -> AsyncIterator[Event]:
        """Answer `request` in the cloud. Raises an `IsthmusError`; `aclose()` cancels the call.

        `check` sees the very bytes that leave, once there is a connection for them and with
        nothing in between; what it raises keeps them here. It must be quick.
        """
        request.deadline.check()
        config = self.config
        silent_s, broken_s = config.silent_s, config.broken_s
        if request.preference.mode is RouteMode.ONLY_IN_CLOUD:
            silent_s = broken_s = config.alone_s
        progress = Progress(request, silent_s=silent_s, broken_s=broken_s)
        with _Verdict(self.breaker) as verdict:
            while True:
                try:
                    attempt = self._attempt(progress, check, verdict)
                    async with contextlib.aclosing(attempt) as events:
                        async for event in events:
                            yield event
                    return
                except IsthmusError as error:
                    pause_s = progress.pause_s(error)
                    if pause_s is None:
                        raise progress.failure(error) from error.__cause__
                self.resumed += 1
                await asyncio.sleep(pause_s)

    async def _attempt(
        self, progress: Progress, check: Callable[[bytes], None], verdict: _Verdict
    ) -> AsyncGenerator[Event, None]:
        """One call for what is missing of an answer."""
        request = progress.next()
        data = wire.request_as_bytes(request)
        line = await self._connected(request.deadline)
        with verdict.ours():
            check(data)
        sent_at_s = time.monotonic()
        finished: Finished | None = None
        reader = wire.EventReader()
        call = line.generate(
            data,
            timeout=request.deadline.remaining_s(),
            metadata=self._metadata(request.span.traceparent),
        )
        try:
            with _mapped_errors():
                async for message in call:
                    if message.WhichOneof("event") == "error":
                        raise wire.error_from_wire(message.error)
                    event = reader.read(message)
                    if event is None:
                        continue
                    verdict.good()
                    if isinstance(event, Finished):
                        # Said once the status is there too: a caller that stops at the end
                        # must not look like one that went away.
                        finished = event
                        continue
                    if isinstance(event, Delta) and not progress.heard:
                        self.ttft_ms = _smoothed(self.ttft_ms, sent_at_s)
                    new = progress.take(event)
                    if new is not None:
                        yield new
        except Unavailable as error:
            if error.retry_after_s is not None:  # it sent us away
                self._at = (self._lines.index(line) + 1) % len(self._lines)
            raise
        finally:
            # Leaving the loop does not end the call, and a finished one ignores this.
            call.cancel()
        if finished is None:
            raise Broken("the gateway ended the stream before the end of the answer")
        yield finished

    async def info(self, *, max_age_s: float | None = None) -> ModelInfo:
        """The gateway's model, abilities and price, at most `max_age_s` old (default: config's)."""
        limit_s = self.config.info_max_age_s if max_age_s is None else max_age_s
        if self._info is not None and time.monotonic() - self._info[0] <= limit_s:
            return self._info[1]
        answer = await self._unary(
            lambda stub, **options: stub.GetModelInfo(gateway_pb2.GetModelInfoRequest(), **options)
        )
        info = wire.info_from_wire(answer)
        self._info = (time.monotonic(), info)
        return info

    async def load(self) -> Load:
        """How busy the gateway is now."""
        return wire.load_from_wire(
            await self._unary(
                lambda stub, **options: stub.GetLoad(gateway_pb2.GetLoadRequest(), **options)
            )
        )

    async def report(self, outcomes: Sequence[bytes], acknowledgements: Sequence[bytes]) -> int:
        """Send at most 1,000 serialized messages of each kind; how many outcomes were taken."""
        message = gateway_pb2.ReportOutcomesRequest(
            outcomes=map(outcome_pb2.Outcome.FromString, outcomes),
            acknowledgements=map(outcome_pb2.Acknowledgement.FromString, acknowledgements),
        )
        answer = await self._beside(lambda stub, **options: stub.ReportOutcomes(message, **options))
        return int(answer.accepted_outcomes)

    async def sync(self, request: fleet_pb2.SyncDeviceRequest) -> fleet_pb2.SyncDeviceResponse:
        """Tell what runs here; what should."""
        answer: fleet_pb2.SyncDeviceResponse = await self._beside(
            lambda stub, **options: stub.SyncDevice(request, **options)
        )
        return answer

    async def close(self) -> None:
        """Close the channels; running calls end as `Unavailable`. Safe to call twice."""
        self._closed = True
        for line in self._lines:
            await line.close()

    async def _unary(self, call: Callable[..., Awaitable[_T]]) -> _T:
        with _Verdict(self.breaker) as verdict:
            line = await self._connected(Deadline.NEVER)
            sent_at_s = time.monotonic()
            with _mapped_errors():
                answer = await call(line.stub, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata())
            self.rtt_ms = _smoothed(self.rtt_ms, sent_at_s)
            verdict.good()
            return answer

    async def _beside(self, call: Callable[..., Awaitable[_T]]) -> _T:
        """A call of the fleet's: what becomes of it is no word about answers."""
        if not self.available:
            raise Unavailable("the gateway failed too often of late; it is tried again later")
        line = await self._connected(Deadline.NEVER)
        with _mapped_errors():
            return await call(line.stub, timeout=_FLEET_TIMEOUT_S, metadata=self._metadata())

    def _metadata(self, traceparent: str = "") -> tuple[tuple[str, str], ...]:
        token = self.config.token_now
        said = (("authorization", f"Bearer {token}"),) if token else ()
        return (*said, ("traceparent", traceparent)) if traceparent else said

    async def _connected(self, deadline: Deadline) -> Line:
        """A line that is up: the one of the last call, or the next that can be reached.

        Where one worked a moment ago all are tried twice: what listens there may be the last of a
        gateway that closes, and the next connection meets another one.
        """
        failure: Unreachable | None = None
        round_ = (*self._lines[self._at :], *self._lines[: self._at])
        for line in round_ * (2 if any(line.worked for line in round_) else 1):
            if self._closed:
                raise Unavailable("the cloud client is closed")
            try:
                await line.ready(deadline)
            except Unreachable as error:
                failure = failure or error
                continue
            self._at = self._lines.index(line)
            return line
        for line in self._lines:
            line.worked = False
        assert failure is not None, "there is at least one line"
        raise failure


class _Verdict:
    """Tells the breaker how one call went: once, whatever way the block is left."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._told = False

    def __enter__(self) -> _Verdict:
        if not self._breaker.try_acquire():
            raise Unavailable(
                "the gateway failed too often of late; it is tried again in "
                f"{self._breaker.retry_after_s:.1f} s"
            )
        return self

    def good(self) -> None:
        """The gateway answered: that counts at once, not at the end of a long answer."""
        if not self._told:
            self._told = True
            self._breaker.succeed()

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """What fails in here is no word about the gateway."""
        try:
            yield
        except BaseException:
            self._told = True
            self._breaker.release()
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Unavailable | InternalError):
            self._breaker.fail()
        elif isinstance(error, IsthmusError) and not isinstance(error, DeadlineExceeded):
            self.good()  # it refused: it is there and it thinks
        elif not self._told:
            self._breaker.release()


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    """The errors of gRPC in one call as core's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _ours(error) from error
    except asyncio.CancelledError:
        # grpc.aio raises it for a call whose channel was closed too, in a task that nobody stopped.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable("the cloud client was closed") from None


def _ours(error: grpc.aio.AioRpcError) -> IsthmusError:
    """An error of gRPC's as one of core's."""
    details = next(
        (value for key, value in error.trailing_metadata() or () if key == _DETAILS_TRAILER), None
    )
    raw = details if isinstance(details, bytes) else None
    number: int = error.code().value[0]
    if raw is None and error.code() in _CONNECTION_LOST:
        return Broken(error.details() or "the connection to the gateway broke")
    return wire.error_from_status(number, error.details() or "the gateway's call failed", raw)


def _smoothed(old_ms: float | None, since_s: float) -> float:
    new_ms = (time.monotonic() - since_s) * 1000
    return new_ms if old_ms is None else old_ms + _NEW_SAMPLE_WEIGHT * (new_ms - old_ms)
