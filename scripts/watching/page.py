"""docs/metrics.md, written from the program's registries and from what asks for them.

python -m watching.page            # writes it
python -m watching.page --check    # ends with 1 when it is stale
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from watching.exported import Metric, exported
from watching.queries import Query, shipped

PAGE: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_INTRODUCTION: Final = """\
# Metrics

<!-- Written by `make docs` from the program's registries: change the code, not this page. -->

What `/metrics` of the agent and of the gateway tell (Prometheus' text format), and which dashboard,
alert, recording rule or console asks for it. Names, units and labels follow
[OpenTelemetry's GenAI conventions](https://github.com/open-telemetry/semantic-conventions-genai)
of September 2026 where they have one (`gen_ai_*`; their status is *development*), with the buckets
that they advise; what they have no name for is `isthmus_*`. Promised times are edges of buckets: on
the agent `ttft_slo_ms` and `tpot_slo_ms`, so that the share of answers that kept them is exact.

No label is a user, a device, a conversation or a request, and none holds text. What others choose
(model names, device classes, tenants) is bounded; what is beyond the bound is told as `other`.

- `route`: who answered, `edge` or `cloud`; `gen_ai_provider_name` says the same as `isthmus.edge`
  and `isthmus.cloud`, for dashboards that know the conventions alone.
- `error_type`: empty, which to Prometheus is as good as missing, where there was no error.
- `process_*`: start, memory, processor time and open files of the process, where the system tells
  them, by Prometheus' own conventions.
- A counter's name ends in `_total`; a histogram has `_bucket`, `_count` and `_sum`.
"""
_SECTIONS: Final = {
    "agent": "## The agent\n\n`http://127.0.0.1:8080/metrics`; with `ISTHMUS_EDGE_TOKEN` where a "
    "token is set.",
    "gateway": "## The gateway\n\n`metrics_listen`, 127.0.0.1:9464 under `isthmus up`.",
    "fleet": "## The fleet\n\nOn the gateway too. What devices reported is counted by the gateway "
    "that they reported\nto: sum over gateways. What is read from the database is the same at "
    "every gateway that shares\nit: take the largest.",
}
_VLLM: Final = """\
## vLLM's own

A gateway that runs vLLM in its own process (`backend.kind = "vllm"`) serves vLLM's metrics
(`vllm:*`) beside its own; a vLLM server serves them itself. The dashboards ask for:

"""


def page(metrics: Sequence[Metric], queries: Sequence[Query]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for where, introduction in _SECTIONS.items():
        own = [one for one in metrics if one.where == where]
        parts.append(f"{introduction}\n\n{''.join(_item(one, queries) for one in own)}")
    foreign = sorted({name for query in queries for name in names(query.expr) if ":" in name})
    asked = [name for name in foreign if name.startswith("vllm:")]
    if asked:
        parts.append(_VLLM + "".join(f"- `{name}`\n" for name in asked))
    return "\n".join(parts)


def names(expr: str) -> set[str]:
    """Every word of a query that may name a metric."""
    return set(_NAME.findall(expr))


def users(metric: Metric, queries: Iterable[Query]) -> list[str]:
    """What asks for it: dashboards by title, rules by name, consoles by file."""
    series = {metric.name, *metric.series}
    found = {
        query.source if query.kind in {"dashboard", "console"} else query.title: query.kind
        for query in queries
        if not series.isdisjoint(names(query.expr))
    }
    order = ["dashboard", "alert", "record", "console"]
    return [
        f"`{name}`" if kind in {"alert", "record"} else f"{name} ({kind})"
        for name, kind in sorted(found.items(), key=lambda item: (order.index(item[1]), item[0]))
    ]


def _item(metric: Metric, queries: Sequence[Query]) -> str:
    """An item of a list: names are too long for a table's column."""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    by = f", by {labels}" if labels else ""
    lines = [f"- `{metric.shown}`: {metric.kind}, {metric.unit}{by}.", f"  {metric.meaning}"]
    if asked := ", ".join(users(metric, queries)):
        lines.append(f"  *Asked for by {asked}.*")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    wanted = page(exported(), shipped())
    if "--check" not in arguments:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != wanted:
        print("docs/metrics.md is stale: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
