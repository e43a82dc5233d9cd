"""`isthmus cloud`: the gateway alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import cloud_enroll, cloud_fleet, cloud_plan, cloud_serving, cloud_usage
from isthmus.cli.flags import given

if TYPE_CHECKING:
    from isthmus.cloud.config import CloudConfig

app = typer.Typer(help="The cloud tier: a gRPC gateway in front of a model.", no_args_is_help=True)
app.add_typer(cloud_fleet.app, name="fleet")
app.command(epilog=cloud_enroll.ENROLL_EXAMPLE)(cloud_enroll.enroll)
app.command(epilog=cloud_enroll.DEVICES_EXAMPLE)(cloud_enroll.devices)
app.command(epilog=cloud_enroll.REVOKE_EXAMPLE)(cloud_enroll.revoke)
app.command(epilog=cloud_enroll.ROTATE_EXAMPLE)(cloud_enroll.rotate_key)
app.command(epilog=cloud_enroll.CERTIFY_EXAMPLE)(cloud_enroll.certify)
app.command(epilog=cloud_plan.EXAMPLE)(cloud_plan.plan)
app.command(epilog=cloud_serving.EXAMPLE)(cloud_serving.serving)
app.command(epilog=cloud_usage.EXAMPLE)(cloud_usage.usage)

_EXAMPLE = """
Example: isthmus cloud serve --backend openai --url http://127.0.0.1:8000/v1 --model my-model
"""


@app.callback()
def _group() -> None:
    """The cloud tier: a gRPC gateway in front of a model."""


@app.command(epilog=_EXAMPLE)
def serve(
    config: Annotated[
        Path | None, typer.Option(help="A TOML file; ISTHMUS_CLOUD_* and flags go over it.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="host:port or unix:/path (default: 127.0.0.1:50051)")
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(help="host:port of /metrics, empty: none (default: 127.0.0.1:9464)"),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="embedded, openai, vllm, or scripted for load tests (default: embedded)"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A catalogue name, a folder, or an upstream's model.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible upstream, e.g. http://host:8000/v1")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the addresses as JSON when ready.")
    ] = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM; running answers get a few seconds to end."""
    # gRPC would write a line for each handshake that fails: whoever scans ports could fill the log.
    # It reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from isthmus.cloud.config import CloudConfig

    behind = given({"kind": backend, "model": model, "url": url})
    chosen = given({"listen": listen, "metrics_listen": metrics_listen, "backend": behind or None})
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # httpx logs a line a request at this level, which the gateway counts already, and Alembic more.
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = CloudConfig.load(config, chosen)
    asyncio.run(_serve(settings, as_json=json_))
    if settings.backend.kind == "vllm":
        # All is closed and written; the interpreter would take torch apart for seconds more.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _serve(config: CloudConfig, *, as_json: bool) -> None:
    """Start, say where, wait for a signal, drain. A second signal ends at once."""
    from isthmus.cloud.server import Gateway

    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            # The second time people mean it.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            signal.raise_signal(signal.SIGINT)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    gateway = Gateway(config)
    starting = asyncio.create_task(gateway.start())
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return
        await starting
        # A full look for garbage stops every stream for milliseconds: what lives since the start is
        # left out of it, and it comes seldom.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        info = gateway.backend.info()
        ready = {
            "address": gateway.address,
            "metrics": gateway.metrics_address,
            "backend": info.backend,
            "model": info.model,
        }
        if as_json:
            typer.echo(json.dumps(ready))
        else:
            where = f", metrics on http://{gateway.metrics_address}/metrics"
            typer.echo(
                f"gateway on {gateway.address} ({info.model}, {info.backend})"
                f"{where if gateway.metrics_address else ''}; Ctrl-C stops it",
                err=True,
            )
        await waiting
    finally:
        waiting.cancel()
        await gateway.stop()
