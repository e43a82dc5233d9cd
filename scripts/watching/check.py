"""Run every query that is shipped against a real Prometheus that scrapes the real program.

    python -m watching.check [--seconds 50] [--deploy deploy] [--keep FOLDER]

Ends with a table, and with 1 where a query cannot be read, returns nothing, or names a metric that
nobody exports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from watching import load
from watching.alarms import compared
from watching.exported import exported
from watching.queries import DEPLOY, Query, shipped
from watching.system import System, rule_files, running

_QUIET: Final = Path(__file__).parent / "quiet.toml"
_OWN: Final = ("isthmus_", "gen_ai_")
_ENDS: Final = ("_bucket", "_count", "_sum", "_total", "_info")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    where: str
    problem: str


@dataclass(frozen=True, slots=True)
class Quiet:
    """A query that rightly returns nothing in good health."""

    expr: str
    reason: str
    series: tuple[str, ...]


class Prometheus:
    """Its API."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=30)

    def results(self, expr: str) -> int:
        """How many series `expr` returns now. Raises `ValueError` with what is wrong with it."""
        answer = self._client.post("/api/v1/query", data={"query": expr}).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        found = answer["data"]["result"]
        if answer["data"]["resultType"] in {"scalar", "string"}:
            return 1
        values = (one["value"][1] for one in found if "value" in one)
        return sum(value != "NaN" for value in values) if found else 0

    def names(self) -> set[str]:
        """Every metric's name."""
        return set(self._client.get("/api/v1/label/__name__/values").json()["data"])

    def rules(self) -> Iterator[dict[str, Any]]:
        """The rules, with how they fare."""
        for group in self._client.get("/api/v1/rules").json()["data"]["groups"]:
            yield from group["rules"]

    def targets(self) -> Iterator[tuple[str, str]]:
        """Those that cannot be scraped, with why."""
        for target in self._client.get("/api/v1/targets").json()["data"]["activeTargets"]:
            if target["health"] != "up":
                yield target["scrapeUrl"], target["lastError"]

    def page(self, path: str) -> httpx.Response:
        """A console."""
        return self._client.get(path)


def query_findings(
    prometheus: Prometheus, queries: Iterable[Query], quiet: Iterable[Quiet]
) -> Iterator[Finding]:
    """Queries that are wrong or return nothing."""
    known = {one.expr for one in quiet}
    for query in queries:
        where = f"{query.kind} {query.source}: {query.title}"
        try:
            parts = compared(query.expr) if query.kind == "alert" else (query.expr,)
            asked = (query.expr, *parts) if query.kind == "alert" else parts
            returned = {expr: prometheus.results(expr) for expr in asked}
        except ValueError as error:
            yield Finding(where, f"{error}: {query.expr}")
            continue
        if query.expr not in known:
            yield from (
                Finding(where, f"returns nothing: {expr}") for expr in parts if not returned[expr]
            )


def quiet_findings(quiet: Sequence[Quiet], queries: Iterable[Query]) -> Iterator[Finding]:
    """Declared queries that nobody ships, or that return nothing when they should."""
    exprs = {query.expr for query in queries}
    for one in quiet:
        if one.expr not in exprs:
            yield Finding("quiet.toml", f"nobody asks this any more: {one.expr}")
        elif one.series and (said := _promtool(one)):
            yield Finding("quiet.toml", f"{one.expr}: {said}")


def _promtool(one: Quiet) -> str:
    """What promtool says to a query that should return something for these series."""
    asked = f"count({one.expr}) > bool 0"
    pairs = (text.rsplit(" ", 1) for text in one.series)
    series = [{"series": name, "values": values} for name, values in pairs]
    expected = {"expr": asked, "eval_time": "60m", "exp_samples": [{"labels": "{}", "value": 1}]}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [expected]}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"tests": [test]}, file)
        file.flush()
        command = ["promtool", "test", "rules", file.name]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
    return "" if ran.returncode == 0 else f"returns nothing for its series: {ran.stdout.strip()}"


def metric_findings(names: set[str]) -> Iterator[Finding]:
    """Metrics that were scraped and are in no registry that docs/metrics.md is made from."""
    known = {series for metric in exported() for series in metric.series}
    for name in sorted(names - known):
        if name.startswith(_OWN):
            yield Finding("docs/metrics.md", f"{name} is exported and not documented")


def unmoved(prometheus: Prometheus, names: set[str]) -> list[str]:
    """Documented metrics that the load gave no series, or no other value than 0."""
    found = []
    for metric in exported():
        series = [name for name in metric.series if name in names]
        # A gauge may be at rest again by now.
        busy = any(prometheus.results(f"max_over_time({name}[10m]) != 0") for name in series)
        if not busy:
            found.append(metric.shown)
    return found


def console_findings(prometheus: Prometheus, deploy: Path) -> Iterator[Finding]:
    """Consoles that Prometheus cannot show."""
    for path in sorted((deploy / "prometheus" / "consoles").glob("*.html")):
        shown = prometheus.page(f"/consoles/{path.name}")
        if shown.status_code != 200 or "error executing template" in shown.text:
            yield Finding(f"console {path.stem}", f"{shown.status_code}: {shown.text[:300]}")


def read_quiet(path: Path = _QUIET) -> tuple[Quiet, ...]:
    """What is declared."""
    told = tomllib.loads(path.read_text(encoding="utf-8")).get("query", [])
    return tuple(Quiet(one["expr"], one["reason"], tuple(one.get("series", ()))) for one in told)


def check(system: System, deploy: Path, seconds: float) -> int:
    """Run the load, ask everything, tell what came of it; the exit status."""
    began_s = time.monotonic()
    asyncio.run(load.run(system, seconds))
    # What the load did last is scraped, and rules have seen it.
    time.sleep(3)
    prometheus = Prometheus(system.prometheus_url)
    queries, quiet = shipped(deploy), read_quiet()
    names = prometheus.names()
    findings = [
        *(Finding(url, f"cannot be scraped: {why}") for url, why in prometheus.targets()),
        *query_findings(prometheus, queries, quiet),
        *quiet_findings(quiet, queries),
        *metric_findings(names),
        *console_findings(prometheus, deploy),
        *(
            Finding(f"rule {rule['name']}", rule["lastError"])
            for rule in prometheus.rules()
            if rule["health"] == "err"
        ),
    ]
    for finding in findings:
        print(f"{finding.where}\n    {finding.problem}", file=sys.stderr)
    kinds = [query.kind for query in queries]
    for name, value in (
        ("load", f"{seconds:.0f} s, {time.monotonic() - began_s:.0f} s with all questions"),
        ("metrics exported", len(exported())),
        ("not moved by the load", ", ".join(unmoved(prometheus, names)) or "none"),
        ("series", prometheus.results('{__name__=~".+"}')),
        *((f"queries of {kind}s", kinds.count(kind)) for kind in sorted(set(kinds))),
        ("rule files", len(rule_files(deploy))),
        ("quiet in good health", len(quiet)),
        ("wrong", len(findings)),
    ):
        print(f"{name:24}{value}")
    return min(1, len(findings))


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=50, help="of load")
    parser.add_argument("--deploy", type=Path, default=DEPLOY, help="the folder that is shipped")
    parser.add_argument("--keep", type=Path, help="a new folder for logs, kept")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=asked.keep is None)
        system = stack.enter_context(running(folder.resolve(), asked.deploy.resolve()))
        return check(system, asked.deploy, asked.seconds)


if __name__ == "__main__":
    sys.exit(main())
