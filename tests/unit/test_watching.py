"""What is watched is read from where it is made: registries, dashboards, rules and consoles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from watching.alarms import compared
from watching.check import Quiet, metric_findings, quiet_findings
from watching.exported import Metric, exported
from watching.page import page, users
from watching.queries import Query, console, dashboard, rules
from watching.vllm import RECORDED, grown

REQUESTS = Metric("agent", "isthmus_edge_requests", "counter", ("route",), "Requests.")


def queries(*exprs: str) -> list[Query]:
    return [Query("dashboard", "Overview", "a panel", expr) for expr in exprs]


def test_optional_parts_of_the_program_are_exported_too() -> None:
    found = {one.shown: one for one in exported()}
    assert found["isthmus_cloud_certificate_expires_in_seconds"].labels == ("certificate",)
    assert found["isthmus_cloud_upstream_addresses"].labels == ("upstream", "state")
    assert found["isthmus_edge_budget_limit_usd"].unit == "US dollars"
    assert found["isthmus_edge_info"].labels[:2] == ("version", "model")
    assert found["isthmus_fleet_requests_total"].where == "fleet"


def test_a_panels_query_has_the_dashboards_variables_filled_in() -> None:
    model = {
        "title": "Cost",
        "templating": {
            "list": [
                {
                    "name": "tenant",
                    "includeAll": True,
                    "query": {"query": "label_values(spent_total, tenant)"},
                },
                {"name": "slo", "current": {"value": ["2.0"]}},
                {"name": "of", "options": [{"value": "edge"}, {"value": "fleet"}]},
            ]
        },
        "panels": [
            {"title": "z", "targets": [{"expr": "${of}_total"}]},
            {"title": "row", "panels": [{"title": "x", "targets": [{"expr": 'a{le="$slo"}'}]}]},
            {
                "title": "y",
                "targets": [{"expr": 'rate(b{t=~"${tenant:regex}",n=~"c$"}[$__rate_interval])'}],
            },
        ],
    }
    assert {(query.title, query.expr) for query in dashboard(model)} == {
        ("x", 'a{le="2.0"}'),
        ("y", 'rate(b{t=~".*",n=~"c$"}[5m])'),
        ("z", "edge_total"),
        ("z", "fleet_total"),
        ("$tenant", "spent_total"),
    }


def test_rules_and_consoles_are_queries_too() -> None:
    group = {
        "name": "g",
        "rules": [{"alert": "A", "expr": "up == 0"}, {"record": "r", "expr": "1"}],
    }
    assert [(one.kind, one.title) for one in rules({"groups": [group]})] == [
        ("alert", "A"),
        ("record", "r"),
    ]
    text = '{{ with query "sum(a{b=\\"c\\"})" }}{{ end }} <script>g({expr: "rate(d[5m])"})</script>'
    assert [one.expr for one in console("fleet", text)] == ['sum(a{b="c"})', "rate(d[5m])"]


def test_a_metric_tells_who_asks_for_any_of_its_series() -> None:
    timed = Metric("agent", "t_seconds", "histogram", (), "")
    asked = [
        *queries("sum(rate(t_seconds_bucket[5m]))"),
        Query("alert", "slo", "TooSlow", "t_seconds_sum / t_seconds_count > 2"),
        Query("alert", "slo", "Other", "t_seconds_more > 2"),
    ]
    assert users(timed, asked) == ["Overview (dashboard)", "`TooSlow`"]


def test_the_page_has_an_item_for_each_metric_and_the_foreign_ones_that_are_asked_for() -> None:
    text = page(
        [REQUESTS], queries("isthmus_edge_requests_total", "vllm:kv_cache_usage_perc > 0.9")
    )
    assert (
        "- `isthmus_edge_requests_total`: counter, requests, by `route`.\n  Requests.\n"
        "  *Asked for by Overview (dashboard).*\n" in text
    )
    assert "- `vllm:kv_cache_usage_perc`" in text


@pytest.mark.parametrize(
    ("expr", "parts"),
    [
        ("rate(a[5m]) / 3 > 0.1", ("rate(a[5m]) / 3",)),
        ("(a > 1) and on() b / c < 2", ("a", "b / c")),
        ('absent(up{job="x"} == 1)', ('up{job="x"}',)),
        ("absent_over_time(a[5m]) or b", ("a", "b")),
        ("sum by (x) (rate(a[5m]) > 0 or (b > 0 unless b offset 1h))", ("rate(a[5m])", "b")),
        ("time() - a > 14 * 60", ("time() - a", "14 * 60")),
    ],
)
def test_an_alert_is_asked_for_what_it_compares(expr: str, parts: tuple[str, ...]) -> None:
    assert tuple(part.replace("{}", "") for part in compared(expr)) == parts


def test_the_recording_of_vllm_goes_on_counting_and_its_gauges_stay() -> None:
    page = RECORDED.read_text(encoding="utf-8")
    before, after = (dict(_samples(grown(page, times))) for times in (1, 3))
    for name, times in (
        ("generation_tokens_total", 3),
        ("iteration_tokens_total_count", 3),
        ("kv_cache_usage_perc", 1),
    ):
        series = f'vllm:{name}{{engine="0",model_name="smollm2-135m"}}'
        assert after[series] == before[series] * times > 0


def _samples(page: str) -> Iterator[tuple[str, float]]:
    for line in page.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            yield series, float(value)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: check-dashboards")
def test_a_query_that_is_quiet_in_good_health_is_heard_when_its_condition_holds() -> None:
    heard = Quiet("sum(a_total) > 0", "should never be", ("a_total 0+1x60",))
    unheard = Quiet("sum(a_total) > 99", "should never be", ("a_total 0+1x60",))
    gone = Quiet("b > 1", "should never be", ())
    asked = queries(heard.expr, unheard.expr)
    found = [one.problem for one in quiet_findings([heard, unheard, gone], asked)]
    assert len(found) == 2
    assert found[0].startswith("sum(a_total) > 99: returns nothing")
    assert found[1] == "nobody asks this any more: b > 1"


def test_what_is_exported_and_not_documented_is_found() -> None:
    found = [*metric_findings({"isthmus_edge_requests_total", "isthmus_edge_secret_total", "up"})]
    [one] = found
    assert one.problem == "isthmus_edge_secret_total is exported and not documented"
