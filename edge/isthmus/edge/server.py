"""Running the agent: one process, one event loop, a clean end within five seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn

from isthmus.core.errors import Unavailable
from isthmus.core.tracing import config as tracing
from isthmus.edge.agent import Agent
from isthmus.edge.app import create_app
from isthmus.edge.config import EdgeConfig
from isthmus.edge.consent import Consent
from isthmus.edge.device import Device, LocalEngine
from isthmus.edge.ledger import Ledger
from isthmus.edge.metrics import Metrics
from isthmus.edge.page.kept import Kept
from isthmus.edge.protocol import http_protocol
from isthmus.edge.sensors import make_sensors
from isthmus.edge.tiers import Cloud
from isthmus.edge.trained import Trained, read_shadow_set
from isthmus.privacy.installed import installed_scanner

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""How long answers that run may go on once the agent is asked to stop."""
_CUT_S = 3
"""When connections that still stand are cut, in seconds after the request to stop."""
_LAST_S = 4.6
"""When the process is ended in any case, in seconds after the request to stop."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WORKERS = 4


class AgentServer(uvicorn.Server):
    """uvicorn, stopped by `stop()` instead of by signal handlers of its own."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._asked_to_stop = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: whoever runs the server knows what else has to stop."""
        yield

    def stop(self) -> None:
        """Take no more connections, let answers finish for a moment, then end. Asked twice: now."""
        if self.should_exit:
            self._stopping.set()
            self.force_exit = True
        self.should_exit = True
        self._asked_to_stop.set()

    async def main_loop(self) -> None:
        """Keep the Date header fresh until `stop()`, which ends this at once."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_stop.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; answers that still run after `GRACE_S` get an error event."""
        grace = asyncio.get_running_loop().call_later(GRACE_S, self._stopping.set)
        try:
            await super().shutdown(sockets)
        finally:
            grace.cancel()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `Unavailable`, with the way out, when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio sets TCP_NODELAY only where it sees it, and without that a piece
    # of an answer waits until the one before was acknowledged: 40 ms at times.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        # Only a socket that listens is sure of its port: another may be bound to it as well.
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise Unavailable(
            f"cannot listen on {host}:{port} ({error.strerror}): stop what uses it, "
            "or choose another with --listen"
        ) from None
    return sock


def build_agent(
    config: EdgeConfig, load: Callable[[], LocalEngine], *, own_gateway: bool = False
) -> Agent:
    """The agent of `config`, with its ledger and, where one is configured, the cloud's client.

    `own_gateway`: the gateway is this machine's own, and nothing leaves. Raises `ConfigError`.
    """
    cloud = _cloud_of(config)
    metrics = Metrics(ttft_slo_ms=config.ttft_slo_ms, tpot_slo_ms=config.tpot_slo_ms)
    ledger = Ledger(on_loss=metrics.ledger_lost)
    consent = Consent(config.privacy.consent, share=config.fleet.share, own_gateway=own_gateway)
    if cloud is not None and not consent.granted:
        log.warning(
            "nobody has consented to the use of the cloud, so every request stays on the device: "
            "isthmus privacy consent --grant"
        )
    if config.router.target is not None and config.router.threshold is None:
        log.warning(
            "router.%s is not kept yet, since nobody made it a threshold: isthmus route calibrate",
            config.router.target,
        )
    return Agent(
        config,
        device=Device(load),
        cloud=cloud,
        ledger=ledger,
        metrics=metrics,
        scanner=installed_scanner(config.privacy.detectors()),
        consent=consent,
        sensors=make_sensors(
            config.sensors, file=config.sensors_file, interval_s=config.sensors_interval_s
        ),
        trained=Trained(
            config.router_file,
            shadow_set=read_shadow_set(config.router_shadow_set),
            edge_sha256=lambda: _sha256_of(config.model),
            on_file=metrics.routing.took_file,
        ),
        tracer=tracing.create(config.tracing, "isthmus-edge"),
    )


def _sha256_of(model: str) -> str:
    from isthmus.engine.sources.catalogue import sha256_known

    return sha256_known(model)


def _cloud_of(config: EdgeConfig) -> Cloud | None:
    if config.gateway_address is None:
        return None
    from isthmus.edge.gateway import gateway_of
    from isthmus.edge.remote import RemoteTier

    return RemoteTier(gateway_of(config.gateway_address, config))


def load_engine(config: EdgeConfig) -> Callable[[], LocalEngine]:
    """What opens the configured model. Blocking; to be called in a thread."""

    def load() -> LocalEngine:
        from isthmus.engine.engine import Engine

        return Engine.open(
            config.model,
            backend=config.backend,
            threads=config.threads,
            kv_type=config.kv_type,
            speculation=config.speculation,
            idle_unload_s=config.idle_unload_s,
        )

    return load


def make_server(agent: Agent, config: EdgeConfig, kept: Kept) -> AgentServer:
    """The HTTP server around `agent`; `serve(sockets=[…])` runs it, `stop()` ends it.

    `kept` is what the page keeps.
    """
    stopping = asyncio.Event()
    return AgentServer(
        uvicorn.Config(
            create_app(agent, config, kept, stopping=stopping),
            http=http_protocol(config.head_timeout_s),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_CUT_S,
            timeout_keep_alive=30,
        ),
        stopping,
    )


async def serve(
    agent: Agent,
    config: EdgeConfig,
    sock: socket.socket,
    *,
    on_loaded: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Serve on `sock` until SIGINT or SIGTERM.

    `on_loaded` is called when the model has loaded or failed to, `on_stop` with the first signal.
    """
    kept = Kept.at_home()
    server = make_server(agent, config, kept)
    loop = asyncio.get_running_loop()
    # Scanning and tokenizing: more threads would be more memory, and not more cores.
    loop.set_default_executor(ThreadPoolExecutor(_WORKERS, thread_name_prefix="isthmus-worker"))

    def stop() -> None:
        if not server.should_exit:
            _end_in_time()
            on_stop()
        server.stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    await agent.start()
    warming = asyncio.create_task(asyncio.to_thread(agent.screen.warm_up))
    announcing = asyncio.create_task(_announce(agent, on_loaded))
    try:
        await server.serve(sockets=[sock])
    finally:
        announcing.cancel()
        warming.cancel()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        await agent.close()
        await asyncio.to_thread(kept.store.close)


def _end_in_time() -> None:
    """End the process, whatever hangs, before the five seconds are over."""
    watchdog = threading.Timer(_LAST_S, os._exit, args=(1,))
    watchdog.daemon = True
    watchdog.start()


async def _announce(agent: Agent, on_loaded: Callable[[], None]) -> None:
    await agent.device.wait()
    on_loaded()
