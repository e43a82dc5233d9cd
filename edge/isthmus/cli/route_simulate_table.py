"""The report of `isthmus route simulate` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table


def show(shown: Mapping[str, Any]) -> None:
    """Print a report."""
    console = Console(highlight=False)
    console.print(
        f"[bold]{shown['devices']:,} devices, {_gpus(shown['gpus'])}, {shown['hours']:g} hours: "
        f"{shown['requests']:,} requests, {_percent(shown['escalated_share'])} to the cloud[/bold]"
    )
    reasons = sorted(shown["reasons"].items(), key=lambda one: -one[1])
    console.print("decided by: " + ", ".join(f"{name} {count:,}" for name, count in reasons))
    if shown["sizing"] is not None:
        _sizing(console, shown["sizing"])
    _latency(console, shown["latency_ms"])
    _sums(console, shown)
    _by_time(console, shown["by_time"])
    for outage in shown.get("outages", ()):
        _outage(console, outage)
    for path in shown.get("plots", ()):
        console.print(f"wrote {path}")


def _sizing(console: Console, sizing: Mapping[str, Any]) -> None:
    slo = sizing["slo"]
    tried = ", ".join(
        f"{one['gpus']}: {_percent(min(one['ttft_kept'], one['tpot_kept']))}"
        for one in sizing["tried"]
    )
    console.print(
        f"needed for {slo['ttft_ms']:g} ms to the first token and {slo['tpot_ms']:g} ms a token, "
        f"each for {slo['share']:.0%} of the cloud's answers in the busiest hour: "
        f"{_gpus(sizing['gpus'])}" + (f" (tried {tried})" if tried else "")
    )


def _latency(console: Console, latency: Mapping[str, Any]) -> None:
    table = Table("", title="Milliseconds to the first and to the last token", box=SIMPLE)
    table.title_justify = "left"
    table.add_column("answers", justify="right")
    for column in ("p50", "p90", "p95", "p99", "last p50", "p95", "p99"):
        table.add_column(column, justify="right")
    for name, one in latency.items():
        if one is not None:
            cells = [one["ttft"][p] for p in ("p50", "p90", "p95", "p99")]
            cells += [one["total"][p] for p in ("p50", "p95", "p99")]
            table.add_row(
                name.replace("_", " "), f"{one['answers']:,}", *(f"{c:,.0f}" for c in cells)
            )
    console.print(table)


def _sums(console: Console, shown: Mapping[str, Any]) -> None:
    table = Table("", "", title="Bill, energy, quality", box=SIMPLE, show_header=False)
    table.title_justify = "left"
    bill, energy, quality = shown["bill"], shown["energy_wh"], shown["expected_quality"]
    a_thousand = bill["usd_per_1000_requests"] or 0
    table.add_row("tokens", f"${bill['tokens_usd']:,.2f} (${a_thousand:g} for 1000 requests)")
    table.add_row("GPUs", f"${bill['gpu_usd']:,.2f} for {bill['gpu_hours']:,.1f} hours")
    batch = f"{shown['sequences_per_gpu']:g} sequences on each on average"
    table.add_row("GPUs in use", f"{_percent(shown['gpu_use'])} of the time, {batch}")
    table.add_row(
        "energy", ", ".join(f"{name} {value / 1000:,.3g} kWh" for name, value in energy.items())
    )
    table.add_row(
        "expected quality",
        ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in quality.items()),
    )
    table.add_row("not answered", f"{shown['unserved']:,}")
    if shown["prefix_hit_share"]:
        table.add_row("prompt tokens cached", _percent(shown["prefix_hit_share"]))
    console.print(table)


def _by_time(console: Console, rows: list[Mapping[str, Any]]) -> None:
    title = "By time of day (p95: milliseconds to the first token)"
    heads = ("time", "req/s", "to cloud", "device p95", "cloud p95", "a GPU's batch", "$", "Wh")
    table = Table(*heads, title=title, box=SIMPLE)
    table.title_justify = "left"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(
            row["time"],
            f"{row['requests_per_s']:g}",
            _percent(row["escalated_share"]),
            _ms(row["device_ttft_p95_ms"]),
            _ms(row["cloud_ttft_p95_ms"]),
            f"{row['sequences_per_gpu']:g}",
            f"{row['tokens_usd']:,.4g}",
            f"{row['device_wh']:,.4g}",
        )
    console.print(table)


def _outage(console: Console, outage: Mapping[str, Any]) -> None:
    what = outage["network"] or outage["what"]
    left = f" ({_gpus(outage['gpus_left'])} left)" if outage["what"] == "cloud" else ""
    title = f"{what} down from {outage['from']} to {outage['to']}{left}"
    table = Table("", "with", "without", "hour after", "without", title=title, box=SIMPLE)
    table.title_justify = "left"
    for column in table.columns[1:]:
        column.justify = "right"
    sides = [
        outage[part][side] for part in ("during", "hour_after") for side in ("with", "without")
    ]
    rows = {
        "to the cloud": ("escalated_share", _percent),
        "fell back": ("fell_back", "{:,}".format),
        "not answered": ("unserved", "{:,}".format),
        "expected quality": ("expected_quality", _plain),
        "first token p50 (ms)": ("ttft_p50_ms", _ms),
        "first token p95 (ms)": ("ttft_p95_ms", _ms),
        "last token p95 (ms)": ("total_p95_ms", _ms),
    }
    for name, (field, text) in rows.items():
        table.add_row(name, *(text(side[field]) for side in sides))
    console.print(table)
    after = outage["recovered_after_s"]
    told = "not in this run" if after is None else f"{after:g} s after its end"
    console.print(f"  p95 of the first token at most 1.1 times what it is without: {told}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count:,} GPUs"
