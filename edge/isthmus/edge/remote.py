"""The cloud tier, as the agent sees it: a `Generator` over one gRPC channel to a gateway.

The only module of the agent that imports gRPC; its errors become core's here. Nothing connects
before the first call, so a request that must stay on the device opens no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from isthmus.core import wire
from isthmus.core.addresses import is_local
from isthmus.core.chat import ChatRequest
from isthmus.core.deadline import Deadline
from isthmus.core.errors import (
    ConfigError,
    DeadlineExceeded,
    InternalError,
    IsthmusError,
    Unavailable,
)
from isthmus.core.events import Delta, Event, Finished
from isthmus.core.tier import Load, ModelInfo
from isthmus.edge.breaker import CircuitBreaker
from isthmus.v1 import fleet_pb2, gateway_pb2, outcome_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub

_T = TypeVar("_T")

_GENERATE: Final = "/isthmus.v1.GatewayService/Generate"
_DETAILS_TRAILER: Final = "grpc-status-details-bin"
_TOKEN: Final = re.compile(r"[!-~]+")
_UNARY_TIMEOUT_S: Final = 5.0
_FLEET_TIMEOUT_S: Final = 60.0
"""For a bundle of a few MiB over a slow network; nobody waits for it."""
_RECOVERY_S: Final = 0.2
_RETIRING_S: Final = 600.0
_NEW_SAMPLE_WEIGHT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Tls:
    """What a channel is encrypted with, all PEM."""

    ca: bytes | None = None
    """Roots to trust instead of gRPC's own."""
    certificate: bytes | None = None
    """What this device shows, the chain; with `key`."""
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """How to reach a gateway. Only `address` (`host:port` or `unix:/path`) has no default."""

    address: str
    token: str | Callable[[], str] | None = None
    """The token, or what tells it before each call: tokens are renewed while a device runs."""
    plaintext: bool = False
    """Speak without TLS to another machine. On this one nothing is encrypted without `tls`."""
    tls: Tls | Callable[[], Tls] | None = None
    """What to encrypt with. Another value opens another connection; running calls keep theirs."""
    connect_timeout_s: float = 0.8
    info_max_age_s: float = 60.0
    max_message_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        try:
            is_local(self.address)
        except ValueError as error:
            raise ConfigError(f"the gateway's address {error}", field="address") from None
        if isinstance(self.token, str) and not _TOKEN.fullmatch(self.token):
            raise ConfigError("the gateway's token must be printable ASCII", field="token")

    def __repr__(self) -> str:
        return f"RemoteConfig(address={self.address!r}, encrypted={self.encrypted})"

    @property
    def encrypted(self) -> bool:
        """Whether the channel is encrypted: what leaves this machine is, unless told otherwise."""
        return self.tls is not None or not (self.plaintext or is_local(self.address))

    @property
    def token_now(self) -> str | None:
        """The token of the moment."""
        return self.token() if callable(self.token) else self.token

    @property
    def tls_now(self) -> Tls | None:
        """What a channel that opens now is encrypted with."""
        if not self.encrypted:
            return None
        return self.tls() if callable(self.tls) else (self.tls or _GRPCS_OWN)


_GRPCS_OWN: Final = Tls()


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
        self._channel: grpc.aio.Channel | None = None
        self._opened_with: Tls | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._stub: Any = None
        self._generate: Any = None
        self._info: tuple[float, ModelInfo] | None = None
        self._closed = False

    @property
    def available(self) -> bool:
        """Whether a request may be sent: not closed, and the breaker lets it pass."""
        return not self._closed and self.breaker.allows

    @property
    def connected(self) -> bool:
        """Whether a channel was ever opened."""
        return self._channel is not None

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
        data = wire.request_as_bytes(request)
        with _Verdict(self.breaker) as verdict:
            await self._connected_stub(request.deadline)
            with verdict.ours():
                check(data)
            sent_at_s = time.monotonic()
            heard = False
            finished: Finished | None = None
            reader = wire.EventReader()
            call = self._generate(
                data,
                timeout=request.deadline.remaining_s(),
                metadata=self._metadata(),
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
                        if isinstance(event, Delta) and not heard:
                            heard = True
                            self.ttft_ms = _smoothed(self.ttft_ms, sent_at_s)
                        yield event
            finally:
                # Leaving the loop does not end the call, and a finished one ignores this.
                call.cancel()
            if finished is None:
                raise Unavailable("the gateway ended the stream before the end of the answer")
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
        """Close the channel; running calls end as `Unavailable`. Safe to call twice."""
        self._closed = True
        channel, self._channel, self._stub = self._channel, None, None
        for retiring in self._retiring:
            retiring.cancel()
        if channel is not None:
            await channel.close()

    async def _unary(self, call: Callable[..., Awaitable[_T]]) -> _T:
        with _Verdict(self.breaker) as verdict:
            stub = await self._connected_stub(Deadline.NEVER)
            sent_at_s = time.monotonic()
            with _mapped_errors():
                answer = await call(stub, timeout=_UNARY_TIMEOUT_S, metadata=self._metadata())
            self.rtt_ms = _smoothed(self.rtt_ms, sent_at_s)
            verdict.good()
            return answer

    async def _beside(self, call: Callable[..., Awaitable[_T]]) -> _T:
        """A call of the fleet's: what becomes of it is no word about answers."""
        if not self.available:
            raise Unavailable("the gateway failed too often of late; it is tried again later")
        stub = await self._connected_stub(Deadline.NEVER)
        with _mapped_errors():
            return await call(stub, timeout=_FLEET_TIMEOUT_S, metadata=self._metadata())

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self.config.token_now
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _open(self, tls: Tls | None) -> grpc.aio.Channel:
        config = self.config
        options: list[tuple[str, int]] = [
            # A gateway that vanished without a word is noticed by pings, within 12 s of silence.
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 2_000),
            ("grpc.http2.max_pings_without_data", 0),
            # A gateway that came back is found within a second.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", config.max_message_bytes),
            # Two tiers in one process (tests, `isthmus up`) must not share a connection's fate.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if is_local(config.address):
            options.append(("grpc.enable_http_proxy", 0))
        if tls is not None:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
            return grpc.aio.secure_channel(config.address, credentials, options=options)
        return grpc.aio.insecure_channel(config.address, options=options)

    async def _connected_stub(self, deadline: Deadline) -> Any:
        """The stub, once the channel is ready. Raises `Unavailable` within `connect_timeout_s`."""
        if self._closed:
            raise Unavailable("the cloud client is closed")
        tls = self.config.tls_now
        if self._channel is not None and tls != self._opened_with:
            self._retire(self._channel)
            self._channel = None
        if self._channel is None:
            self._channel, self._opened_with = self._open(tls), tls
            self._stub = GatewayServiceStub(self._channel)
            # As bytes: what was looked at is what leaves.
            self._generate = self._channel.unary_stream(
                _GENERATE,
                request_serializer=bytes,
                response_deserializer=gateway_pb2.GenerateResponse.FromString,
            )
        stub, channel = self._stub, self._channel
        try:
            async with asyncio.timeout(
                deadline.at_most(self.config.connect_timeout_s).remaining_s()
            ):
                await _until_ready(channel)
        except TimeoutError:
            deadline.check()
            raise Unavailable(
                f"no gateway answers at {self.config.address} within "
                f"{self.config.connect_timeout_s:g} s; is it running?"
            ) from None
        return stub

    def _retire(self, channel: grpc.aio.Channel) -> None:
        """Close `channel` when its calls have ended."""
        closing = asyncio.create_task(channel.close(grace=_RETIRING_S))
        self._retiring.add(closing)
        closing.add_done_callback(self._retiring.discard)


async def _until_ready(channel: grpc.aio.Channel) -> None:
    """Wait until `channel` is connected; `Unavailable` as soon as one attempt has failed."""
    attempted = False
    while True:
        state = channel.get_state(try_to_connect=True)
        match state:
            case grpc.ChannelConnectivity.READY:
                return
            case grpc.ChannelConnectivity.SHUTDOWN:
                raise Unavailable("the cloud client is closed")
            case grpc.ChannelConnectivity.TRANSIENT_FAILURE if attempted:
                raise Unavailable("no gateway can be reached; is it running?")
            case grpc.ChannelConnectivity.CONNECTING:
                attempted = True
            case grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                # It failed before and stays in this state until an attempt of its own, at most a
                # second apart, succeeds. Not worth a caller's wait: there is another tier.
                try:
                    await asyncio.wait_for(channel.wait_for_state_change(state), _RECOVERY_S)
                except TimeoutError:
                    raise Unavailable("no gateway can be reached; is it running?") from None
                continue
            case _:
                pass
        await channel.wait_for_state_change(state)


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
    return wire.error_from_status(number, error.details() or "the gateway's call failed", raw)


def _smoothed(old_ms: float | None, since_s: float) -> float:
    new_ms = (time.monotonic() - since_s) * 1000
    return new_ms if old_ms is None else old_ms + _NEW_SAMPLE_WEIGHT * (new_ms - old_ms)
