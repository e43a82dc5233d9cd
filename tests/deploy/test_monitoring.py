"""What is deployed watches what is measured."""

from __future__ import annotations

import json
import re
import typing

import promql_parser
import yaml
from watching.exported import exported

from deploy_manifests import (
    DEPLOY,
)


def test_rules_triggers_and_dashboards_ask_for_metrics_that_there_are(manifests):
    known = {series for metric in exported() for series in metric.series}
    name = r"(?:isthmus_(?:cloud|edge|fleet)|gen_ai_(?:client|server))_\w+"
    assert set(re.findall(name, yaml.safe_dump(manifests, width=10_000))) <= known


def rules_of(manifests) -> list[dict[str, typing.Any]]:
    found = [one for one in manifests if one["kind"] == "PrometheusRule"]
    return [rule for one in found for group in one["spec"]["groups"] for rule in group["rules"]]


def test_a_releases_rules_ask_for_what_is_in_its_own_namespace(manifests):
    for rule in rules_of(manifests):
        asked = list(selectors(promql_parser.parse(rule["expr"])))
        assert asked or rule["expr"].startswith("vector(")
        for selector in asked:
            assert 'namespace="isthmus"' in selector, (selector, rule)
        if "record" in rule:
            assert rule["labels"]["namespace"] == "isthmus"


def selectors(node: typing.Any) -> typing.Iterator[str]:
    """The vector selectors of a query."""
    match node:
        case promql_parser.VectorSelector():
            yield str(node)
        case promql_parser.MatrixSelector():
            yield str(node.vector_selector)
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs)
            yield from selectors(node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from selectors(node.expr)


def test_the_charts_rules_are_those_of_prometheus_beside_it(manifests):
    if not rules_of(manifests):
        return
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
    beside = [
        rule
        for file in files
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    names = [rule.get("alert") or rule["record"] for rule in beside]
    assert [rule.get("alert") or rule["record"] for rule in rules_of(manifests)] == names


def test_the_scraped_jobs_have_the_names_that_rules_ask_for(manifests):
    jobs = {
        relabeling["replacement"]
        for one in manifests
        if one["kind"] == "ServiceMonitor"
        for endpoint in one["spec"]["endpoints"]
        for relabeling in endpoint["relabelings"]
    }
    assert jobs <= {"isthmus-gateway", "vllm"}
    text = (DEPLOY / "compose" / "prometheus.yml").read_text(encoding="utf-8")
    found = {job["job_name"] for job in yaml.safe_load(text)["scrape_configs"]}
    assert found == {"isthmus-gateway", "isthmus-agent", "vllm"}


def test_grafana_finds_every_dashboard(manifests):
    maps = [
        one
        for one in manifests
        if one["kind"] == "ConfigMap" and "grafana_dashboard" in one["metadata"]["labels"]
    ]
    if not rules_of(manifests):
        assert not maps
        return
    found = {
        json.loads(text)["uid"]: len(text.encode()) for one in maps for text in one["data"].values()
    }
    assert set(found) == {f"isthmus-{path.stem}" for path in (DEPLOY / "grafana").glob("*.json")}
    assert max(found.values()) < 1_000_000
