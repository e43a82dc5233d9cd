"""Every query that Isthmus ships: of dashboards, rules and console templates."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]|\$(\w+)")
_LABEL_VALUES: Final = re.compile(r"label_values\((?:(?P<of>.+),)?\s*\w+\s*\)")
_QUERY_RESULT: Final = re.compile(r"query_result\((?P<of>.+)\)")
_CONSOLES: Final = (
    re.compile(r'\bquery\s+"((?:[^"\\]|\\.)*)"'),
    re.compile(r"\bquery\s+`([^`]*)`"),
    re.compile(r'\bexpr:\s*"((?:[^"\\]|\\.)*)"'),
    re.compile(r"\bexpr:\s*'((?:[^'\\]|\\.)*)'"),
)
_BUILT_IN: Final = {
    "__rate_interval": "5m",
    "__interval": "5s",
    "__interval_ms": "5000",
    "__range": "5m",
    "__range_s": "300",
    "__range_ms": "300000",
}
"""What Grafana puts in by itself, so that all of the load is within it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, with Grafana's variables filled in."""

    kind: str
    """`dashboard`, `alert`, `record` or `console`."""
    source: str
    """The dashboard's title, the group of rules, or the console's file."""
    title: str
    """The panel's, or the rule's name."""
    expr: str


def shipped(deploy: Path = DEPLOY) -> tuple[Query, ...]:
    """All of them, in the order of their files."""
    found: list[Query] = []
    for path in sorted((deploy / "grafana").glob("**/*.json")):
        found += dashboard(json.loads(path.read_text(encoding="utf-8")))
    for path in sorted((deploy / "prometheus").glob("**/*.y*ml")):
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(text, dict) and "groups" in text:
            found += rules(text)
    for path in sorted((deploy / "prometheus").glob("**/*.html")):
        found += console(path.stem, path.read_text(encoding="utf-8"))
    return tuple(found)


def dashboard(model: dict[str, Any]) -> Iterable[Query]:
    """The queries of a dashboard's panels, rows and variables, with every value to choose from."""
    variables = model.get("templating", {}).get("list", [])
    title = str(model["title"])
    found: dict[Query, None] = {}
    for chosen in product(*map(_values, variables)):
        values = _BUILT_IN | dict(zip((one["name"] for one in variables), chosen, strict=True))
        found |= dict.fromkeys(_queries(title, model, values))
    return found


def _queries(title: str, model: dict[str, Any], values: dict[str, str]) -> Iterator[Query]:
    for panel in _panels(model):
        for target in panel.get("targets", []):
            if expr := target.get("expr"):
                yield Query("dashboard", title, str(panel.get("title", "")), _filled(expr, values))
    for one in model.get("templating", {}).get("list", []):
        asked = one.get("query", "")
        text = asked.get("query", "") if isinstance(asked, dict) else str(asked)
        for form in (_LABEL_VALUES, _QUERY_RESULT):
            match = form.fullmatch(text.strip())
            if match and match["of"]:
                yield Query("dashboard", title, f"${one['name']}", _filled(match["of"], values))


def rules(text: dict[str, Any]) -> Iterator[Query]:
    """The expressions of a file of rules."""
    for group in text["groups"]:
        for rule in group["rules"]:
            kind = "alert" if "alert" in rule else "record"
            yield Query(kind, str(group["name"]), str(rule[kind]), str(rule["expr"]))


def console(name: str, text: str) -> Iterator[Query]:
    """The queries in a console template."""
    for form in _CONSOLES:
        for match in form.finditer(text):
            expr = match[1].replace('\\"', '"').replace("\\\\", "\\")
            yield Query("console", name, expr, expr)


def _panels(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in model.get("panels", []):
        yield panel
        yield from _panels(panel)


def _values(variable: dict[str, Any]) -> list[str]:
    """What a query is tried with: everything at once, each of the options, or the current value."""
    if variable.get("includeAll"):
        return [str(variable.get("allValue") or ".*")]
    if options := [str(one["value"]) for one in variable.get("options", [])]:
        return options
    current = variable.get("current", {}).get("value", "")
    return [str(current[0] if isinstance(current, list) else current) or ".*"]


def _filled(expr: str, values: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = next(group for group in match.groups() if group)
        # What is no variable stays: a dollar may end a regular expression.
        return values.get(name, match[0])

    return _VARIABLE.sub(value, str(expr))
