"""Edge fleet: which devices there are, what they run, how they are, and who has fallen silent."""

from __future__ import annotations

from typing import Final

from dashboards.asked import AGENT, or_zero, quantile
from dashboards.board import DOCS, Board, Row
from dashboards.panels import GOOD_IF_ZERO, Ask, bad_above, bars, lines, number, rows, states
from dashboards.variables import AGENTS, CLASSES

_CLASS: Final = 'device_class=~"$device_class"'
_LAST: Final = f"isthmus_fleet_last_report_timestamp_seconds{{{_CLASS}}}"

GLANCE: Final = Row(
    "At a glance",
    [
        number(
            "Devices",
            "Devices that are enrolled and were seen at least once.",
            f"sum(max by (device_class, seen) (isthmus_fleet_devices{{{_CLASS}}}))",
            unit="short",
        ),
        number(
            "Since the last report",
            "How long ago the last report of any device came in.",
            f"time() - max({_LAST})",
            unit="s",
            colours=bad_above(900, 3600),
            links={"Runbook": f"{DOCS}/runbooks/IsthmusTelemetryGap.html"},
        ),
        number(
            "Reports",
            "Requests a second that devices reported.",
            f"sum(rate(isthmus_fleet_requests_total{{{_CLASS}}}[$__rate_interval]))",
            unit="reqps",
        ),
        number(
            "Failed on devices",
            "Share of reported requests that ended with an error.",
            or_zero(
                f'sum(rate(isthmus_fleet_requests_total{{{_CLASS},status="failed"}}'
                "[$__rate_interval])) "
                f"/ sum(rate(isthmus_fleet_requests_total{{{_CLASS}}}[$__rate_interval]))"
            ),
            unit="percentunit",
            colours=bad_above(0.01, 0.05),
        ),
        number(
            "First token, 95th percentile",
            "One answer in twenty begins later than this, on the devices that report.",
            quantile(0.95, "isthmus_fleet_time_to_first_token_seconds", _CLASS),
            unit="s",
            colours=bad_above(1, 2),
        ),
        number(
            "Rows lost",
            "Outcomes that devices dropped unsent, ever: their spool was full, or they were too "
            "old.",
            "max(isthmus_fleet_dropped_rows)",
            unit="short",
            colours=bad_above(1, 1000),
        ),
    ],
)

WHO: Final = Row(
    "Which devices",
    [
        lines(
            "By class and when last seen",
            "Devices by what they call their class, and by how long ago they were last seen.",
            Ask(
                f"max by (device_class, seen) (isthmus_fleet_devices{{{_CLASS}}})",
                "{{device_class}}: {{seen}}",
            ),
            unit="short",
            width=8,
            stacked=True,
        ),
        bars(
            "Software",
            "Devices by the version of their software.",
            Ask("sort_desc(max by (software) (isthmus_fleet_software_devices))", "{{software}}"),
            unit="short",
            width=8,
        ),
        bars(
            "Backends",
            "Devices by what computes their answers.",
            Ask("sort_desc(max by (backend) (isthmus_fleet_backend_devices))", "{{backend}}"),
            unit="short",
            width=8,
        ),
        rows(
            "Last report of each class",
            "When a device of each class last reported, to any gateway.",
            Ask(f"1000 * max by (device_class) ({_LAST})"),
            unit="dateTimeFromNow",
            columns={"device_class": "Device class", "Value": "Last report"},
            width=8,
        ),
        bars(
            "Bundles",
            "Devices by the operator's bundle that they run, and what became of the one that they"
            " tried last.",
            Ask(
                "sort_desc(max by (tenant, sequence, state) (isthmus_fleet_bundle_devices))",
                "{{tenant}} {{sequence}}: {{state}}",
            ),
            Ask("max by (tenant) (isthmus_fleet_bundle_latest)", "{{tenant}} latest sequence"),
            unit="short",
            width=8,
        ),
        lines(
            "Requests by model",
            "Requests a second by the model that answered and where.",
            Ask(
                "sum by (model, route) "
                "(rate(isthmus_fleet_model_requests_total[$__rate_interval]))",
                "{{route}}: {{model}}",
            ),
            unit="reqps",
            width=8,
        ),
    ],
)

CONDITION: Final = Row(
    "How devices are",
    [
        lines(
            "Battery",
            "Devices by the state of their battery.",
            Ask(
                "sum by (battery) (max by (battery, device_class) "
                f"(isthmus_fleet_battery_devices{{{_CLASS}}}))",
                "{{battery}}",
            ),
            unit="short",
            width=8,
            stacked=True,
        ),
        lines(
            "Heat",
            "Devices by their heat. Hot ones answer slower, and more of their requests go to the "
            "cloud.",
            Ask(
                "sum by (heat) (max by (heat, device_class) "
                f"(isthmus_fleet_heat_devices{{{_CLASS}}}))",
                "{{heat}}",
            ),
            unit="short",
            width=8,
            stacked=True,
        ),
        lines(
            "Offline before",
            "Devices by how long they had reached no gateway before they came last.",
            Ask("max by (offline) (isthmus_fleet_offline_devices)", "{{offline}}"),
            unit="short",
            width=8,
            stacked=True,
        ),
        lines(
            "Errors on devices",
            "Requests a second that met an error, by kind and tier.",
            Ask(
                or_zero(
                    f"sum by (kind, route) (rate(isthmus_fleet_errors_total{{{_CLASS}}}"
                    "[$__rate_interval]))"
                ),
                "{{route}}: {{kind}}",
            ),
            unit="reqps",
        ),
        lines(
            "Time per token by class, 95th percentile",
            "Time per output token after the first, on devices that report, by class and tier.",
            Ask(
                quantile(
                    0.95,
                    "isthmus_fleet_time_per_output_token_seconds",
                    _CLASS,
                    "device_class",
                    "route",
                ),
                "{{device_class}}: {{route}}",
            ),
            unit="s",
        ),
    ],
)

LATENCY: Final = Row(
    "How fast devices answer",
    [
        lines(
            "Whole answers of the fleet, 95th percentile",
            "From a request's arrival at its device to the end of its answer, on devices that "
            "report, by tier.",
            Ask(
                quantile(0.95, "isthmus_fleet_request_duration_seconds", _CLASS, "route"),
                "{{route}}",
            ),
            unit="s",
            width=6,
        ),
        lines(
            "Whole answers of agents, 95th percentile",
            "The same on agents that are scraped.",
            Ask(
                quantile(0.95, "gen_ai_client_inference_duration_seconds", AGENT, "route"),
                "{{route}}",
            ),
            unit="s",
            width=6,
        ),
        lines(
            "Between pieces, 95th percentile",
            "Between two pieces of an answer that a tier wrote one after the other, on agents.",
            Ask(
                quantile(
                    0.95, "gen_ai_client_inference_time_per_output_chunk_seconds", AGENT, "route"
                ),
                "{{route}}",
            ),
            unit="s",
            width=6,
        ),
        lines(
            "Time for each token, median",
            "Mean time per token of an answer after its first, on agents, by tier.",
            Ask(
                quantile(0.5, "isthmus_edge_time_per_output_token_seconds", AGENT, "route"),
                "{{route}}",
            ),
            unit="s",
            width=6,
        ),
    ],
)

AGENTS_ROW: Final = Row(
    "Agents that Prometheus scrapes",
    [
        rows(
            "What they run",
            "Version, model and backends of each agent.",
            Ask(f"isthmus_edge_info{{{AGENT}}}"),
            unit="short",
            columns={
                "instance": "Agent",
                "version": "Version",
                "model": "Model",
                "prefill_backend": "Reads with",
                "decode_backend": "Writes with",
            },
        ),
        lines(
            "Requests at each agent",
            "Requests being answered, by place, and waiting, by queue.",
            Ask(f"isthmus_edge_running_requests{{{AGENT}}}", "{{instance}} in {{place}}"),
            Ask(f"isthmus_edge_queue_length{{{AGENT}}}", "{{instance}} waiting: {{queue}}"),
            unit="short",
        ),
        lines(
            "Battery",
            "How full each agent's battery is. Without a battery there is nothing to show.",
            Ask(f"isthmus_edge_battery_ratio{{{AGENT}}}", "{{instance}}"),
            unit="percentunit",
            width=6,
            top=1,
        ),
        lines(
            "Heat",
            "How hot the parts of each device are.",
            Ask(f"isthmus_edge_temperature_celsius{{{AGENT}}}", "{{instance}} {{part}}"),
            unit="celsius",
            width=6,
        ),
        states(
            "Held back",
            "Whether the device's processor is held back, mostly for heat.",
            Ask(f"isthmus_edge_throttled{{{AGENT}}}", "{{instance}}"),
            names={"0": ("at full speed", "green"), "1": ("held back", "orange")},
            width=6,
        ),
        states(
            "Model",
            "Whether the device's model is loaded. Without it every request goes to the cloud.",
            Ask(f"isthmus_edge_model_ready{{{AGENT}}}", "{{instance}}"),
            names={"0": ("not ready", "red"), "1": ("ready", "green")},
            width=6,
        ),
        lines(
            "Offline",
            "How long an agent of a fleet has reached no gateway.",
            Ask(f"isthmus_edge_offline_seconds{{{AGENT}}}", "{{instance}}"),
            unit="s",
            width=6,
            limits=bad_above(600, 3600),
        ),
        lines(
            "Outcomes that wait",
            "Rows that wait on the device for the gateway to take them.",
            Ask(f"isthmus_edge_spool_rows{{{AGENT}}}", "{{instance}}"),
            unit="short",
            width=6,
        ),
        lines(
            "Oldest that waits",
            "How long the oldest of those rows waits.",
            Ask(f"isthmus_edge_spool_age_seconds{{{AGENT}}}", "{{instance}}"),
            unit="s",
            width=6,
        ),
        lines(
            "Changes of backend",
            "Changes of what computes a device's answers, by why: 5 minutes each.",
            Ask(
                or_zero(
                    "sum by (instance, from_backend, to_backend, reason) "
                    f"(increase(isthmus_edge_backend_fallbacks_total{{{AGENT}}}[5m]))"
                ),
                "{{instance}} {{from_backend}} to {{to_backend}}: {{reason}}",
            ),
            unit="short",
            width=6,
        ),
        rows(
            "Bundle in use",
            "The number of the operator's bundle that each agent uses, 0 for none, and what "
            "became of the one that it tried last.",
            # By labels of their own: rows that differ in one, a metric's name too, are not merged.
            Ask(f"max by (instance) (isthmus_edge_bundle_sequence{{{AGENT}}})"),
            Ask(f"max by (instance, state) (isthmus_edge_bundle_state{{{AGENT}}}) == 1"),
            unit="short",
            columns={"instance": "Agent", "Value #A": "Bundle", "state": "Tried last"},
            width=6,
        ),
        rows(
            "Trained router in use",
            "The version of the trained file that each agent decides with.",
            Ask(f"isthmus_edge_trained_file_info{{{AGENT}}} == 1"),
            unit="short",
            columns={"instance": "Agent", "version": "Version"},
            width=6,
        ),
        lines(
            "Lost on the device",
            "Outcomes that the device's own ledger could not store, and rows that were dropped "
            "unsent.",
            Ask(f"isthmus_edge_ledger_lost_rows_total{{{AGENT}}}", "{{instance}} not stored"),
            Ask(f"isthmus_edge_spool_dropped_rows{{{AGENT}}}", "{{instance}} dropped unsent"),
            unit="short",
            width=6,
            limits=GOOD_IF_ZERO,
        ),
        lines(
            "Memory of the process",
            "Resident memory of each agent's process, its model included, by the operating system.",
            Ask(f'process_resident_memory_bytes{{job="isthmus-agent",{AGENT}}}', "{{instance}}"),
            unit="bytes",
            width=6,
        ),
    ],
)

BOARD: Final = Board(
    "fleet",
    "Edge fleet",
    "Which devices there are, what they run, how they are, and who has fallen silent. A device's "
    "name is in no metric: `isthmus cloud devices` lists them.",
    [CLASSES, AGENTS],
    [GLANCE, WHO, CONDITION, LATENCY, AGENTS_ROW],
)
