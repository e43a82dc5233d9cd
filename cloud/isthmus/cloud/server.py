"""The gateway as a running thing: backend, gRPC server, health, metrics; started and drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from isthmus.cloud import backends, fleet, identity, ledger
from isthmus.cloud.admission import Admission
from isthmus.cloud.backends.base import Backend
from isthmus.cloud.config import CloudConfig
from isthmus.cloud.identity.strangers import RefuseStrangers
from isthmus.cloud.ledger.prices import PriceBook
from isthmus.cloud.listening import check_free, taken
from isthmus.cloud.metrics import Metrics, MetricsServer
from isthmus.cloud.probes import ProbeServer
from isthmus.cloud.service import GatewayService, ServiceOptions
from isthmus.cloud.tls import ServerTls
from isthmus.cloud.unreadable import RefuseUnreadable
from isthmus.core.addresses import split
from isthmus.core.errors import IsthmusError, Unavailable
from isthmus.core.tracing import config as tracing
from isthmus.core.tracing.base import NO_TRACER
from isthmus.v1.gateway_pb2_grpc import add_GatewayServiceServicer_to_server

_log = logging.getLogger(__name__)

SERVICE_NAME: Final = "isthmus.v1.GatewayService"
_HEALTH_PERIOD_S: Final = 1.0
_LETTING_GO_S: Final = 2.0
_HANDSHAKE_MS: Final = 10_000
_MOST_PENDING: Final = 20_000
"""Calls that have come and were not looked at yet."""


class Gateway:
    """One gateway. `start()`, then `address` and `metrics_address`, then `stop()`."""

    def __init__(self, config: CloudConfig, backend: Backend | None = None) -> None:
        self.config = config
        self.backend = (
            backend if backend is not None else backends.create(config.backend, config.serving)
        )
        self.metrics = Metrics()
        self.ledger = ledger.create(
            config.ledger,
            PriceBook(config.prices, path=config.prices_file),
            config.quotas,
            self.metrics.ledger,
        )
        self.metrics.ledger.keep_to(config.quotas)
        self.fleet = fleet.create(config.fleet, config.ledger, self.ledger, self.metrics)
        self.address = config.listen
        self.metrics_address: str | None = None
        self._metrics_server: MetricsServer | None = None
        self._tls: ServerTls | None = None
        self._server: grpc.aio.Server | None = None
        self._service: GatewayService | None = None
        self._health = health.aio.HealthServicer()
        self._probes: ProbeServer | None = None
        self._watch: asyncio.Task[None] | None = None
        self._tracer = NO_TRACER

    async def start(self) -> None:
        """Load the backend and listen. Raises `ConfigError` or `Unavailable`, with nothing open."""
        try:
            await self._start()
        except BaseException:
            await self.stop(grace_s=0)
            raise

    async def _start(self) -> None:
        config = self.config
        for field in ("listen", "metrics_listen", "health_listen"):
            check_free(field, getattr(config, field))
        authenticator = identity.create(
            config.auth,
            static_token=config.static_token(self.metrics.read_again),
            client_certificates=config.tls_client_ca_file is not None,
            on_read=self.metrics.read_again,
        )
        salts = identity.CacheSalts.of(config.cache_salt_key_file)
        if config.tls_cert_file is not None and config.tls_key_file is not None:
            self._tls = ServerTls(
                config.tls_cert_file,
                config.tls_key_file,
                config.tls_client_ca_file,
                self.metrics.read_again,
            )
            self.metrics.watch_certificates(self._tls.expires_in_s)
        if config.metrics_listen is not None:
            host, port = split(config.metrics_listen)
            try:
                self._metrics_server = MetricsServer(self.metrics, host, port)
            except OSError as error:
                why = error.strerror or "no reason told"
                raise taken("metrics_listen", config.metrics_listen, why) from error
            self.metrics_address = self._metrics_server.address
        self.metrics.ledger.watch(self.ledger.state)
        await self.ledger.start()
        await self.fleet.start()
        # The backend comes before any gRPC object: vLLM starts processes.
        await self.backend.start()
        self._tracer = tracing.create(config.tracing, "isthmus-gateway")
        self.metrics.serves(self.backend.info())
        self.metrics.add(self.backend.collectors())
        admission = Admission(
            max_running=config.max_running_requests,
            max_waiting=config.max_waiting_requests,
            drowning=self._drowning,
            waited=self.metrics.waited,
            shed=self.metrics.shed,
        )
        self.metrics.watch_queue(admission)
        door = identity.Door(authenticator, self.metrics.refused)
        self._service = GatewayService(
            self.backend,
            admission,
            self.ledger,
            self.metrics,
            door,
            self.fleet,
            ServiceOptions(
                same_model_demo=config.same_model_demo,
                accept_privacy_classes=config.accept_privacy_classes,
                cache_salt=salts,
                limits=config.limits,
            ),
            self._tracer,
        )
        self._service.start()
        self._server = grpc.aio.server(
            interceptors=[RefuseStrangers(door), RefuseUnreadable()], options=_options(config)
        )
        add_GatewayServiceServicer_to_server(self._service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = self._listen(self._server)
        await self._set_health(serving=True)
        await self._server.start()
        if config.health_listen is not None:
            self._probes = ProbeServer(self._health, config.health_listen)
            await self._probes.start()
        self._watch = asyncio.create_task(self._watch_health())
        _log.info("gateway on %s, backend %s", self.address, config.backend.kind)

    async def stop(self, grace_s: float | None = None) -> None:
        """Drain for `grace_s` (default: the configuration's) and close everything. Idempotent."""
        grace_s = self.config.drain_s if grace_s is None else grace_s
        began_s, cut = time.monotonic(), None
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._server is not None and self._service is not None:
            running = self._service.running
            _log.info("stopping; answers running or waiting: %d, time left: %g s", running, grace_s)
            await self._set_health(serving=False)
            self._service.announce_drain()
            # Whoever sends requests here needs a moment to hear of it; until then all are served.
            await asyncio.sleep(min(self.config.drain_notice_s, grace_s))
            # No new connection, and GOAWAY on the old ones: devices go elsewhere by themselves.
            closing = asyncio.create_task(self._server.stop(grace_s + _LETTING_GO_S))
            cut = await self._service.drain(grace_s)
            await self._server.stop(grace=0.2)
            await closing
            self._server = None
        if self._probes is not None:
            await self._probes.stop()
        await self.backend.close()
        await self.fleet.close()
        await self.ledger.close()
        await asyncio.to_thread(self._tracer.close)
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
            self._metrics_server = None
        if cut is not None:
            _log.info("stopped after %.1f s; answers cut: %d", time.monotonic() - began_s, cut)

    @property
    def health_address(self) -> str | None:
        """Where probes are answered; None: nowhere of their own."""
        return None if self._probes is None else self._probes.address

    async def wait(self) -> None:
        """Return when the server has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    def _listen(self, server: grpc.aio.Server) -> str:
        config = self.config
        try:
            if self._tls is not None:
                port = server.add_secure_port(config.listen, self._tls.credentials())
            else:
                port = server.add_insecure_port(config.listen)
        except RuntimeError as error:  # gRPC has one error for all that can go wrong here
            raise taken("listen", config.listen, "gRPC refuses it") from error
        if config.listen.startswith("unix:"):
            return config.listen
        return f"{config.listen.rpartition(':')[0]}:{port}"

    def _drowning(self) -> bool:
        return self.backend.load().waiting_requests > self.config.limits.max_backend_waiting

    async def _set_health(self, *, serving: bool) -> None:
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    def _check_ledger(self) -> None:
        """Raise `Unavailable` where requests are refused because the ledger is away."""
        ledger = self.config.ledger
        if ledger.when_away == "refuse" and self.ledger.state().away_s > ledger.wait_s:
            raise Unavailable("the ledger's database is away", field="ledger")

    async def _watch_health(self) -> None:
        """Carry the backend's and the ledger's health into the health service."""
        was_serving = True
        while True:
            await asyncio.sleep(_HEALTH_PERIOD_S)
            try:
                await self.backend.health()
                self._check_ledger()
                serving = True
            except Exception as error:
                serving = False
                if was_serving:
                    # A foreign error's message is left out: it may quote what it likes.
                    why = error.message if isinstance(error, IsthmusError) else type(error).__name__
                    _log.warning("requests had better go elsewhere: %s", why)
            if serving != was_serving:
                await self._set_health(serving=serving)
            was_serving = serving


def _options(config: CloudConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_request_bytes),
        # Clients ping every 10 s; the default of 300 s would drop them.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A device that vanished without a word would else hold its stream until the deadline.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        # Devices come back to whichever gateway has room; gRPC spreads the ages by a tenth.
        ("grpc.max_connection_age_ms", round(config.limits.max_connection_age_s * 1000)),
        # Whoever opens a connection and says nothing is not waited for.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        # Of more than 1,000 calls in one burst gRPC would cancel some by chance; admission refuses
        # what is too much with the time to come back.
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        # Two gateways on one port would share its callers silently.
        ("grpc.so_reuseport", 0),
    ]
