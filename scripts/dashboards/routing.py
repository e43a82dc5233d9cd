"""Routing: why requests go where they go, how sure the router was, and whether it was right."""

from __future__ import annotations

from typing import Final

from dashboards.asked import AGENT, gained, mean, most, or_zero, per_second, quantile, share
from dashboards.board import Board, Row
from dashboards.panels import Ask, bad_above, bars, good_above, lines, number
from dashboards.variables import AGENTS

_ANSWERED: Final = f'{AGENT},status!="refused"'
_JUDGED: Final = "isthmus_edge_judged_answers_total"
_GOOD: Final = f'{AGENT},judgement="good"'

GLANCE: Final = Row(
    "At a glance",
    [
        number(
            "Answered on the device",
            "Share of the requests of these agents that the device answered.",
            share("isthmus_edge_requests_total", _ANSWERED, 'route="edge"'),
            unit="percentunit",
        ),
        number(
            "Expected quality on the device",
            "How probably the device's answers were good enough, on average, as the router took "
            "it when it decided.",
            mean("isthmus_edge_expected_quality", f'{AGENT},route="edge"'),
            unit="percentunit",
        ),
        number(
            "Judged good",
            "Share of answers that people rated up, of those that they rated, in the chosen range.",
            f"{gained(_JUDGED, _GOOD)} / {gained(_JUDGED, AGENT)}",
            unit="percentunit",
            colours=good_above(0.6, 0.8),
        ),
        number(
            "Handed over",
            "Share of the device's doubts about its own answer, while it wrote it, that ended "
            "with the cloud going on.",
            share("isthmus_edge_doubts_total", AGENT, 'result="handed_over"'),
            unit="percentunit",
        ),
        number(
            "Fell back",
            "Share of requests that the other tier took over because the chosen one failed.",
            or_zero(
                f"{per_second('isthmus_edge_fallbacks_total', AGENT)} "
                f"/ {per_second('isthmus_edge_requests_total', _ANSWERED)}"
            ),
            unit="percentunit",
            colours=bad_above(0.01, 0.05),
        ),
        number(
            "Time to decide, 99th percentile",
            "What the router takes for a decision, its look at the text included.",
            quantile(0.99, "isthmus_edge_decision_seconds", AGENT),
            unit="s",
            colours=bad_above(0.005, 0.02),
        ),
    ],
)

WHY: Final = Row(
    "Why requests go where they go",
    [
        lines(
            "Deciding reason",
            "Requests a second by the reason that decided, with the tier that it led to. "
            "docs/decision.md explains each.",
            Ask(
                per_second("isthmus_edge_requests_total", _ANSWERED, "route", "reason"),
                "{{route}}: {{reason}}",
            ),
            unit="reqps",
            stacked=True,
            height=10,
        ),
        bars(
            "All reasons in the chosen range",
            "How often each reason stood on a decision. A request may have several.",
            Ask(
                most(gained("isthmus_edge_reasons_total", AGENT, "route", "reason")),
                "{{route}}: {{reason}}",
            ),
            unit="short",
            height=10,
        ),
        bars(
            "Reasons of the whole fleet",
            "The same as devices report it, in the chosen range. Only from devices that share "
            "what they count.",
            Ask(
                "sort_desc(sum by (route, reason) "
                "(increase(isthmus_fleet_reasons_total[$__range])))",
                "{{route}}: {{reason}}",
            ),
            unit="short",
            height=10,
        ),
        lines(
            "Refused before a route was sought",
            "Requests a second that the agent refused, by HTTP status: 400 malformed, 401 no "
            "token, 429 too many at once.",
            Ask(
                or_zero(per_second("isthmus_edge_rejected_requests_total", AGENT, "code")),
                "{{code}}",
            ),
            unit="reqps",
            height=10,
        ),
    ],
)

CONFIDENCE: Final = Row(
    "How sure the router was",
    [
        lines(
            "Expected quality",
            "How probably answers were good enough, as their decisions took it: the lowest tenth "
            "and the middle, by who answered.",
            Ask(quantile(0.1, "isthmus_edge_expected_quality", AGENT, "route"), "{{route}} 10 %"),
            Ask(quantile(0.5, "isthmus_edge_expected_quality", AGENT, "route"), "{{route}} 50 %"),
            Ask(
                quantile(0.5, "isthmus_fleet_expected_quality", "", "route"), "fleet {{route}} 50 %"
            ),
            unit="percentunit",
            top=1,
        ),
        lines(
            "Doubts while answering",
            "How often the device doubted its own answer, by what came of it: handed_over to the "
            "cloud, kept, refused, too_slow, failed.",
            Ask(
                per_second("isthmus_edge_doubts_total", AGENT, "result", "reason"),
                "{{result}}: {{reason}}",
            ),
            unit="reqps",
            stacked=True,
        ),
    ],
)

MOVES: Final = Row(
    "Escalations, hand-overs and fall-backs",
    [
        lines(
            "Escalated before an answer began",
            "Requests a second that went to the cloud.",
            Ask(
                per_second("isthmus_edge_requests_total", _ANSWERED + ',route="cloud"', "reason"),
                "{{reason}}",
            ),
            unit="reqps",
            width=8,
            stacked=True,
        ),
        lines(
            "Taken over by the other tier",
            "Answers that one tier could not give or finish, by direction, by when, and by the "
            "error's kind.",
            Ask(
                or_zero(
                    per_second(
                        "isthmus_edge_fallbacks_total",
                        AGENT,
                        "from_route",
                        "to_route",
                        "stage",
                        "error",
                    )
                ),
                "{{from_route}} to {{to_route}}, {{stage}}: {{error}}",
            ),
            Ask(per_second("isthmus_edge_cloud_resumes_total", AGENT), "cloud stream resumed"),
            unit="reqps",
            width=8,
        ),
        lines(
            "Races",
            "Requests that both tiers began at once, by the tier that answered first.",
            Ask(or_zero(per_second("isthmus_edge_races_total", AGENT, "winner")), "{{winner}} won"),
            unit="reqps",
            width=8,
        ),
    ],
)

RIGHT: Final = Row(
    "Whether it was right",
    [
        lines(
            "Calibration error",
            "Share judged good less the share expected to be good, in the chosen range. Above 0 "
            "answers are better than the router thinks, below 0 it thinks too well of them.",
            Ask(
                f"({gained(_JUDGED, _GOOD, 'route')}"
                f" - {gained('isthmus_edge_judged_expected_good_total', AGENT, 'route')})"
                f" / {gained(_JUDGED, AGENT, 'route')}",
                "{{route}}",
            ),
            unit="percentunit",
        ),
        lines(
            "Calibration drift",
            "What judged answers add to the quality that the router expects of a tier, learnt "
            "meanwhile. Far from 0: calibrate anew.",
            Ask(f"avg by (route) (isthmus_edge_quality_correction{{{AGENT}}})", "{{route}}"),
            unit="percentunit",
            limits=((None, "red"), (-0.1, "green"), (0.1, "red")),
        ),
        lines(
            "How alike both tiers answer",
            "Where both answered the same request: how alike the answers were, from 0 to 1, and "
            "how far that is from what is usual.",
            Ask(mean("isthmus_edge_shadow_agreement", AGENT, "route"), "{{route}} first"),
            Ask(mean("isthmus_fleet_shadow_agreement", "", "route"), "fleet, {{route}} first"),
            Ask(f"avg by (route) (isthmus_edge_shadow_drift{{{AGENT}}})", "{{route}} drift"),
            unit="percentunit",
        ),
        lines(
            "Regret where both answered",
            "Dollars that the other tier would have been worth more, for each request that both "
            "answered, by who was chosen. The cloud's answer is the reference.",
            Ask(
                f"{per_second('isthmus_edge_shadow_regret_usd_total', AGENT, 'route')} "
                f"/ {per_second('isthmus_edge_shadow_agreement_count', AGENT, 'route')}",
                "{{route}} chosen",
            ),
            Ask(
                f"{per_second('isthmus_fleet_shadow_regret_usd_total', '', 'route')} "
                f"/ {per_second('isthmus_fleet_shadow_agreement_count', '', 'route')}",
                "fleet, {{route}} chosen",
            ),
            unit="currencyUSD",
        ),
    ],
)

TOGETHER: Final = Row(
    "Working on one answer together",
    [
        lines(
            "Drafts that the cloud accepted",
            "Share of the tokens drafted on the device that the cloud took over unchanged.",
            Ask(
                share("isthmus_edge_draft_tokens_total", AGENT, 'result="accepted"'),
                "accepted",
            ),
            unit="percentunit",
            width=6,
            top=1,
        ),
        lines(
            "Guessed ahead on the device",
            "Tokens a second that the device's engine guessed ahead, by what became of them.",
            Ask(per_second("isthmus_edge_guessed_tokens_total", AGENT, "result"), "{{result}}"),
            unit="suffix: tokens/s",
            width=6,
        ),
        lines(
            "Trained files tried",
            "Files of the trained router that were tried, by what became of them, each 5 minutes.",
            Ask(
                or_zero(gained("isthmus_edge_trained_files_total", AGENT, "result", window="5m")),
                "{{result}}",
            ),
            unit="short",
            width=6,
        ),
        lines(
            "Computed for nothing",
            "Tokens a second that were computed and are in no answer, by tier and by how its part"
            " ended.",
            Ask(
                per_second("isthmus_edge_dropped_tokens_total", AGENT, "route", "end"),
                "{{route}}: {{end}}",
            ),
            unit="suffix: tokens/s",
            width=6,
        ),
    ],
)

BOARD: Final = Board(
    "routing",
    "Routing",
    "Why requests go to the device or to the cloud, how sure the router was, and whether it was "
    "right. From agents that Prometheus scrapes.",
    [AGENTS],
    [GLANCE, WHY, CONFIDENCE, MOVES, RIGHT, TOGETHER],
)
