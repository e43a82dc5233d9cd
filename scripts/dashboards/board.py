"""A dashboard: rows of panels in a grid without holes, variables, and links to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import DATASOURCE, Panel
from dashboards.variables import Variable, datasource

WIDTH: Final = 24
TAG: Final = "isthmus"
DOCS: Final = "https://isthmus.example"
"""Stands for where the pages of docs/ are read, here and in the alerts of deploy/prometheus/rules:
the chart puts `monitoring.docs` in its place."""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, from left to right and then down."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. `name` is its file's and, after `isthmus-`, its uid."""

    name: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]

    def build(self) -> models.Dashboard:
        """Grafana's model of it. Raises `ValueError` for a row with holes."""
        built = (
            dashboard.Dashboard(f"Isthmus / {self.title}")
            .uid(f"isthmus-{self.name}")
            .description(self.description)
            .tags([TAG])
            .time("now-6h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .readonly()
            .link(
                dashboard.DashboardLink("Dashboards")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .include_vars(True)
                .keep_time(True)
            )
            .link(
                dashboard.DashboardLink("Runbooks")
                .type(models.DashboardLinkType.LINK)
                .icon("doc")
                .tooltip("What each alert means and what to do")
                .url(f"{DOCS}/runbooks/index.html")
                .target_blank(True)
            )
            .with_variable(datasource())
            .annotation(_Alerts())
        )
        for variable in self.variables:
            built.with_variable(variable)
        y = 0
        ids = count(1)
        for row in self.rows:
            place = models.GridPos(1, WIDTH, 0, y)
            built.with_row(dashboard.Row(row.title).grid_pos(place).id(next(ids)))
            y += 1
            for line in _packed(row):
                x = 0
                for panel in line:
                    place = models.GridPos(panel.height, panel.width, x, y)
                    built.with_panel(panel.builder.grid_pos(place).id(next(ids)))
                    x += panel.width
                y += line[0].height
        return built.build()


def _packed(row: Row) -> list[list[Panel]]:
    """The panels in lines that are full, of one height each."""
    lines: list[list[Panel]] = [[]]
    for panel in row.panels:
        if sum(one.width for one in lines[-1]) == WIDTH:
            lines.append([])
        lines[-1].append(panel)
    for line in lines:
        if sum(one.width for one in line) != WIDTH or len({one.height for one in line}) != 1:
            raise ValueError(f"{row.title}: {[(one.width, one.height) for one in line]}")
    return lines


class _Marks(models.AnnotationQuery):
    """What a mark says when somebody points at it, of which the SDK knows nothing.

    A label that an alert lacks is left out of the tags; in a text Grafana would print its name.
    """

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {
            "titleFormat": "{{alertname}}",
            "tagKeys": "severity,slo,instance,tenant,device_class",
        }


class _Alerts(Builder[models.AnnotationQuery]):
    """Marks on every graph from when to when alerts fired."""

    def build(self) -> models.AnnotationQuery:
        return _Marks(
            name="Alerts of Isthmus",
            datasource=DATASOURCE,
            icon_color="red",
            expr='ALERTS{alertname=~"Isthmus.*",alertstate="firing"}',
        )
