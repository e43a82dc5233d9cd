"""`isthmus up`: the whole system on one machine."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.flags import agent_settings, backends, log_to_stderr, page_of, split_flag, url_of
from isthmus.core.addresses import why_taken

if TYPE_CHECKING:
    from isthmus.cli.child import Child
    from isthmus.edge.agent import Agent
    from isthmus.edge.config import EdgeConfig

_DRAIN_S = 2.0
"""How long the gateway may finish its answers after Ctrl-C."""
_KILL_S = 3.5
"""When a gateway that still runs is killed, in seconds after Ctrl-C."""

_CURL = """curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "isthmus", "temperature": 0, "messages": [{{"role": "user", \
"content": "What is the capital of France?"}}]}}'"""


def up(
    listen: Annotated[
        str | None, typer.Option(help="host:port of the agent.", show_default="127.0.0.1:8080")
    ] = None,
    gateway: Annotated[str, typer.Option(help="host:port of the gateway.")] = "127.0.0.1:50051",
    gateway_metrics: Annotated[
        str, typer.Option(help="host:port of the gateway's metrics.")
    ] = "127.0.0.1:9464",
    model: Annotated[
        str | None, typer.Option(help="The device's model.", show_default="smollm2-135m")
    ] = None,
    cloud_model: Annotated[
        str | None,
        typer.Option(
            help="The cloud's model.", show_default="a larger one that is here, or the same"
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="The device's backend.", show_default="auto")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads of the engine.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The agent's settings, a TOML file.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Start the agent and a gateway on this machine; fetch the model if it is missing.

    Example: isthmus up --cloud-model qwen2.5-coder-1.5b
    """
    began_s = time.monotonic()
    from isthmus.cli.child import Child
    from isthmus.cli.edge import check_backend
    from isthmus.core.paths import home

    log_to_stderr(verbose=verbose)
    settings = agent_settings(
        config, listen=listen, model=model, backend=backend, threads=threads, gateway=gateway
    )
    check_backend(settings)
    _check_plain(settings)
    _check_free("--listen", settings.host, settings.port)
    _check_free("--gateway", *split_flag("--gateway", gateway))
    _check_free("--gateway-metrics", *split_flag("--gateway-metrics", gateway_metrics))
    _fetch(settings.model)
    cloud_name = _cloud_model(settings.model, cloud_model)
    same = cloud_name == settings.model
    environment = {
        "ISTHMUS_CLOUD_LISTEN": gateway,
        "ISTHMUS_CLOUD_METRICS_LISTEN": gateway_metrics,
        "ISTHMUS_CLOUD_BACKEND__KIND": "embedded",
        "ISTHMUS_CLOUD_BACKEND__MODEL": cloud_name,
        "ISTHMUS_CLOUD_SAME_MODEL_DEMO": str(same).lower(),
        "ISTHMUS_CLOUD_DRAIN_S": str(_DRAIN_S),
    }
    if settings.gateway_token is not None:
        environment["ISTHMUS_CLOUD_TOKEN"] = settings.gateway_token.get_secret_value()
    if settings.gateway_token_file is not None:
        environment["ISTHMUS_CLOUD_TOKEN_FILE"] = str(settings.gateway_token_file)
    child = Child(("cloud", "serve"), environment=environment, log_path=home() / "gateway.log")
    # From here on the gateway loads its model beside us.
    system = _System(
        settings=settings,
        child=child,
        gateway=gateway,
        gateway_metrics=gateway_metrics,
        cloud_label=f"{cloud_name} (same-model demo)" if same else cloud_name,
        began_s=began_s,
    )
    try:
        system.run()
    finally:
        child.terminate()
        child.kill_after(system.seconds_left())


@dataclass(slots=True)
class _System:
    """The agent in this process, the gateway in a child, and a thread that watches both."""

    settings: EdgeConfig
    child: Child
    gateway: str
    gateway_metrics: str
    cloud_label: str
    began_s: float
    _loaded: threading.Event = field(default_factory=threading.Event)
    _stopped_at_s: float | None = None

    def run(self) -> None:
        """Serve until a signal."""
        import asyncio

        from isthmus.edge import server

        sock = server.listen(self.settings.host, self.settings.port)
        # The gateway runs the engine on this machine: what goes there has not left it.
        agent = server.build_agent(
            self.settings, server.load_engine(self.settings), own_gateway=True
        )
        watching = threading.Thread(target=self._watch, args=(agent,), daemon=True)
        watching.start()
        serving = server.serve(
            agent, self.settings, sock, on_loaded=self._loaded.set, on_stop=self._stop
        )
        asyncio.run(serving)

    def seconds_left(self) -> float:
        """Until the gateway has to be gone."""
        if self._stopped_at_s is None:
            return _KILL_S
        return max(0.0, self._stopped_at_s + _KILL_S - time.monotonic())

    def _stop(self) -> None:
        self._stopped_at_s = time.monotonic()
        print("\nstopping …", flush=True)
        self.child.terminate()

    def _watch(self, agent: Agent) -> None:
        self._loaded.wait()
        reachable = self._gateway_reachable()
        if self._stopped_at_s is not None:
            return
        print(self._banner(agent, reachable=reachable), flush=True)
        status = self.child.wait()
        if self._stopped_at_s is None:
            print(
                f"the gateway has stopped (exit status {status}); the device goes on alone.\n"
                f"Its last words, in full in {self.child.log_path}:\n{self.child.last_words()}",
                flush=True,
            )

    def _gateway_reachable(self) -> bool:
        address = split_flag("--gateway", self.gateway)
        while self.child.running and self._stopped_at_s is None:
            try:
                socket.create_connection(address, timeout=0.5).close()
            except OSError:
                time.sleep(0.03)
            else:
                return True
        return False

    def _banner(self, agent: Agent, *, reachable: bool) -> str:
        engine = agent.device.engine
        device = agent.device.problem
        if engine is not None:
            device = (
                f"{engine.model_name} on {backends(engine.prefill_backend, engine.decode_backend)}"
            )
        url = url_of(self.settings.host, self.settings.port)
        cloud = self.cloud_label if reachable else "did not start"
        ledger = agent.ledger.path if agent.ledger is not None else "none"
        return (
            f"Isthmus is up ({time.monotonic() - self.began_s:.1f} s)\n"
            f"  agent    {url}/v1   OpenAI API: {device}\n"
            f"  gateway  {self.gateway}   gRPC: {cloud}\n"
            f"  page     {page_of(url, self.settings)}\n"
            f"  metrics  {url}/metrics   http://{self.gateway_metrics}/metrics\n"
            f"  ledger   {ledger}\n"
            "Try it:\n"
            f"  {_CURL.format(url=url)}\n"
            f"or talk: isthmus chat --url {url}\n"
            "Ctrl-C stops everything."
        )


def _check_plain(settings: EdgeConfig) -> None:
    from isthmus.core.errors import ConfigError

    for name in ("gateway_ca_file", "gateway_cert_file"):
        if getattr(settings, name) is not None:
            raise ConfigError(
                f"{name} is for a gateway elsewhere (isthmus edge serve); the one that isthmus up "
                "runs is on this machine and speaks no TLS",
                field=name,
            )


def _check_free(flag: str, host: str, port: int) -> None:
    from isthmus.core.errors import Unavailable

    why = why_taken(f"{host}:{port}")
    if why is not None:
        raise Unavailable(
            f"cannot listen on {host}:{port} ({why}): stop what uses it (another isthmus up?), or "
            f"choose another address with {flag}"
        )


def _fetch(name: str) -> None:
    """Pull a model that is not on this machine, with a bar where a person is looking."""
    from isthmus.engine.sources.catalogue import locate, resolve

    if locate(resolve(name)) is not None:
        return
    from isthmus.cli.model import download_bar
    from isthmus.engine.sources.pull import pull

    typer.echo(f"fetching {name} (once)", err=True)
    with download_bar(name) as report:
        pull(name, progress=report)


def _cloud_model(device_name: str, wanted: str | None) -> str:
    """The one that is wanted, else the largest of the catalogue that is here and larger."""
    from isthmus.engine.sources.catalogue import catalogue, locate, resolve

    if wanted is not None:
        _fetch(wanted)
        return wanted
    size_bytes = resolve(device_name).size_bytes or 0
    larger = [
        (entry.size_bytes, entry.name)
        for entry in catalogue().values()
        if entry.size_bytes is not None
        and entry.size_bytes > size_bytes
        and locate(entry) is not None
    ]
    return max(larger)[1] if larger else device_name
