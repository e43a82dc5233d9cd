"""`isthmus bench gateway`: what a gateway adds, carries and loses, with a scripted backend."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.core.errors import InvalidRequest

if TYPE_CHECKING:
    from isthmus.cli.bench_gateway_rows import Sizes
    from isthmus.cloud.load.runner import Report


def gateway(
    rows: Annotated[
        str,
        typer.Option(help="Of ttft, streams, tokens, http, cancel, memory; with commas between."),
    ] = "ttft,streams,tokens,http,cancel,memory",
    rounds: Annotated[
        int, typer.Option(min=1, help="Pairs of runs, without a gateway and with one, for ttft.")
    ] = 3,
    seconds: Annotated[
        float, typer.Option(min=3, help="Counted arrivals of one run for ttft.")
    ] = 15.0,
    streams: Annotated[int, typer.Option(min=1, help="Streams at once.")] = 2_000,
    requests: Annotated[
        int, typer.Option(min=100, help="Requests while memory is watched.")
    ] = 10_000,
    vs: Annotated[
        str | None,
        typer.Option("--vs", help="A peer, in place of the rows: litellm."),
    ] = None,
    peer_python: Annotated[
        Path | None,
        typer.Option(help="Its interpreter. By default .venv-litellm's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object as the last line.")] = False,
) -> None:
    """Put load on a gateway of its own: Poisson arrivals, every token accounted for."""
    from isthmus.cli.bench_gateway_rows import ROWS, Sizes

    if vs is not None:
        if vs != "litellm":
            raise InvalidRequest(f"{vs!r} is no peer that is known here; litellm is", field="--vs")
        _beside(Sizes(rounds=rounds, ttft_s=seconds), peer_python, as_json=as_json)
        return
    wanted = rows.split(",")
    for name in wanted:
        if name not in ROWS:
            raise InvalidRequest(f"{name!r} is not one of {', '.join(ROWS)}", field="--rows")
    sizes = Sizes(rounds=rounds, ttft_s=seconds, streams=streams, requests=requests)
    found: dict[str, Any] = {}
    reports: list[Report] = []
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        for name in wanted:
            print(f"{name} …", file=sys.stderr, flush=True)
            told, ran = asyncio.run(ROWS[name](Path(folder), sizes))
            found[name] = told
            reports += ran
            if not as_json:
                _show(name, told)
    totals = _totals(reports)
    if as_json:
        print(json.dumps(_headline(found) | totals | {"rows": found}))
    else:
        _show("in all", totals)


def _beside(sizes: Sizes, peer_python: Path | None, *, as_json: bool) -> None:
    from isthmus.cli.bench_gateway_vs import versus

    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        found, reports = asyncio.run(versus(Path(folder), sizes, peer_python))
    if as_json:
        print(json.dumps({"vs": found} | _totals(reports)))
        return
    for name, told in (found | {"in all": _totals(reports)}).items():
        _show(name, told)


def _totals(reports: list[Report]) -> dict[str, int]:
    return {
        "requests": sum(report.requests for report in reports),
        "failed_requests": sum(sum(report.failed.values()) for report in reports),
        "lost_tokens": sum(report.lost_tokens for report in reports),
        "doubled_tokens": sum(report.doubled_tokens for report in reports),
        "strange_tokens": sum(report.strange_tokens for report in reports),
    }


def _headline(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that are looked at first; none for a row that was not run."""
    added, many = found.get("ttft", {}), found.get("streams", {})
    return {
        "added_ttft_ms": {"p50": added.get("p50"), "p99": added.get("p99")},
        "streams": many.get("streams"),
        "tokens_per_s": found.get("tokens", {}).get("tokens_per_s"),
        "rss_mb": many.get("rss_mb", found.get("memory", {}).get("rss_mb")),
        "cancel_ms": found.get("cancel"),
    }


def _show(name: str, told: dict[str, Any]) -> None:
    print(f"{name:8} " + "  ".join(f"{key} {value}" for key, value in told.items()), flush=True)
