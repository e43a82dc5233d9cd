"""What `isthmus top` shows: panels of text, made from one look at the system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from rich.text import Text

from isthmus.cli.top_source import GatewaySeen, Snapshot

Json = Mapping[str, Any]

EDGE, CLOUD, BAD, WARN, FAINT = "#3fb950", "#58a6ff", "#f85149", "#d29922", "dim"
"""Each is told in words as well."""
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_FLAT: Final = "·"
_TOLD: Final = 18
"""Cells in front of a chart."""
_NONE: Final = "–"
_TIMES: Final = (("ttft_ms", "first token"), ("tpot_ms", "per token"), ("total_ms", "in all"))


@dataclass(frozen=True, slots=True)
class Panel:
    """A title and its lines."""

    name: str
    title: str
    lines: Sequence[Text]


def panels(seen: Snapshot, width: int, rows: int = 1) -> list[Panel]:
    """All of them, their lines at most `width` cells; charts are `rows` lines high."""
    found = []
    if (live := seen.live) is not None:
        found = [
            Panel(
                "answers",
                f"Answers · {live['in_flight']} running",
                list(_answers(live, width, rows)),
            ),
            Panel("latency", "Latency", list(_latency(live, width, rows))),
            Panel("promises", "Promises kept", list(_promises(live))),
            Panel("money", "Money", list(_money(live))),
            Panel("privacy", "Privacy", list(_privacy(live))),
            Panel("cloud", "Cloud", list(_cloud(live))),
            Panel("device", "Device", list(_device(live))),
        ]
    if seen.gateway is not None:
        found.append(Panel("gateway", "Gateway", list(_gateway(seen.gateway))))
    elif seen.gateway_problem is not None:
        found.append(Panel("gateway", "Gateway", [Text(seen.gateway_problem, BAD)]))
    return found


def title(seen: Snapshot, window: str) -> str:
    """What is looked at."""
    return f"Isthmus · {seen.url} · the last {window}"


def _answers(live: Json, width: int, rows: int) -> Iterator[Text]:
    totals, buckets = live["totals"], live["buckets"]
    asked, edge, cloud = (int(totals[name]) for name in ("requests", "edge", "cloud"))
    answered = edge + cloud
    failed, refused = f"failed {totals['failed']:,}", f"refused {totals['refused']:,}"
    gap = "   " if len(f"{asked:,} asked   {failed}   {refused}") < width else " "
    yield Text(gap).join(
        [
            Text.assemble((f"{asked:,}", "bold"), " asked"),
            Text(failed, BAD if totals["failed"] else FAINT),
            Text(refused, WARN if totals["refused"] else FAINT),
        ]
    )
    cells = max(8, width - _TOLD)
    shown = {tier: folded([one[tier] for one in buckets], cells) for tier in ("edge", "cloud")}
    most = max(*shown["edge"], *shown["cloud"], 1)
    for tier, count, style in (("edge", edge, EDGE), ("cloud", cloud, CLOUD)):
        share = _percent(count / answered if answered else None)
        yield from _chart(f"{tier:5} {share:>4} {count:>6,}", bars(shown[tier], rows, most), style)
    tokens = folded([one["tokens"] for one in buckets], cells)
    yield from _chart(f"{'tokens':10} {totals['tokens']:>6,}", bars(tokens), "")


def _chart(told: str, lines: Sequence[str], style: str) -> Iterator[Text]:
    for line in lines[:-1]:
        yield Text(" " * _TOLD + line, style)
    yield Text(told.ljust(_TOLD) + lines[-1], style)


def _latency(live: Json, width: int, rows: int) -> Iterator[Text]:
    yield Text(f"{'':17}{'p50':>6}{'p95':>6}{'p99':>6}", FAINT)
    for tier, style in (("edge", EDGE), ("cloud", CLOUD)):
        times = live["latency"][tier]
        for name, told in _TIMES:
            row = "".join(f"{_ms(times[name][p]):>6}" for p in ("p50", "p95", "p99"))
            yield Text.assemble((f"{tier:5} ", style), f"{told:11}", row)
    speed = Text("tok/s")
    for tier, style in (("edge", EDGE), ("cloud", CLOUD)):
        tpot_ms = live["latency"][tier]["tpot_ms"]["p50"]
        told = _NONE if not tpot_ms else f"{1000 / tpot_ms:.0f}"
        speed.append(f"  {tier} {told}", style)
    yield speed
    if rows > 1:
        slowest = folded([one["ttft_p95_ms"] or 0 for one in live["buckets"]], width - _TOLD, max)
        yield from _chart("p95 first token", bars(slowest, rows), "")


def _promises(live: Json) -> Iterator[Text]:
    yield Text(f"{'':18}{'edge':>6}{'cloud':>6}{'all':>6}", FAINT)
    for one in live["promises"]:
        name = "first token" if one["of"] == "ttft_ms" else "per token"
        line = Text(f"{name} ≤{_ms(one['limit_ms'])}".ljust(18))
        for who in ("edge", "cloud", "all"):
            share = one["kept"][who]
            line.append(f"{_percent(share):>6}", _grade(share))
        yield line


def _money(live: Json) -> Iterator[Text]:
    money = live["money"]
    yield Text.assemble(
        "spent ", (_usd(money["spent_usd"]), "bold"), "   saved ", (_usd(money["saved_usd"]), EDGE)
    )
    for name, told in (("day", "today"), ("month", "month")):
        period = money[name]
        line = Text(f"{told}: {_usd(period['spent_usd'])}")
        if period["limit_usd"] is None:
            line.append(", no limit", FAINT)
        else:
            left = period["left_usd"]
            style = BAD if left <= 0 else WARN if left < period["limit_usd"] / 10 else ""
            line.append(f" of {_usd(period['limit_usd'])}, {_usd(left)} left", style)
        yield line


def _privacy(live: Json) -> Iterator[Text]:
    totals, privacy = live["totals"], live["privacy"]
    # What must not be cut off at the edge comes first.
    yield Text.assemble(
        (f"blocked {totals['blocked']}", BAD if totals["blocked"] else FAINT),
        f"  kept here {totals['kept_private']}  redacted {totals['redacted']}",
    )
    yield Text(_counts(privacy["classes"]) or "no requests", FAINT)
    yield Text.assemble(("found: ", FAINT), _counts(privacy["labels"]) or "nothing")


def _cloud(live: Json) -> Iterator[Text]:
    cloud = live["cloud"]
    state = cloud["state"]
    if state == "none":
        yield Text("no gateway is configured", FAINT)
        return
    style = {"closed": EDGE, "half_open": WARN}.get(state, BAD)
    line = Text.assemble("breaker ", (state.replace("_", "-"), style))
    if cloud["rtt_ms"] is not None:
        line.append(f"   round trip {_ms(cloud['rtt_ms'])}")
    yield line
    demo = " (same-model demo)" if cloud["same_model_demo"] else ""
    yield Text(f"{cloud['model'] or 'model not known yet'}{demo}")
    if not cloud["consent"]:
        yield Text("nobody has consented to its use: isthmus privacy consent", WARN)


def _device(live: Json) -> Iterator[Text]:
    device, error = live["device"], live["last_error"]
    line = Text(f"{device['model'] or 'no model'} on {device['backend'] or _NONE}")
    if device["problem"]:
        line.append(f"   {device['state']}: {device['problem']}", BAD)
    yield line
    parts = [f"memory {_bytes(device['memory_bytes'])}"]
    if (battery := device["battery"]) is not None:
        charging = ", charging" if battery["charging"] else ""
        parts.append(f"battery {_percent(battery['ratio'])}{charging}")
    if device["temperature_c"] is not None:
        parts.append(f"{device['temperature_c']:.0f} °C")
    line = Text("   ".join(parts))
    if device["throttled"]:
        line.append("   throttled", WARN)
    yield line
    if error is None:
        yield Text("no error so far", FAINT)
    else:
        ago = _ago(live["now_unix_s"] - error["at_unix_s"])
        good = " (the other tier answered)" if error["status"] == "ok" else ""
        yield Text(f"last error: {error['kind']}, {ago} ago{good}", WARN)


def _gateway(seen: GatewaySeen) -> Iterator[Text]:
    def of(count: int, limit: int | None) -> str:
        return f"{count}" if limit is None else f"{count} of {limit}"

    rate = _NONE if seen.tokens_per_s is None else f"{seen.tokens_per_s:.0f}"
    yield Text(
        f"answering {of(seen.in_flight, seen.in_flight_limit)}   "
        f"waiting {of(seen.queue, seen.queue_limit)}   {rate} tok/s"
    )
    yield Text(
        f"first token p50 {_ms(seen.ttft_p50_ms)}, p95 {_ms(seen.ttft_p95_ms)} since its start"
    )
    failed = {code: count for code, count in seen.requests.items() if code != "OK"}
    line = Text(f"OK {seen.requests.get('OK', 0):,}")
    if failed:
        line.append(f"   {_counts(failed)}", WARN)
    line.append(f"   shed {seen.shed}   charged {_usd(seen.spent_usd)}", FAINT)
    yield line
    if seen.upstreams:
        yield Text(f"upstreams: {_counts(seen.upstreams)}")


def bars(cells: Sequence[float], rows: int = 1, most: float = 0) -> list[str]:
    """Columns of blocks, `rows` lines high. `most` is what a full column stands for, at least."""
    full = max([*cells, most])
    eighths = [round(8 * rows * value / full) if full else 0 for value in cells]
    # Little is more than nothing.
    eighths = [max(1, n) if value else 0 for n, value in zip(eighths, cells, strict=True)]
    lines = [
        "".join(_BLOCKS[min(8, max(0, n - 8 * row))] for n in eighths)
        for row in reversed(range(rows))
    ]
    return [*lines[:-1], lines[-1].replace(_BLOCKS[0], _FLAT)]


def folded(
    values: Sequence[float], cells: int, fold: Callable[[Sequence[float]], float] = sum
) -> list[float]:
    """At most `cells` values: neighbours are told as one."""
    if len(values) <= cells:
        return list(values)
    edges = [len(values) * cell // cells for cell in range(cells + 1)]
    return [fold(values[a:b]) for a, b in pairwise(edges)]


def _counts(counts: Mapping[str, int]) -> str:
    """The most frequent first."""
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return "  ".join(f"{name} {count:,}" for name, count in ordered if count)


def _percent(share: float | None) -> str:
    if share is None:
        return _NONE
    if 0.99 < share < 1:
        # 99.96% is not all of them.
        return f"{min(share * 100, 99.9):.1f}%"
    return f"{share:.0%}"


def _grade(share: float | None) -> str:
    if share is None:
        return FAINT
    return EDGE if share >= 0.99 else WARN if share >= 0.9 else BAD


def _ms(ms: float | None) -> str:
    if ms is None:
        return _NONE
    if ms < 10:
        return f"{ms:.1f}ms"
    return f"{ms:.0f}ms" if ms < 1000 else f"{ms / 1000:.3g}s"


def _usd(usd: float) -> str:
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    return f"${usd:.3g}" if usd >= 1e-3 else f"${usd:.6f}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _ago(seconds: float) -> str:
    for unit_s, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{max(0, seconds):.0f} s"
