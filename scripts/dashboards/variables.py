"""What a reader of a dashboard may choose: the data source, and whose figures are shown."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import DATASOURCE

Variable = dashboard.QueryVariable | dashboard.DatasourceVariable


_EDGE: Final = models.VariableOption(text="edge", value="isthmus_edge")
_FLEET: Final = models.VariableOption(text="fleet", value="isthmus_fleet")


def asked_of(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    """A variable whose values come from the data source by `query`."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def choice(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    """A variable of which several values, or all, may be chosen."""
    return (
        asked_of(name, label, description, query)
        .include_all(True)
        .all_value(".*")
        .multi(True)
        .current(models.VariableOption(text="All", value="$__all"))
    )


def source() -> dashboard.QueryVariable:
    """Who tells: what there is of the agents that are scraped and the reports of a fleet."""
    return (
        asked_of(
            "source",
            "Source",
            "edge: agents that Prometheus scrapes. fleet: what devices report to the gateway.",
            "metrics(isthmus_(edge|fleet)_requests_total)",
        )
        .regex("/^(?<value>isthmus_(?<text>edge|fleet))_requests_total$/")
        .include_all(False)
        .multi(False)
        # Grafana asks for them anew; what checks the queries tries both.
        .options([_EDGE, _FLEET])
        .current(_EDGE)
    )


SYSTEM: Final = choice(
    "instance",
    "Instance",
    "Who tells of requests: an agent, or the gateway that devices report to.",
    "label_values(${source}_requests_total, instance)",
)
AGENTS: Final = choice(
    "agent",
    "Agent",
    "Agents that Prometheus scrapes.",
    "label_values(isthmus_edge_info, instance)",
)
GATEWAYS: Final = choice(
    "gateway",
    "Gateway",
    "Gateways that Prometheus scrapes.",
    "label_values(isthmus_cloud_info, instance)",
)
TENANTS: Final = choice(
    "tenant",
    "Tenant",
    "Who is charged, as the gateway's tokens and certificates name them.",
    "label_values(isthmus_cloud_spent_micro_usd_total, tenant)",
)
CLASSES: Final = choice(
    "device_class",
    "Device class",
    "Kinds of devices, as they name themselves.",
    "label_values(isthmus_fleet_devices, device_class)",
)
SERVERS: Final = choice(
    "vllm",
    "vLLM",
    "vLLM servers that Prometheus scrapes, or gateways that run vLLM inside.",
    "label_values(vllm:num_requests_running, instance)",
)


def datasource() -> dashboard.DatasourceVariable:
    return (
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes Isthmus.")
        .type("prometheus")
        .current(models.VariableOption(text="default", value="default"))
    )
