"""Cloud: the gateway's calls, admission and queue, its upstreams, and vLLM's own picture."""

from __future__ import annotations

from typing import Final

from dashboards.asked import GATEWAY, SERVER, gained, or_zero, per_second, quantile
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
            links={"Runbook": f"{DOCS}/runbooks/IsthmusSloBurnsFast"},
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
            links={"Runbook": f"{DOCS}/runbooks/IsthmusCertificateExpires"},
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
            width=8,
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
            width=8,
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
            width=8,
        ),
    ],
)

VLLM: Final = Row(
    "vLLM",
    [
        number(
            "KV cache used",
            "Share of the blocks for keys and values in use, at the fullest engine. Near 1 vLLM "
            "begins to preempt.",
            f"max(vllm:kv_cache_usage_perc{{{SERVER}}})",
            unit="percentunit",
            colours=bad_above(0.8, 0.9),
            links={"Runbook": f"{DOCS}/runbooks/IsthmusKvCacheFull"},
        ),
        number(
            "Prefix cache hits",
            "Share of prompt tokens that were found in the prefix cache.",
            f"{per_second('vllm:prefix_cache_hits_total', SERVER)} "
            f"/ {per_second('vllm:prefix_cache_queries_total', SERVER)}",
            unit="percentunit",
        ),
        number(
            "Speculation accepted",
            "Share of tokens drafted by speculative decoding that the model accepted.",
            f"{per_second('vllm:spec_decode_num_accepted_tokens_total', SERVER)} "
            f"/ {per_second('vllm:spec_decode_num_draft_tokens_total', SERVER)}",
            unit="percentunit",
        ),
        number(
            "Preemptions",
            "Requests that had to give up their KV blocks and start again, in the chosen range.",
            gained("vllm:num_preemptions_total", SERVER),
            unit="short",
            colours=bad_above(1, 100),
        ),
        number(
            "Rejected by vLLM",
            "Requests that vLLM's own admission refused, in the chosen range.",
            or_zero(gained("vllm:admission_rejections_total", SERVER)),
            unit="short",
            colours=bad_above(1, 100),
        ),
        number(
            "Tokens written",
            "Tokens a second, all engines together.",
            per_second("vllm:generation_tokens_total", SERVER),
            unit="suffix: tokens/s",
        ),
        lines(
            "Requests in vLLM",
            "Requests that run and that wait, by engine. Waiting ones are for the gateway's queue"
            " rather than for vLLM's.",
            Ask(f"vllm:num_requests_running{{{SERVER}}}", "{{instance}} {{engine}} running"),
            Ask(f"vllm:num_requests_waiting{{{SERVER}}}", "{{instance}} {{engine}} waiting"),
            unit="short",
            width=8,
        ),
        lines(
            "KV cache used",
            "Share of the blocks for keys and values in use, by engine.",
            Ask(f"vllm:kv_cache_usage_perc{{{SERVER}}}", "{{instance}} {{engine}}"),
            unit="percentunit",
            width=8,
            limits=bad_above(0.8, 0.9),
            top=1,
        ),
        lines(
            "Preemptions and rejections",
            "Requests a second that were preempted, and that vLLM refused, by why.",
            Ask(per_second("vllm:num_preemptions_total", SERVER), "preempted"),
            Ask(
                or_zero(per_second("vllm:admission_rejections_total", SERVER, "reason")),
                "refused: {{reason}}",
            ),
            unit="reqps",
            width=8,
        ),
        lines(
            "First token in vLLM",
            "vLLM's own time to the first token, and how long requests waited in its queue.",
            Ask(quantile(0.95, "vllm:time_to_first_token_seconds", SERVER), "first token 95 %"),
            Ask(quantile(0.95, "vllm:request_queue_time_seconds", SERVER), "in the queue 95 %"),
            unit="s",
            width=8,
        ),
        lines(
            "Between tokens in vLLM",
            "vLLM's own time between two tokens.",
            Ask(quantile(0.5, "vllm:inter_token_latency_seconds", SERVER), "50 %"),
            Ask(quantile(0.95, "vllm:inter_token_latency_seconds", SERVER), "95 %"),
            unit="s",
            width=8,
        ),
        lines(
            "Speculation and prefix cache",
            "Share of drafted tokens that were accepted, and of prompt tokens found in the cache.",
            Ask(
                f"{per_second('vllm:spec_decode_num_accepted_tokens_total', SERVER)} "
                f"/ {per_second('vllm:spec_decode_num_draft_tokens_total', SERVER)}",
                "accepted",
            ),
            Ask(
                f"{per_second('vllm:prefix_cache_hits_total', SERVER)} "
                f"/ {per_second('vllm:prefix_cache_queries_total', SERVER)}",
                "prefix hits",
            ),
            unit="percentunit",
            width=8,
            top=1,
        ),
    ],
)

LEDGER: Final = Row(
    "Ledger, answers and drafts",
    [
        lines(
            "Ledger",
            "How long the last transaction's oldest change waited, and how long the database is "
            "away. Requests are served meanwhile and written later.",
            Ask(f"isthmus_cloud_ledger_lag_seconds{{{GATEWAY}}}", "{{instance}} lag"),
            Ask(f"isthmus_cloud_ledger_away_seconds{{{GATEWAY}}}", "{{instance}} away"),
            unit="s",
            width=8,
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
            width=8,
        ),
        bars(
            "Drafts from devices",
            "Tokens of drafts that devices brought, in the chosen range, by what became of them.",
            Ask(
                or_zero(gained("isthmus_cloud_draft_tokens_total", GATEWAY, "result")), "{{result}}"
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
    [GLANCE, CALLS, ADMISSION, UPSTREAMS, VLLM, LEDGER],
)
