"""The dashboards in deploy/grafana: whole, legible, and those that their Python makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import promql_parser
import pytest
from dashboards.board import Board, Row
from dashboards.panels import Panel
from dashboards.write import BOARDS, FOLDER, main, written
from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from watching.queries import dashboard

Json = dict[str, Any]


def committed() -> dict[str, Json]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}


def panels(model: Json) -> Iterator[Json]:
    """Those that show something."""
    return (panel for panel in model["panels"] if panel["type"] != "row")


@pytest.fixture(params=[board.name for board in BOARDS])
def model(request: pytest.FixtureRequest) -> Json:
    return committed()[request.param]


def test_what_is_committed_is_what_the_python_makes() -> None:
    assert main(["--check"]) == 0
    assert committed() == {name[:-5]: json.loads(text) for name, text in written().items()}


def test_a_dashboard_that_is_stale_missing_or_nobodys_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dashboards.write.FOLDER", tmp_path)
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    assert main(["--check"]) == 1
    assert "cloud.json" in (said := capsys.readouterr().err)
    assert "old.json" in said
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert not (tmp_path / "old.json").exists()


def test_it_is_a_dashboard_by_grafanas_own_types(model: Json) -> None:
    for marks in model["annotations"]["list"]:  # Prometheus' own, of which the types know nothing
        del marks["titleFormat"], marks["tagKeys"]
    read = Dashboard.from_json(model)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == model
    ids = [panel["id"] for panel in model["panels"]]
    assert len(set(ids)) == len(ids) > 10
    assert 0 not in ids


def test_panels_fill_the_grid_without_overlap_or_holes(model: Json) -> None:
    taken = [
        {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        for place in (panel["gridPos"] for panel in model["panels"])
    ]
    assert not [one for one, other in combinations(taken, 2) if one & other]
    cells = set().union(*taken)
    assert {x for x, _ in cells} == set(range(24))
    assert len(cells) == 24 * (max(y for _, y in cells) + 1)


def test_every_panel_explains_itself_to_a_stranger(model: Json) -> None:
    titles = [panel["title"] for panel in model["panels"]]
    rows = [panel["title"] for panel in model["panels"] if panel["type"] == "row"]
    assert all(titles)
    assert len(set(rows)) == len(rows) > 1
    for panel in panels(model):
        assert len(panel["description"].split()) > 5, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] in {"timeseries", "bargauge", "state-timeline"}:
            assert all(target.get("legendFormat") for target in panel["targets"]), panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"]


def test_every_query_can_be_read_and_goes_to_the_chosen_data_source(model: Json) -> None:
    asked = list(dashboard(model))
    assert len(asked) > len(list(panels(model)))
    for query in asked:
        assert "$" not in query.expr, query
        promql_parser.parse(query.expr)
    for panel in panels(model):
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_what_can_be_chosen_is_used_and_explained(model: Json) -> None:
    variables = model["templating"]["list"]
    assert (variables[0]["type"], variables[0]["query"]) == ("datasource", "prometheus")
    shown = json.dumps([panel.get("targets") for panel in model["panels"]])
    for variable in variables:
        assert variable["label"]
        assert variable["description"].endswith(".")
        assert f"${variable['name']}" in shown or f"${{{variable['name']}}}" in shown


def test_dashboards_lead_to_each_other_and_to_the_runbooks(model: Json) -> None:
    others, runbooks = model["links"]
    assert (others["type"], others["tags"], others["includeVars"]) == (
        "dashboards",
        model["tags"],
        True,
    )
    assert runbooks["url"].endswith("/runbooks/index.html")
    assert model["uid"].startswith("isthmus-")


def test_graphs_are_marked_while_alerts_fire(model: Json) -> None:
    (marks,) = model["annotations"]["list"]
    assert marks["enable"]
    assert marks["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert "ALERTS" in str(promql_parser.parse(marks["expr"]))
    assert marks["titleFormat"] == "{{alertname}}"
    assert {"severity", "instance"} < set(marks["tagKeys"].split(","))


def test_the_rows_of_a_table_can_be_merged_by_their_labels(model: Json) -> None:
    """A selector alone brings its metric's name along, in which the rows of two would differ."""
    for panel in panels(model):
        if panel["type"] == "table" and len(panel["targets"]) > 1:
            for query in dashboard({**model, "panels": [panel]}):
                if query.title == panel["title"]:
                    assert re.match(r"[\d* ]*\w+ by \(", query.expr), query.expr


def test_a_row_with_a_hole_is_refused() -> None:
    half = Panel(stat.Panel(), 12, 4)
    board = Board("x", "X", "", [], [Row("half", [half])])
    with pytest.raises(ValueError, match="half"):
        board.build()
