"""One gateway's address: its settings, and the channel to it, which opens with the first call.

Beside `isthmus.edge.remote` the only module of the agent that imports gRPC.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio

from isthmus.core.addresses import each, is_local
from isthmus.core.deadline import Deadline
from isthmus.core.errors import ConfigError, Unavailable
from isthmus.edge.progress import Unreachable
from isthmus.v1 import gateway_pb2
from isthmus.v1.gateway_pb2_grpc import GatewayServiceStub

_GENERATE: Final = "/isthmus.v1.GatewayService/Generate"
_TOKEN: Final = re.compile(r"[!-~]+")
_RECOVERY_S: Final = 0.2
_RETIRING_S: Final = 600.0


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
    """How to reach a gateway. Only `address` has no default."""

    address: str
    """`host:port` or `unix:/path`; several with commas between are one gateway's replicas, of which
    the next is asked when one cannot be reached."""
    token: str | Callable[[], str] | None = None
    """The token, or what tells it before each call: tokens are renewed while a device runs."""
    plaintext: bool = False
    """Speak without TLS to another machine. On this one nothing is encrypted without `tls`."""
    tls: Tls | Callable[[], Tls] | None = None
    """What to encrypt with. Another value opens another connection; running calls keep theirs."""
    connect_timeout_s: float = 0.8
    silent_s: float = 2.0
    """How long a request whose connection broke is tried again before its first piece of text."""
    broken_s: float = 10.0
    """The same after it, since the last piece."""
    alone_s: float = 15.0
    """Both, for a request that only the cloud may answer: longer than a gateway takes to start."""
    info_max_age_s: float = 60.0
    max_message_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        try:
            for address in self.addresses:
                is_local(address)
        except ValueError as error:
            raise ConfigError(f"the gateway's address {error}", field="address") from None
        if isinstance(self.token, str) and not _TOKEN.fullmatch(self.token):
            raise ConfigError("the gateway's token must be printable ASCII", field="token")

    def __repr__(self) -> str:
        return f"RemoteConfig(address={self.address!r}, encrypted={self.encrypted})"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Each replica's, in the order of preference."""
        return each(self.address)

    @property
    def encrypted(self) -> bool:
        """Whether the channel is encrypted: what leaves this machine is, unless told otherwise."""
        near = all(map(is_local, self.addresses))
        return self.tls is not None or not (self.plaintext or near)

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


class Line:
    """The channel to one address. It heals by itself."""

    def __init__(self, config: RemoteConfig, address: str) -> None:
        self.address = address
        self.stub: Any = None
        self.worked = False
        """It was connected, and has not failed for good since."""
        self._config = config
        self._generate: Any = None
        self._channel: grpc.aio.Channel | None = None
        self._opened_with: Tls | None = None
        self._running: set[Any] = set()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def opened(self) -> bool:
        """Whether it was ever used."""
        return self._channel is not None

    async def ready(self, deadline: Deadline) -> None:
        """Return once it is connected. Raises `Unreachable` within `connect_timeout_s`."""
        channel = self._open()
        limit_s = self._config.connect_timeout_s
        try:
            async with asyncio.timeout(deadline.at_most(limit_s).remaining_s()):
                await _until_ready(channel)
                self.worked = True
        except TimeoutError:
            deadline.check()
            raise Unreachable(
                f"no gateway answers at {self.address} within {limit_s:g} s; is it running?"
            ) from None

    async def close(self) -> None:
        """Close the channel and those before it; running calls end."""
        channel, self._channel, self.stub = self._channel, None, None
        for call in list(self._running):
            call.cancel()
        for closing in list(self._retiring):
            await closing
        if channel is not None:
            await channel.close()

    def generate(self, request: bytes, **options: Any) -> Any:
        """`Generate`, of a request's bytes: what was looked at is what leaves."""
        call = self._generate(request, **options)
        self._running.add(call)
        call.add_done_callback(self._running.discard)
        return call

    def _open(self) -> grpc.aio.Channel:
        """The channel; another one when what it is encrypted with has changed."""
        tls = self._config.tls_now
        if self._channel is not None and tls == self._opened_with:
            return self._channel
        if self._channel is not None:
            self._retire(self._channel)
        self._channel, self._opened_with = channel, _ = self._dial(tls), tls
        self.stub = GatewayServiceStub(channel)
        self._generate = channel.unary_stream(
            _GENERATE,
            request_serializer=bytes,
            response_deserializer=gateway_pb2.GenerateResponse.FromString,
        )
        return channel

    def _dial(self, tls: Tls | None) -> grpc.aio.Channel:
        config = self._config
        options: list[tuple[str, int]] = [
            # A gateway that vanished without a word is noticed by pings, within 15 s of silence.
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 2_000),
            # gRPC's own pings (for flow control) keep those back, and wait 60 s for their answer.
            ("grpc.http2.ping_timeout_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
            # A gateway that came back is found within a second.
            ("grpc.initial_reconnect_backoff_ms", 100),
            # In spite of its name the time that one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", 5_000),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", config.max_message_bytes),
            # Two tiers in one process (tests, `isthmus up`) must not share a connection's fate.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if is_local(self.address):
            options.append(("grpc.enable_http_proxy", 0))
        if tls is not None:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
            return grpc.aio.secure_channel(self.address, credentials, options=options)
        return grpc.aio.insecure_channel(self.address, options=options)

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
                raise Unreachable("no gateway can be reached; is it running?")
            case grpc.ChannelConnectivity.CONNECTING:
                attempted = True
            case grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                # It failed before and stays in this state until an attempt of its own, at most a
                # second apart, succeeds. Not worth a caller's wait: there is another tier.
                try:
                    await asyncio.wait_for(channel.wait_for_state_change(state), _RECOVERY_S)
                except TimeoutError:
                    raise Unreachable("no gateway can be reached; is it running?") from None
                continue
            case _:
                pass
        await channel.wait_for_state_change(state)
