"""Panels: what is asked, how it is drawn, and the words that explain it to a stranger.

Each function gives a `Panel` of one kind. All of them take the title, a description of one or two
sentences, and what is asked; `unit` is one of Grafana's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; the first begins at `None`."""
PLAIN: Final[Steps] = ((None, "text"),)
GOOD_IF_ZERO: Final[Steps] = ((None, "green"), (1e-9, "red"))


def bad_above(warning: float, critical: float) -> Steps:
    """Green below both, red above both."""
    return ((None, "green"), (warning, "orange"), (critical, "red"))


def good_above(warning: float, good: float) -> Steps:
    """Red below both, green above both."""
    return ((None, "red"), (warning, "orange"), (good, "green"))


@dataclass(frozen=True, slots=True)
class Ask:
    """One query and what its series are called."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel and the room that it takes, in Grafana's grid of 24 columns."""

    builder: _Builder
    width: int
    height: int


def number(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    width: int = 4,
    colours: Steps = PLAIN,
    decimals: int | None = None,
    links: Mapping[str, str] | None = None,
) -> Panel:
    """One number, coloured by `colours`, with its course in the background."""
    panel = (
        stat.Panel()
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return _finished(
        panel, title, description, [Ask(expr)], unit, width, 4, colours, decimals, links
    )


def lines(
    title: str,
    description: str,
    *asks: Ask,
    unit: str,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    limits: Steps = (),
    bottom: float = 0,
    top: float | None = None,
) -> Panel:
    """Series over time; `stacked` where their sum means something, `limits` as dashed lines.

    The axis begins at `bottom` unless something is lower, and ends at `top`.
    """
    panel = (
        timeseries.Panel()
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "max", "lastNotNull"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(common_models.VisibilityMode.AUTO)
        .span_nulls(False)
        .axis_soft_min(bottom)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if limits:
        style = common.GraphThresholdsStyleConfig().mode(
            common_models.GraphThresholdsStyleMode.DASHED
        )
        panel.thresholds_style(style)
    if top is not None:
        panel.max(top)
    return _finished(panel, title, description, asks, unit, width, height, limits or PLAIN)


def bars(
    title: str,
    description: str,
    *asks: Ask,
    unit: str,
    width: int = 12,
    height: int = 8,
    colours: Steps = ((None, "blue"),),
    top: float | None = None,
) -> Panel:
    """One bar a series, for what is compared at one time."""
    panel = (
        bargauge.Panel()
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
    )
    if top is not None:
        panel.max(top)
    return _finished(panel, title, description, _now(asks), unit, width, height, colours)


def states(
    title: str,
    description: str,
    *asks: Ask,
    names: Mapping[str, tuple[str, str]],
    width: int = 12,
    height: int = 8,
) -> Panel:
    """How something stood over time. `names`: each value's name and colour."""
    panel = (
        statetimeline.Panel()
        .show_value(common_models.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .mappings([_named(names)])
    )
    return _finished(panel, title, description, asks, "short", width, height)


def rows(
    title: str,
    description: str,
    *asks: Ask,
    unit: str,
    columns: Mapping[str, str],
    width: int = 12,
    height: int = 8,
    colours: Steps = PLAIN,
    column_units: Mapping[str, str] | None = None,
) -> Panel:
    """A table with one row for each set of labels.

    `columns`: field → its heading, in their order; what is not named is left out. The value of a
    query alone is `Value`, of several `Value #A`, `Value #B`, ….
    """
    organized = {
        "includeByName": dict.fromkeys(columns, True),
        "indexByName": {field: place for place, field in enumerate(columns)},
        "renameByName": dict(columns),
        "excludeByName": {},
    }
    panel = table.Panel()
    if len(asks) > 1:
        panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    panel.with_transformation(models.DataTransformerConfig("organize", options=organized))
    for column, own in (column_units or {}).items():
        panel.override_by_name(column, [models.DynamicConfigValue("unit", own)])
    tables = [
        (ask, prometheus.Dataquery().format(prometheus_models.PromQueryFormat.TABLE))
        for ask in _now(asks)
    ]
    panel.targets([_query(ask, place, query) for place, (ask, query) in enumerate(tables)])
    return _finished(panel, title, description, [], unit, width, height, colours)


_Builder = stat.Panel | timeseries.Panel | bargauge.Panel | statetimeline.Panel | table.Panel


def _finished(
    panel: _Builder,
    title: str,
    description: str,
    asks: Iterable[Ask],
    unit: str,
    width: int,
    height: int,
    colours: Steps = PLAIN,
    decimals: int | None = None,
    links: Mapping[str, str] | None = None,
) -> Panel:
    """What all kinds have in common."""
    panel.title(title).description(description).datasource(DATASOURCE).unit(unit)
    panel.no_value("no data")
    panel.thresholds(
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in colours])
    )
    if isinstance(panel, timeseries.Panel | statetimeline.Panel):
        palette = models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
        panel.color_scheme(dashboard.FieldColor().mode(palette))
    if decimals is not None:
        panel.decimals(decimals)
    if links:
        panel.links(
            [
                dashboard.DashboardLink(name).type(models.DashboardLinkType.LINK).url(url)
                for name, url in links.items()
            ]
        )
    for place, ask in enumerate(asks):
        panel.with_target(_query(ask, place, prometheus.Dataquery()))
    return Panel(panel, width, height)


def _query(ask: Ask, place: int, query: prometheus.Dataquery) -> prometheus.Dataquery:
    query.expr(ask.expr).ref_id(chr(ord("A") + place)).datasource(DATASOURCE)
    if ask.legend:
        query.legend_format(ask.legend)
    return query.instant() if ask.instant else query.range()


def _now(asks: Iterable[Ask]) -> list[Ask]:
    return [Ask(ask.expr, ask.legend, instant=True) for ask in asks]


def _named(names: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap(
        options={
            value: models.ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(names.items())
        }
    )
