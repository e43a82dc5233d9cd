"""Cost: tokens and their price, what devices saved, how budgets burn, and who spends."""

from __future__ import annotations

from typing import Final

from dashboards.asked import AGENT, gained, or_zero, per_second
from dashboards.board import Board, Row
from dashboards.panels import Ask, bad_above, bars, lines, number, rows
from dashboards.variables import AGENTS, TENANTS

_TENANT: Final = 'tenant=~"$tenant"'
_CHARGED: Final = "isthmus_cloud_spent_micro_usd_total"

GLANCE: Final = Row(
    "At a glance, in the chosen range",
    [
        number(
            "Charged by the gateway",
            "Dollars charged to these tenants, from the gateway's ledger.",
            f"{gained(_CHARGED, _TENANT)} / 1e6",
            unit="currencyUSD",
        ),
        number(
            "Paid, as agents reckon",
            "Dollars that these agents reckon they paid to the cloud.",
            gained("isthmus_edge_price_spent_usd_total", AGENT),
            unit="currencyUSD",
        ),
        number(
            "Saved by devices",
            "What the cloud would have cost for the answers that these devices gave.",
            gained("isthmus_edge_price_saved_usd_total", AGENT),
            unit="currencyUSD",
        ),
        number(
            "Saved share",
            "Saved, of what everything in the cloud would have cost.",
            f"{gained('isthmus_edge_price_saved_usd_total', AGENT)} / "
            f"({gained('isthmus_edge_price_saved_usd_total', AGENT)}"
            f" + {gained('isthmus_edge_price_spent_usd_total', AGENT)})",
            unit="percentunit",
        ),
        number(
            "Paid for nothing",
            "The part of what was paid that is for answers nobody saw: raced, dropped or "
            "cancelled.",
            gained("isthmus_edge_price_unused_usd_total", AGENT),
            unit="currencyUSD",
        ),
        number(
            "Price of a million tokens",
            "What the gateway charged, divided by the tokens that it read and wrote.",
            f"sum(increase({_CHARGED}[$__range])) / "
            'sum(increase(isthmus_cloud_tokens_total{kind=~"prompt|completion"}[$__range]))',
            unit="currencyUSD",
        ),
    ],
)

TOKENS: Final = Row(
    "Tokens and their price",
    [
        lines(
            "Tokens by tier",
            "Tokens a second that each tier read (input) and wrote (output), shown or not.",
            Ask(
                per_second("gen_ai_client_inference_usage_input_tokens_total", AGENT, "route"),
                "{{route}} input",
            ),
            Ask(
                per_second("gen_ai_client_inference_usage_output_tokens_total", AGENT, "route"),
                "{{route}} output",
            ),
            unit="suffix: tokens/s",
        ),
        lines(
            "Prompts that were not computed again",
            "Share of the tokens of prompts that came out of a cache, by tier.",
            Ask(
                per_second(
                    "gen_ai_client_inference_usage_cache_read_input_tokens_total", AGENT, "route"
                )
                + " / "
                + per_second("gen_ai_client_inference_usage_input_tokens_total", AGENT, "route"),
                "{{route}}",
            ),
            unit="percentunit",
            top=1,
        ),
        lines(
            "Tokens at the gateway",
            "Tokens a second by kind: prompt, of which cached, and completion.",
            Ask(per_second("isthmus_cloud_tokens_total", "", "kind"), "{{kind}}"),
            unit="suffix: tokens/s",
        ),
        lines(
            "Spending against all-cloud",
            "Dollars an hour: what is paid, and what would be paid if the cloud answered "
            "everything.",
            Ask(f"3600 * {per_second('isthmus_edge_price_spent_usd_total', AGENT)}", "paid"),
            Ask(
                f"3600 * ({per_second('isthmus_edge_price_spent_usd_total', AGENT)}"
                f" + {per_second('isthmus_edge_price_saved_usd_total', AGENT)})",
                "all in the cloud",
            ),
            unit="currencyUSD",
        ),
    ],
)

BUDGETS: Final = Row(
    "Budgets of agents",
    [
        bars(
            "Used up",
            "Share of the budget that is spent or set aside, by agent and period.",
            Ask(
                f"isthmus_edge_budget_spent_usd{{{AGENT}}} "
                f"/ isthmus_edge_budget_limit_usd{{{AGENT}}}",
                "{{instance}} {{period}}",
            ),
            unit="percentunit",
            width=8,
            colours=bad_above(0.8, 1.0),
            top=1,
        ),
        lines(
            "Forecast for the period's end",
            "What will have been spent at the end of the period if it goes on as it did, as a "
            "share of the budget. Above 1 the budget does not last.",
            Ask(
                f"isthmus_edge_budget_forecast_usd{{{AGENT}}} "
                f"/ isthmus_edge_budget_limit_usd{{{AGENT}}}",
                "{{instance}} {{period}}",
            ),
            unit="percentunit",
            width=8,
            limits=bad_above(0.9, 1.0),
        ),
        lines(
            "How dear the cloud is made",
            "What a budget's pace adds to each unit of price: at 0 spending is within its pace, "
            "at 1 the router takes the cloud for twice as dear.",
            Ask(f"isthmus_edge_budget_shadow_price{{{AGENT}}}", "{{instance}} {{period}}"),
            unit="short",
            width=8,
        ),
    ],
)

BY_TENANT: Final = Row(
    "By tenant",
    [
        lines(
            "Charged",
            "Dollars an hour that each tenant is charged.",
            Ask(f"3600 * {per_second(_CHARGED, _TENANT, 'tenant')} / 1e6", "{{tenant}}"),
            unit="currencyUSD",
            stacked=True,
        ),
        rows(
            "Budgets and forecasts",
            "What each tenant was charged in the last day, what that makes in 30 days, and what "
            "its quotas allow in a month and a day.",
            Ask(f"sum by (tenant) (increase({_CHARGED}{{{_TENANT}}}[1d])) / 1e6"),
            Ask(f"30 * sum by (tenant) (increase({_CHARGED}{{{_TENANT}}}[1d])) / 1e6"),
            Ask(f'max by (tenant) (isthmus_cloud_budget_usd{{{_TENANT},period="month"}})'),
            Ask(f'max by (tenant) (isthmus_cloud_budget_usd{{{_TENANT},period="day"}})'),
            unit="currencyUSD",
            columns={
                "tenant": "Tenant",
                "Value #A": "Last day",
                "Value #B": "Forecast, 30 days",
                "Value #C": "Budget, month",
                "Value #D": "Budget, day",
            },
        ),
        lines(
            "Refused for a quota",
            "Requests a second that a quota refused, by the quota.",
            Ask(
                or_zero(per_second("isthmus_cloud_quota_refusals_total", "", "quota")), "{{quota}}"
            ),
            unit="reqps",
        ),
        lines(
            "Reconciled with devices",
            "What devices acknowledged beside what was charged: equal, corrected (a kill had cut "
            "the answer off), disputed, unknown.",
            Ask(or_zero(per_second("isthmus_cloud_reconciled_total", "", "result")), "{{result}}"),
            unit="reqps",
        ),
    ],
)

FLEET: Final = Row(
    "The whole fleet, as devices reckon",
    [
        lines(
            "Paid and saved",
            "Dollars an hour, from devices that share what they count. The ledger has what is "
            "charged.",
            Ask("3600 * sum(rate(isthmus_fleet_price_spent_usd_total[$__rate_interval]))", "paid"),
            Ask("3600 * sum(rate(isthmus_fleet_price_saved_usd_total[$__rate_interval]))", "saved"),
            unit="currencyUSD",
            width=8,
        ),
        lines(
            "Tokens of the fleet",
            "Tokens a second that devices report, by tier and kind: prompts that were computed or"
            " came out of a cache, and what was written.",
            Ask(
                per_second("isthmus_fleet_tokens_total", "", "route", "kind"), "{{route}} {{kind}}"
            ),
            unit="suffix: tokens/s",
            width=8,
        ),
        bars(
            "Saved by device class",
            "What the cloud would have cost for answers that devices gave, in the chosen range.",
            Ask(
                "sort_desc(sum by (device_class) "
                "(increase(isthmus_fleet_price_saved_usd_total[$__range])))",
                "{{device_class}}",
            ),
            unit="currencyUSD",
            width=8,
            colours=((None, "green"),),
        ),
    ],
)

BOARD: Final = Board(
    "cost",
    "Cost",
    "Tokens and their price, what devices saved against a cloud that answers everything, how "
    "budgets burn, and which tenant spends.",
    [AGENTS, TENANTS],
    [GLANCE, TOKENS, BUDGETS, BY_TENANT, FLEET],
)
