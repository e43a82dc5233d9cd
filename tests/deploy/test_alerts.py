"""Every alert has a page that tells what to do, and tests of when it fires and when it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql
import yaml
from dashboards.board import DOCS
from dashboards.write import FOLDER

from deploy_manifests import DEPLOY, ROOT

RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def cases() -> Iterator[dict[str, Any]]:
    for path in TESTS:
        yield from yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]


def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on() -> None:
    assert len(alerts()) > 10
    for alert in alerts():
        name = alert["alert"]
        assert name.startswith("Isthmus")
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"{DOCS}/runbooks/{name}.html"
        assert alert["annotations"]["summary"].endswith(".")


def test_an_alert_names_nobody() -> None:
    """Labels of metrics hold no user, device or text; what a message shows is among these."""
    shown = set(
        re.findall(r"\$labels\.(\w+)", json.dumps([one["annotations"] for one in alerts()]))
    )
    assert shown == {
        "certificate",
        "device_class",
        "instance",
        "job",
        "label",
        "period",
        "privacy_class",
        "slo",
        "tenant",
    }


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("Isthmus*.md")}
    assert set(pages) == {alert["alert"] for alert in alerts()}
    for name, text in pages.items():
        headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
        assert headings == [
            name,
            "What it means",
            "How to look",
            "What to do",
            "How to silence it",
        ]
        assert f"alertname={name}" in text


def test_the_list_of_runbooks_is_whole() -> None:
    text = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", text, flags=re.M))
    assert listed == {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}


def test_runbooks_name_panels_that_there_are() -> None:
    titles = {
        json.loads(path.read_text(encoding="utf-8"))["title"].removeprefix("Isthmus / "): {
            panel["title"] for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        }
        for path in FOLDER.glob("*.json")
    }
    for path in RUNBOOKS.glob("Isthmus*.md"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        for board, rest in re.findall(r"\*(\w[\w ]+)\*((?:, (?:row )?\"[^\"]+\"(?: and)?)*)", text):
            if board not in titles:
                assert board.startswith("Status"), f"{path.stem}: {board}"
                continue
            for panel in re.findall(r'"([^"]+)"', rest):
                assert panel in titles[board], f"{path.stem}: {board}, {panel}"


def test_each_alert_is_tested_firing_and_not_firing() -> None:
    found: dict[tuple[str, bool], int] = {}
    for test in cases():
        for one in test.get("alert_rule_test", []):
            assert test["name"].startswith(one["alertname"])
            fires = bool(one["exp_alerts"])
            assert (" fires " in test["name"]) == fires, test["name"]
            found[one["alertname"], fires] = found.get((one["alertname"], fires), 0) + 1
    assert set(found) == {(alert["alert"], fires) for alert in alerts() for fires in (True, False)}


def test_rules_are_told_where_to_look_by_the_job_first() -> None:
    """The chart puts the namespace before it (monitoring.yaml)."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        expr = re.sub(r'"[^"]*"', '""', rule["expr"])
        for name, labels in re.findall(r"([a-zA-Z_:]+)(\{[^}]*\})?", expr):
            if re.match(r"(isthmus_|gen_ai_|vllm:|up$)", name) and name not in recorded:
                assert labels.startswith("{job="), f"{name}: {rule}"
        promql.parse(rule["expr"])
