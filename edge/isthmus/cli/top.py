"""`isthmus top`: the running system in the terminal."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.core.errors import Unavailable

if TYPE_CHECKING:
    from isthmus.cli.top_app import Top
    from isthmus.cli.top_source import Snapshot, Source


def top(
    url: Annotated[str, typer.Option(help="The agent.")] = "http://127.0.0.1:8080",
    gateway_metrics: Annotated[
        str | None,
        typer.Option(help="A gateway's metrics too, e.g. 127.0.0.1:9464.", metavar="URL"),
    ] = None,
    window: Annotated[str, typer.Option(help="15m, 1h, 24h, 7d or 30d; the key w changes it.")] = (
        "1h"
    ),
    every: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look as text.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one look as an object.")] = False,
    token: Annotated[
        str | None, typer.Option(envvar="ISTHMUS_EDGE_TOKEN", help="The agent's token.")
    ] = None,
) -> None:
    """Watch where answers are made, how fast, at what price, and what stayed private.

    Example: isthmus top --gateway-metrics 127.0.0.1:9464
    """
    from isthmus.cli.top_source import Source
    from isthmus.edge.page.live import WINDOWS

    if window not in WINDOWS:
        raise typer.BadParameter(f"must be one of {', '.join(WINDOWS)}", param_hint="--window")
    for flag, given in (("--url", url), ("--gateway-metrics", gateway_metrics)):
        if given is not None and "://" in given and not given.startswith(("http://", "https://")):
            raise typer.BadParameter("must begin with http:// or https://", param_hint=flag)
    source = Source(
        url if "://" in url else f"http://{url}", token=token, gateway_metrics=gateway_metrics
    )
    if once or as_json:
        seen = asyncio.run(_once(source, window))
        _print(seen, window, as_json=as_json)
        if seen.live is None:
            raise typer.Exit(1)
        return
    app = _app()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("this is no terminal; here --once or --json prints one look")
    asyncio.run(_watch(source, app(source, tuple(WINDOWS), window, every_s=every)))


async def _once(source: Source, window: str) -> Snapshot:
    async with source:
        return await source.look(window)


def _app() -> type[Top]:
    """Raises `Unavailable`."""
    try:
        from isthmus.cli.top_app import Top
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise Unavailable(
            "isthmus top needs Textual: pip install 'isthmus[top]' "
            "(isthmus top --once prints one look without it)"
        ) from None
    return Top


async def _watch(source: Source, app: Top) -> None:
    async with source:
        await app.run_async()


def _print(seen: Snapshot, window: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(seen.json()))
        return
    from rich.console import Console

    from isthmus.cli.top_view import panels, title

    if seen.problem is not None:
        print(f"error: {seen.problem}", file=sys.stderr)
    width = shutil.get_terminal_size((80, 24)).columns
    console = Console(width=width, highlight=False, markup=False, soft_wrap=True)
    if seen.live is not None:
        console.print(title(seen, window))
    for panel in panels(seen, min(width, 78) - 2):
        console.print(f"\n{panel.title}", style="bold")
        for line in panel.lines:
            console.print("  ", line, sep="")
