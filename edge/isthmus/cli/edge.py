"""`isthmus edge`: the edge agent alone."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isthmus.edge.config import EdgeConfig

app = typer.Typer(no_args_is_help=True, help="Run the edge agent.")


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
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
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
    from isthmus.edge.config import EdgeConfig

    log_to_stderr(verbose=verbose)
    host, port = split_flag("--listen", listen) if listen else (None, None)
    flags = {
        "host": host,
        "port": port,
        "model": model,
        "backend": backend,
        "threads": threads,
        "gateway_address": gateway,
    }
    settings = EdgeConfig.load(config, given(flags))
    _check_model(settings)
    sock = server.listen(settings.host, settings.port)
    agent = server.build_agent(settings, server.load_engine(settings))
    bound = sock.getsockname()
    url = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"

    def loaded() -> None:
        engine = agent.device.engine
        if engine is not None:
            print(f"ready: {engine.model_name} on {engine.backend_name}", file=sys.stderr)

    print(f"agent: {url}/v1 (metrics {url}/metrics); Ctrl-C stops it", file=sys.stderr)
    asyncio.run(server.serve(agent, settings, sock, on_loaded=loaded))


def _check_model(settings: EdgeConfig) -> None:
    """Raise now what would make the agent useless later."""
    from isthmus.core.errors import Unavailable
    from isthmus.engine.catalogue import locate, resolve

    missing = locate(resolve(settings.model)) is None
    if missing and settings.gateway_address is None:
        raise Unavailable(
            f"model {settings.model!r} is not on this machine, and there is no gateway to answer "
            f"in its place; get it: isthmus model pull {settings.model}"
        )


def log_to_stderr(*, verbose: bool) -> None:
    """Warnings, or with `verbose` everything of ours, on stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("isthmus").setLevel(logging.INFO if verbose else logging.WARNING)


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def split_flag(flag: str, address: str) -> tuple[str, int]:
    """Host and port of an address that was given with `flag`. Raises `ConfigError`."""
    from isthmus.core.addresses import split
    from isthmus.core.errors import ConfigError

    try:
        return split(address)
    except ValueError as error:
        raise ConfigError(f"{flag} {error}", field=flag) from None
