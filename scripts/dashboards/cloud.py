"""Cloud: the gateway's calls, admission and queue, its upstreams, and vLLM's own picture."""

from __future__ import annotations

from typing import Final

from dashboards import vllm
from dashboards.asked import GATEWAY, gained, or_zero, per_second, quantile
from dashboards.board import DOCS, Board, Row
from dashboards.panels import Ask, bad_above, bars, good_above, lines, number
from dashboards.variables import GATEWAYS, SERVERS

_OURS: Final = 'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|DEADLINE_EXCEEDED"'
_DAY_S: Final = 86400

GLANCE: Final = Row(
    "At a glance",
    [
        number(
            "Calls",
            "Calls a second that ended, at these gateways.",
            per_second("isthmus_cloud_requests_total", GATEWAY),
            unit="reqps",
        ),
        number(
            "Failed",
            "Share of calls that ended with a code that is the gateway's or its upstream's fault.",
            or_zero(
                f"{per_second('isthmus_cloud_requests_total', f'{GATEWAY},{_OURS}')} "
                f"/ {per_second('isthmus_cloud_requests_total', GATEWAY)}"
            ),
            unit="percentunit",
            colours=bad_above(0.005, 0.05),
            links={"Runbook": f"{DOCS}/runbooks/IsthmusSloBurnsFast.html"},
        ),
        number(
            "First token, 95th percentile",
            "One answer in twenty begins later than this after its request has arrived.",
            quantile(0.95, "gen_ai_server_time_to_first_token_seconds", GATEWAY),
            unit="s",
            colours=bad_above(1, 2),
        ),
        number(
            "Places taken",
            "Requests being answered, of those that may be at once, at the fullest gateway.",
            f"max(isthmus_cloud_requests_in_flight{{{GATEWAY}}} "
            f"/ isthmus_cloud_requests_in_flight_limit{{{GATEWAY}}})",
            unit="percentunit",
            colours=bad_above(0.8, 1),
        ),
        number(
            "Queue filled",
            "Requests waiting, of those that may wait, at the fullest gateway. Full: new ones are"
            " refused.",
            f"max(isthmus_cloud_queue_length{{{GATEWAY}}} "
            f"/ isthmus_cloud_queue_length_limit{{{GATEWAY}}})",
            unit="percentunit",
            colours=bad_above(0.5, 0.9),
        ),
        number(
            "Certificate ends in",
            "Until the first certificate ends: a server's, or a root of its clients'.",
            f"min(isthmus_cloud_certificate_expires_in_seconds{{{GATEWAY}}})",
            unit="s",
            colours=good_above(3 * _DAY_S, 14 * _DAY_S),
            links={"Runbook": f"{DOCS}/runbooks/IsthmusCertificateExpires.html"},
        ),
    ],
)

CALLS: Final = Row(
    "Calls",
    [
        lines(
            "Calls by gRPC code",
            "Calls a second by how they ended. RESOURCE_EXHAUSTED: turned away by admission or a "
            "quota; CANCELLED: the caller went away.",
            Ask(per_second("isthmus_cloud_requests_total", GATEWAY, "code"), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Time to the first token",
            "From a request's arrival at the gateway to the first piece of its answer.",
            Ask(quantile(0.5, "gen_ai_server_time_to_first_token_seconds", GATEWAY), "50 %"),
            Ask(quantile(0.95, "gen_ai_server_time_to_first_token_seconds", GATEWAY), "95 %"),
            Ask(quantile(0.99, "gen_ai_server_time_to_first_token_seconds", GATEWAY), "99 %"),
            unit="s",
            limits=((None, "transparent"), (2, "red")),
        ),
        lines(
            "Time for each token after it",
            "Mean time per token of an answer after its first.",
            Ask(quantile(0.5, "gen_ai_server_time_per_output_token_seconds", GATEWAY), "50 %"),
            Ask(quantile(0.95, "gen_ai_server_time_per_output_token_seconds", GATEWAY), "95 %"),
            unit="s",
        ),
        lines(
            "Whole calls",
            "From a request's arrival to its end.",
            Ask(quantile(0.5, "gen_ai_server_request_duration_seconds", GATEWAY), "50 %"),
            Ask(quantile(0.95, "gen_ai_server_request_duration_seconds", GATEWAY), "95 %"),
            unit="s",
        ),
    ],
)

ADMISSION: Final = Row(
    "Admission and queue",
    [
        lines(
            "In flight and waiting",
            "Requests being answered, waiting for their turn, and how many may be, at each "
            "gateway.",
            Ask(f"isthmus_cloud_requests_in_flight{{{GATEWAY}}}", "{{instance}} in flight"),
            Ask(f"isthmus_cloud_queue_length{{{GATEWAY}}}", "{{instance}} waiting"),
            Ask(f"isthmus_cloud_requests_in_flight_limit{{{GATEWAY}}}", "{{instance}} places"),
            unit="short",
            width=8,
        ),
        lines(
            "Waited for a turn, 95th percentile",
            "From a request's arrival to its turn, by its priority.",
            Ask(
                quantile(0.95, "isthmus_cloud_queue_wait_seconds", GATEWAY, "priority"),
                "{{priority}}",
            ),
            unit="s",
            width=8,
        ),
        lines(
            "Turned away",
            "Requests a second that were not served: told to come back later by admission, "
            "refused by a quota, or not let in.",
            Ask(
                or_zero(per_second("isthmus_cloud_shed_requests_total", GATEWAY, "reason")),
                "admission: {{reason}}",
            ),
            Ask(
                or_zero(per_second("isthmus_cloud_quota_refusals_total", GATEWAY, "quota")),
                "quota: {{quota}}",
            ),
            Ask(
                or_zero(per_second("isthmus_cloud_refused_calls_total", GATEWAY, "reason")),
                "not let in: {{reason}}",
            ),
            unit="reqps",
            width=8,
        ),
    ],
)

UPSTREAMS: Final = Row(
    "Upstreams",
    [
        lines(
            "Requests by what came of them",
            "Requests a second to each upstream: ok, refused (the request's own fault), "
            "overloaded, failed, cancelled.",
            Ask(
                per_second("isthmus_cloud_upstream_requests_total", GATEWAY, "upstream", "result"),
                "{{upstream}} {{result}}",
            ),
            unit="reqps",
            width=6,
        ),
        lines(
            "In flight at upstreams",
            "Requests of these gateways that an upstream answers now.",
            Ask(
                f"sum by (upstream) (isthmus_cloud_upstream_requests_in_flight{{{GATEWAY}}})",
                "{{upstream}}",
            ),
            unit="short",
            width=6,
        ),
        lines(
            "First token, 95th percentile",
            "From asking an upstream to its first piece of answer.",
            Ask(
                quantile(
                    0.95, "isthmus_cloud_upstream_time_to_first_token_seconds", GATEWAY, "upstream"
                ),
                "{{upstream}}",
            ),
            unit="s",
            width=6,
        ),
        lines(
            "Addresses and failures",
            "Addresses of each upstream by state, how often one was left alone for its failures, "
            "and answers that went on with another.",
            Ask(
                f"sum by (upstream, state) (isthmus_cloud_upstream_addresses{{{GATEWAY}}})",
                "{{upstream}} {{state}}",
            ),
            Ask(
                or_zero(
                    "sum by (upstream) "
                    f"(increase(isthmus_cloud_upstream_ejections_total{{{GATEWAY}}}[5m]))"
                ),
                "{{upstream}} left alone",
            ),
            Ask(
                or_zero(f"sum(increase(isthmus_cloud_upstream_failovers_total{{{GATEWAY}}}[5m]))"),
                "went on with another",
            ),
            unit="short",
            width=6,
        ),
    ],
)

LEDGER: Final = Row(
    "Ledger, answers and drafts",
    [
        lines(
            "Ledger",
            "How long the last transaction's oldest change waited, and how long the database is "
            "away. By `when_away` new requests are refused meanwhile, or served and written later.",
            Ask(f"isthmus_cloud_ledger_lag_seconds{{{GATEWAY}}}", "{{instance}} lag"),
            Ask(f"isthmus_cloud_ledger_away_seconds{{{GATEWAY}}}", "{{instance}} away"),
            unit="s",
            width=6,
        ),
        lines(
            "Not in the ledger yet",
            "Requests with a reservation that is not settled, changes that wait for the database,"
            " and requests that were served while it was away.",
            Ask(f"isthmus_cloud_open_reservations{{{GATEWAY}}}", "{{instance}} reserved"),
            Ask(f"isthmus_cloud_ledger_queue_length{{{GATEWAY}}}", "{{instance}} waiting"),
            Ask(f"isthmus_cloud_ledger_late_requests{{{GATEWAY}}}", "{{instance}} late"),
            unit="short",
            width=6,
        ),
        lines(
            "Asked again",
            "Requests a second that came again under their id, by what they found; and those "
            "whose caller went away.",
            Ask(
                or_zero(per_second("isthmus_cloud_repeated_requests_total", GATEWAY, "found")),
                "again: {{found}}",
            ),
            Ask(per_second("isthmus_cloud_cancellations_total", GATEWAY), "went away"),
            unit="reqps",
            width=6,
        ),
        bars(
            "Drafts from devices",
            "Tokens of drafts that devices brought, in the chosen range, by what became of them.",
            Ask(
                or_zero(gained("isthmus_cloud_draft_tokens_total", GATEWAY, "result")), "{{result}}"
            ),
            unit="short",
            width=6,
        ),
    ],
)

INSIDE: Final = Row(
    "Inside the gateway",
    [
        lines(
            "Kept for those who ask again",
            "Answers that ended and can be asked for again, for devices whose connection broke.",
            Ask(f"isthmus_cloud_kept_answers{{{GATEWAY}}}", "{{instance}}"),
            unit="short",
            width=6,
        ),
        lines(
            "What those take",
            "Memory of the answers that are kept, roughly.",
            Ask(f"isthmus_cloud_kept_answers_bytes{{{GATEWAY}}}", "{{instance}}"),
            unit="bytes",
            width=6,
        ),
        lines(
            "Memory of the process",
            "Resident memory of each gateway's process, by the operating system.",
            Ask(
                f'process_resident_memory_bytes{{job="isthmus-gateway",{GATEWAY}}}', "{{instance}}"
            ),
            unit="bytes",
            width=6,
        ),
        lines(
            "Pause between messages",
            "How long each stream waits between two messages: above 0 the gateway's processor has"
            " too much to do, and sends several pieces at once.",
            Ask(f"isthmus_cloud_delivery_pause_seconds{{{GATEWAY}}}", "{{instance}}"),
            unit="s",
            width=6,
        ),
        lines(
            "Pieces sent together",
            "Pieces of answers a second that went in the message of another, for a reader or a "
            "gateway that was behind.",
            Ask(
                per_second("isthmus_cloud_merged_deltas_total", GATEWAY, "instance"), "{{instance}}"
            ),
            unit="suffix: pieces/s",
            width=8,
        ),
        lines(
            "What drafts save and spend",
            "Seconds of an engine, each second, that drafts from devices saved and that judging "
            "them spent. Where it does not pay, drafts are not judged.",
            Ask(
                per_second("isthmus_cloud_draft_engine_seconds_total", GATEWAY, "part"), "{{part}}"
            ),
            unit="suffix: s/s",
            width=8,
        ),
        lines(
            "Not counted, or read again",
            "Drafts that were dropped, reports that came twice, and files of keys and secrets "
            "that were read again, each 5 minutes.",
            Ask(
                or_zero(gained("isthmus_cloud_unjudged_drafts_total", GATEWAY, window="5m")),
                "drafts not judged",
            ),
            Ask(
                or_zero(gained("isthmus_fleet_duplicate_outcomes_total", GATEWAY, window="5m")),
                "reports that came twice",
            ),
            Ask(
                or_zero(
                    gained(
                        "isthmus_cloud_files_read_again_total",
                        GATEWAY,
                        "setting",
                        "result",
                        window="5m",
                    )
                ),
                "{{setting}} read again: {{result}}",
            ),
            unit="short",
            width=8,
        ),
    ],
)

BOARD: Final = Board(
    "cloud",
    "Cloud",
    "The gateway's calls, admission and queue, its upstreams and ledger, and what vLLM says of "
    "itself.",
    [GATEWAYS, SERVERS],
    [GLANCE, CALLS, ADMISSION, UPSTREAMS, vllm.ROW, LEDGER, INSIDE],
)
