"""`isthmus edge`: the edge agent alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import edge_bundle
from isthmus.cli.flags import agent_settings, backends, log_to_stderr, page_of, url_of

if TYPE_CHECKING:
    from isthmus.edge.config import EdgeConfig

app = typer.Typer(no_args_is_help=True, help="Run the edge agent.")
app.command(epilog=edge_bundle.EXAMPLE)(edge_bundle.bundle)


@app.callback()
def edge() -> None:
    """Run the edge agent."""


@app.command(epilog="Example: isthmus edge serve --config edge.toml --listen 127.0.0.1:8080")
def serve(
    config: Annotated[
        Path | None, typer.Option(help="The settings, a TOML file (see ISTHMUS_EDGE_* too).")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="host:port to serve HTTP on.")] = None,
    model: Annotated[str | None, typer.Option(help="A catalogue name or a .gguf file.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, native or numpy.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads of the engine.")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(help="host:port of the cloud gateway; none: offline.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Serve OpenAI's chat API on this device, until Ctrl-C.

    Settings come from the flags, else the environment (ISTHMUS_EDGE_PORT=8081), else the file.
    """
    import asyncio

    from isthmus.edge import server

    log_to_stderr(verbose=verbose)
    settings = agent_settings(
        config, listen=listen, model=model, backend=backend, threads=threads, gateway=gateway
    )
    _check_model(settings)
    check_backend(settings)
    sock = server.listen(settings.host, settings.port)
    agent = server.build_agent(settings, server.load_engine(settings))
    url = url_of(*sock.getsockname()[:2])

    def loaded() -> None:
        engine = agent.device.engine
        if engine is not None:
            on = backends(engine.prefill_backend, engine.decode_backend)
            print(f"ready: {engine.model_name} on {on}", file=sys.stderr)

    print(f"agent: {url}/v1 (metrics {url}/metrics); Ctrl-C stops it", file=sys.stderr)
    print(f"page: {page_of(url, settings)}", file=sys.stderr)
    asyncio.run(server.serve(agent, settings, sock, on_loaded=loaded))


def check_backend(settings: EdgeConfig) -> None:
    """Raise now when the backend that was asked for by name does not work here."""
    from isthmus.core.paths import cache_dir
    from isthmus.kernels import create

    if settings.backend != "auto":
        create(settings.backend, threads=settings.threads, cache=cache_dir())


def _check_model(settings: EdgeConfig) -> None:
    """Raise now what would make the agent useless later."""
    from isthmus.core.errors import Unavailable
    from isthmus.engine.sources.catalogue import locate, resolve

    missing = locate(resolve(settings.model)) is None
    if missing and settings.gateway_address is None:
        raise Unavailable(
            f"model {settings.model!r} is not on this machine, and there is no gateway to answer "
            f"in its place; get it: isthmus model pull {settings.model}"
        )
