"""Privacy: what stayed, was redacted, was allowed to leave, and what the last check stopped."""

from __future__ import annotations

from typing import Final

from dashboards.asked import AGENT, gained, most, or_zero, per_second
from dashboards.board import DOCS, Board, Row
from dashboards.panels import GOOD_IF_ZERO, Ask, bars, lines, number
from dashboards.variables import AGENTS

_EGRESS: Final = {"Runbook": f"{DOCS}/runbooks/IsthmusPrivacyEgress.html"}
_BLOCKED: Final = {"Runbook": f"{DOCS}/runbooks/IsthmusPrivacyBlocked.html"}
_VALUES: Final = "isthmus_edge_privacy_values_total"

GLANCE: Final = Row(
    "At a glance, in the chosen range",
    [
        number(
            "Sensitive and sent",
            "Requests with content that must stay on the device, or that could not be scanned, "
            "and that the cloud answered, as devices report it. Must be 0.",
            "sum(increase(isthmus_fleet_privacy_requests_total"
            '{privacy_class=~"sensitive|unknown",route="cloud"}[$__range]))',
            unit="short",
            colours=GOOD_IF_ZERO,
            links=_EGRESS,
        ),
        number(
            "Stopped by the last check",
            "Values that the last look at the bytes found and stopped. They did not leave, but "
            "what should have found them before did not.",
            gained("isthmus_edge_privacy_blocked_values_total", AGENT),
            unit="short",
            colours=GOOD_IF_ZERO,
            links=_BLOCKED,
        ),
        number(
            "Requests kept",
            "Requests that stayed on the device because of what is in them.",
            gained("isthmus_edge_privacy_local_requests_total", AGENT),
            unit="short",
        ),
        number(
            "Requests redacted",
            "Requests that left with placeholders in the place of values.",
            gained("isthmus_edge_privacy_redacted_requests_total", AGENT),
            unit="short",
        ),
        number(
            "Values allowed",
            "Sensitive values that left because the policy allows their label.",
            or_zero(gained(_VALUES, f'{AGENT},treatment="allowed"')),
            unit="short",
        ),
        number(
            "Left for the cloud",
            "Bytes of requests that left these devices, everything included.",
            gained("isthmus_edge_sent_bytes_total", AGENT),
            unit="bytes",
        ),
    ],
)

TREATMENT: Final = Row(
    "What became of sensitive values",
    [
        lines(
            "By treatment",
            "Values a second that stayed on the device, left as a placeholder (redacted), or left"
            " as they were because the policy allows it.",
            Ask(per_second(_VALUES, AGENT, "treatment"), "{{treatment}}"),
            unit="suffix: values/s",
            stacked=True,
        ),
        bars(
            "Stayed, by label",
            "Values that never left the device, in the chosen range, by what they are.",
            Ask(most(gained(_VALUES, f'{AGENT},treatment="stayed"', "label")), "{{label}}"),
            unit="short",
        ),
        bars(
            "Redacted, by label",
            "Values in whose place a placeholder left, in the chosen range.",
            Ask(
                most(gained(_VALUES, f'{AGENT},treatment="redacted"', "label")),
                "{{label}}",
            ),
            unit="short",
        ),
        bars(
            "Allowed, by label",
            "Values that left because the policy allows their label, in the chosen range. Look "
            "here after a change of policy.",
            Ask(
                most(gained(_VALUES, f'{AGENT},treatment="allowed"', "label")),
                "{{label}}",
            ),
            unit="short",
            colours=((None, "orange"),),
        ),
    ],
)

CHECKS: Final = Row(
    "How the gate works",
    [
        lines(
            "Found, by label",
            "Sensitive values a second that were found in requests. A value counts with each turn"
            " that repeats it.",
            Ask(per_second("isthmus_edge_privacy_found_values_total", AGENT, "label"), "{{label}}"),
            unit="suffix: values/s",
        ),
        lines(
            "Stopped by the last check",
            "Values that the last look at the bytes found, by label, each 5 minutes.",
            Ask(
                or_zero(
                    gained("isthmus_edge_privacy_blocked_values_total", AGENT, "label", window="5m")
                ),
                "{{label}}",
            ),
            unit="short",
            limits=GOOD_IF_ZERO,
        ),
        lines(
            "Decisions for privacy",
            "Requests a second whose route had a reason of privacy: kept on the device, redacted,"
            " scan failed, no consent, blocked.",
            Ask(
                per_second(
                    "isthmus_edge_reasons_total", f'{AGENT},reason=~"privacy_.*"', "reason", "route"
                ),
                "{{reason}}: {{route}}",
            ),
            unit="reqps",
        ),
        lines(
            "Requests of the whole fleet",
            "Requests a second by what the gate found and by who answered, from devices that "
            "report. Sensitive ones are answered on the device alone.",
            Ask(
                "sum by (privacy_class, route) "
                "(rate(isthmus_fleet_privacy_requests_total[$__rate_interval]))",
                "{{privacy_class}}: {{route}}",
            ),
            unit="reqps",
        ),
    ],
)

BOARD: Final = Board(
    "privacy",
    "Privacy",
    "What stayed on devices, what left redacted or allowed, and what the last check stopped. "
    "Counts and labels alone: no value is in any metric.",
    [AGENTS],
    [GLANCE, TREATMENT, CHECKS],
)
