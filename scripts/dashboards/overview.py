"""Overview: where answers are made, whether promises hold, what it costs, what stayed private."""

from __future__ import annotations

from typing import Final

from dashboards import asked
from dashboards.board import DOCS, Board, Row
from dashboards.panels import (
    GOOD_IF_ZERO,
    Ask,
    bad_above,
    bars,
    good_above,
    lines,
    number,
    rows,
    states,
)
from dashboards.variables import SYSTEM, source

_INSTANCE: Final = 'instance=~"$instance"'
_ANSWERED: Final = f'{_INSTANCE},status!="refused"'
_REQUESTS: Final = "${source}_requests_total"
_SPENT: Final = asked.per_second("${source}_price_spent_usd_total", _INSTANCE)
_SAVED: Final = asked.per_second("${source}_price_saved_usd_total", _INSTANCE)

GLANCE: Final = Row(
    "At a glance",
    [
        number(
            "Answered on the device",
            "Share of requests that devices answered themselves, of all that were answered or "
            "tried. The rest went to the cloud.",
            asked.share(_REQUESTS, _ANSWERED, 'route="edge"'),
            unit="percentunit",
            width=3,
        ),
        number(
            "Requests",
            "Requests a second, answered by either tier.",
            asked.per_second(_REQUESTS, _ANSWERED),
            unit="reqps",
            width=3,
        ),
        number(
            "Promises kept",
            "The worst of the service level objectives over the last hour, as the share of "
            "requests that kept it divided by the share that is promised: 100 % and more is kept.",
            "min((1 - isthmus:slo_errors:ratio_rate1h) / on (namespace, slo) (1 - "
            "isthmus:slo_budget:ratio))",
            unit="percentunit",
            width=3,
            colours=good_above(0.98, 1.0),
            links={"What is promised": f"{DOCS}/dashboards.html"},
        ),
        number(
            "Paid to the cloud",
            "Dollars paid for cloud answers in the chosen range of time, as devices reckon them.",
            asked.gained("${source}_price_spent_usd_total", _INSTANCE),
            unit="currencyUSD",
            width=3,
        ),
        number(
            "Saved against all-cloud",
            "What the cloud would have cost for the answers that devices gave, in the chosen "
            "range.",
            asked.gained("${source}_price_saved_usd_total", _INSTANCE),
            unit="currencyUSD",
            width=3,
        ),
        number(
            "Sensitive and sent",
            "Requests with content that must stay on the device and that the cloud answered, in "
            "the chosen range. Must be 0: anything else is an incident.",
            "sum(increase(isthmus_fleet_privacy_requests_total"
            '{privacy_class=~"sensitive|unknown",route="cloud"}[$__range]))',
            unit="short",
            width=3,
            colours=GOOD_IF_ZERO,
            links={"Runbook": f"{DOCS}/runbooks/IsthmusPrivacyEgress.html"},
        ),
        number(
            "Alerts firing",
            "Alerts of Isthmus that fire now. The table below names them.",
            asked.or_zero('count(ALERTS{alertname=~"Isthmus.*",alertstate="firing"})'),
            unit="short",
            width=3,
            colours=bad_above(1, 3),
            links={"Runbooks": f"{DOCS}/runbooks/index.html"},
        ),
        number(
            "Parts that answer Prometheus",
            "Share of agents, gateways and vLLM servers that could be scraped the last time.",
            'avg(up{job=~"isthmus-.*|vllm"})',
            unit="percentunit",
            width=3,
            colours=good_above(0.9, 1.0),
        ),
    ],
)

SPLIT: Final = Row(
    "Where answers are made",
    [
        lines(
            "Requests by tier",
            "Requests a second by who answered: the device (edge) or the cloud.",
            Ask(asked.per_second(_REQUESTS, _ANSWERED, "route"), "{{route}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Time to the first token, 95th percentile",
            "One answer in twenty begins later than this, measured on the device from the "
            "request's arrival: as the fleet reports it, or else on the agents that are scraped.",
            Ask(
                asked.quantile(0.95, "isthmus_fleet_time_to_first_token_seconds", "", "route")
                + " or "
                + asked.quantile(
                    0.95, "gen_ai_client_inference_time_to_first_chunk_seconds", "", "route"
                ),
                "{{route}}",
            ),
            unit="s",
        ),
    ],
)

PROMISES: Final = Row(
    "Whether promises hold",
    [
        lines(
            "Attainment of each objective",
            "Share of requests of the last hour that kept each promise: answered without an "
            "error, and begun in time, on devices and at the gateway.",
            Ask("1 - isthmus:slo_errors:ratio_rate1h", "{{namespace}} {{slo}}"),
            unit="percentunit",
            bottom=0.9,
            top=1,
        ),
        lines(
            "How fast error budgets burn",
            "How many times faster than affordable requests break each promise, over an hour. At "
            "1 the budget of 30 days lasts 30 days, at 14.4 two days: that pages somebody.",
            Ask(
                "isthmus:slo_errors:ratio_rate1h / on (namespace, slo) isthmus:slo_budget:ratio",
                "{{namespace}} {{slo}}",
            ),
            unit="short",
            limits=bad_above(1, 14.4),
        ),
    ],
)

MONEY: Final = Row(
    "What it costs",
    [
        lines(
            "Spending against all-cloud",
            "Dollars an hour: what is paid, and what would be paid if the cloud answered "
            "everything.",
            Ask(f"3600 * {_SPENT}", "paid"),
            Ask(f"3600 * ({_SPENT} + {_SAVED})", "all in the cloud"),
            unit="currencyUSD",
        ),
        bars(
            "Budgets of agents used up",
            "Share of each agent's own budget that is spent or set aside, by period. Agents "
            "without a budget are not shown.",
            Ask(
                "max by (period) (isthmus_edge_budget_spent_usd / isthmus_edge_budget_limit_usd)",
                "{{period}}",
            ),
            unit="percentunit",
            colours=bad_above(0.8, 1.0),
            top=1,
        ),
    ],
)

PRIVACY: Final = Row(
    "What stayed private",
    [
        lines(
            "Sensitive requests of agents",
            "Requests a second that stayed on the device for what is in them, and those that left"
            " with placeholders in the place of values.",
            Ask(
                "sum(rate(isthmus_edge_privacy_local_requests_total[$__rate_interval]))",
                "stayed on the device",
            ),
            Ask(
                "sum(rate(isthmus_edge_privacy_redacted_requests_total[$__rate_interval]))",
                "left redacted",
            ),
            unit="reqps",
        ),
        lines(
            "Stopped by the last check",
            "Values that the last look at the bytes found before they left, by label, each 5 "
            "minutes. Nothing left, and something before it failed.",
            Ask(
                asked.or_zero(
                    "sum by (label) (increase(isthmus_edge_privacy_blocked_values_total[5m]))"
                ),
                "{{label}}",
            ),
            unit="short",
            limits=GOOD_IF_ZERO,
        ),
    ],
)

INCIDENTS: Final = Row(
    "Incidents",
    [
        rows(
            "Alerts that fire",
            "Each alert has a runbook of its name under Runbooks, at the top. Empty: none fires.",
            Ask('ALERTS{alertname=~"Isthmus.*",alertstate="firing"}'),
            unit="short",
            columns={
                "alertname": "Alert",
                "severity": "Severity",
                "instance": "Instance",
                "slo": "Objective",
                "tenant": "Tenant",
            },
            width=8,
        ),
        states(
            "Breakers towards the cloud",
            "Whether an agent asks the cloud at all: open means that it failed too often, and the"
            " device answers alone.",
            Ask(
                'max by (instance) (isthmus_edge_cloud_breaker_state{state="open"}) * 2 '
                '+ max by (instance) (isthmus_edge_cloud_breaker_state{state="half_open"})',
                "{{instance}}",
            ),
            names={
                "0": ("closed", "green"),
                "1": ("trying", "orange"),
                "2": ("open", "red"),
            },
            width=8,
        ),
        lines(
            "Restarts",
            "Starts of each part within an hour, seen by the time at which its process began.",
            Ask(
                'changes(process_start_time_seconds{job=~"isthmus-.*|vllm"}[1h])',
                "{{job}} {{instance}}",
            ),
            unit="short",
            width=8,
        ),
    ],
)

BOARD: Final = Board(
    "overview",
    "Overview",
    "Where answers are made, whether the promise of latency holds, what that costs, and what "
    "stayed private.",
    [source(), SYSTEM],
    [GLANCE, SPLIT, PROMISES, MONEY, PRIVACY, INCIDENTS],
)
