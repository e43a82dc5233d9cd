"""What vLLM says of itself: the row of the Cloud dashboard, by the names of vLLM 0.32."""

from __future__ import annotations

from typing import Final

from dashboards.asked import SERVER, gained, or_zero, per_second, quantile, ratio
from dashboards.board import DOCS, Row
from dashboards.panels import Ask, bad_above, lines, number

_ACCEPTED: Final = ratio(
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:spec_decode_num_draft_tokens_total",
    SERVER,
)
_PREFIX_HITS: Final = ratio(
    "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total", SERVER
)

ROW: Final = Row(
    "vLLM",
    [
        number(
            "KV cache used",
            "Share of the blocks for keys and values in use, at the fullest engine. Near 1 vLLM "
            "begins to preempt.",
            f"max(vllm:kv_cache_usage_perc{{{SERVER}}})",
            unit="percentunit",
            colours=bad_above(0.8, 0.9),
            links={"Runbook": f"{DOCS}/runbooks/IsthmusKvCacheFull.html"},
        ),
        number(
            "Prefix cache hits",
            "Share of prompt tokens that were found in the prefix cache.",
            _PREFIX_HITS,
            unit="percentunit",
        ),
        number(
            "Speculation accepted",
            "Share of tokens drafted by speculative decoding that the model accepted.",
            _ACCEPTED,
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
                _ACCEPTED,
                "accepted",
            ),
            Ask(
                _PREFIX_HITS,
                "prefix hits",
            ),
            unit="percentunit",
            width=8,
            top=1,
        ),
    ],
)
