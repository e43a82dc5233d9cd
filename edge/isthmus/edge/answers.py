"""What the agent sends back, in OpenAI's form: whole answers, chunks of a stream, errors.

Source: the OpenAI API reference, "The chat completion object", "The chat completion chunk
object", "Error codes". The `isthmus` object and the two headers are ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.core.decision import Status
from isthmus.core.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    IsthmusError,
    NotSupported,
    Overloaded,
    PolicyRefused,
    Unavailable,
)
from isthmus.core.events import Delta, Finished, TokenLogprob, TopLogprob
from isthmus.core.money import Price, Usage, usd
from isthmus.edge.feedback import UnknownAnswer
from isthmus.edge.leg import Leg
from isthmus.edge.openai_api import UnknownModelName
from isthmus.edge.trail import Trail

Json = dict[str, Any]


def encode(value: Json) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


SSE_DONE = b"data: [DONE]\n\n"


def headers(trail: Trail) -> dict[str, str]:
    """Where the answer is made and why, as far as it is known."""
    found = {"x-request-id": trail.request.request_id}
    if trail.reasons:
        found["x-isthmus-reasons"] = ",".join(trail.reasons)
    if trail.decision is not None:
        found["x-isthmus-route"] = trail.route.value
    if trail.same_model_demo:
        found["x-isthmus-label"] = "same-model demo"
    return found


def isthmus_object(trail: Trail) -> Json:
    """Everything about where the answer was made and what it took."""
    decision = trail.decision
    usage = trail.usage
    edge = trail.edge_leg
    return {
        "request_id": trail.request.request_id,
        "target": trail.route.value,
        "reasons": [reason.value for reason in trail.reasons],
        "fallback_error": (trail.error_kind or None) if trail.changed_tier else None,
        "scores": _all_rounded(decision.scores) if decision else {},
        "thresholds": _all_rounded(decision.thresholds) if decision else {},
        "privacy_class": trail.privacy_class.value,
        "redacted": trail.redacted,
        "model": trail.model,
        "prefill_backend": edge.prefill_backend if edge else None,
        "decode_backend": edge.decode_backend if edge else None,
        "same_model_demo": trail.same_model_demo,
        "price": {
            "spent_usd": usd(trail.price_micro_usd),
            "saved_usd": usd(trail.saved_micro_usd),
            # Unknown is not free.
            "would_have_cost_usd": (
                None
                if trail.cloud_price == Price()
                else usd(trail.cloud_price.cost_micro_usd(usage))
            ),
        },
        "latency": {
            "ttft_ms": _rounded(trail.ttft_ms),
            "tpot_ms": _rounded(trail.tpot_ms),
            "total_ms": _rounded(trail.total_ms),
        },
        "tokens_per_s": _rounded(trail.tokens_per_s),
        "legs": [_leg(trail, leg) for leg in trail.legs],
        "cached_tokens": usage.cached_tokens,
        "prefilled_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
    }


def _leg(trail: Trail, leg: Leg) -> Json:
    """One tier's work on the answer, seen or not."""
    shown: Json = {
        "target": leg.target.value,
        "end": leg.end.value,
        "error": leg.error_kind or None,
        "model": leg.model,
        "completion_tokens": leg.completion_tokens,
        "dropped_tokens": leg.dropped_tokens,
        "sent_bytes": leg.sent_bytes,
        "spent_usd": usd(trail.price_of(leg)),
    }
    if leg.draft is not None:
        shown["draft"] = {
            "judged": leg.draft.judged,
            "tokens": leg.draft.tokens,
            "accepted_tokens": leg.draft.accepted_tokens,
        }
    return shown


def usage_object(usage: Usage) -> Json:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes one answer, whole or in chunks."""

    trail: Trail
    created_unix_s: int

    @classmethod
    def of(cls, trail: Trail) -> Writer:
        """A writer for the answer of `trail`."""
        return cls(trail, int(time.time()))

    def whole(self, deltas: Iterable[Delta], finished: Finished) -> Json:
        """A `chat.completion`."""
        trail = self.trail
        message: Json = {"role": "assistant", "content": trail.text, "refusal": None}
        if trail.has_tool_calls:
            message["content"] = trail.text or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in trail.tool_calls()
            ]
        logprobs = [token for delta in deltas for token in delta.logprobs]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(logprobs),
            "finish_reason": finished.reason.value,
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_object(finished.usage),
            "isthmus": isthmus_object(trail),
        }

    def first_chunk(self, *, with_usage: bool) -> Json:
        """The chunk that says who speaks."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk(delta, with_usage=with_usage)

    def chunk(self, delta: Delta, *, with_usage: bool) -> Json:
        """A piece of the answer."""
        body: Json = {"content": delta.text} if delta.text or not delta.tool_calls else {}
        if delta.tool_calls:
            body["tool_calls"] = [
                {
                    "index": call.index,
                    **({"id": call.id, "type": "function"} if call.id else {}),
                    "function": {
                        **({"name": call.name} if call.name else {}),
                        "arguments": call.arguments,
                    },
                }
                for call in delta.tool_calls
            ]
        return self._chunk(body, with_usage=with_usage, logprobs=self._logprobs(delta.logprobs))

    def last_chunk(self, finished: Finished, *, with_usage: bool) -> Json:
        """The chunk with the finish reason and the `isthmus` object."""
        chunk = self._chunk({}, with_usage=with_usage, finish_reason=finished.reason.value)
        return {**chunk, "isthmus": isthmus_object(self.trail)}

    def usage_chunk(self, finished: Finished) -> Json:
        """The chunk after the last one that `stream_options.include_usage` asks for."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage_object(finished.usage),
        }

    def _head(self, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{self.trail.request.request_id}",
            "object": kind,
            "created": self.created_unix_s,
            "model": self.trail.model or self.trail.request.model,
        }

    def _chunk(
        self,
        delta: Json,
        *,
        with_usage: bool,
        logprobs: Json | None = None,
        finish_reason: str | None = None,
    ) -> Json:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if with_usage else chunk

    def _logprobs(self, tokens: Iterable[TokenLogprob]) -> Json | None:
        if self.trail.request.sampling.top_logprobs is None:
            return None
        content = [
            {**_logprob(token), "top_logprobs": [_logprob(top) for top in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


def _logprob(token: TopLogprob) -> Json:
    # JSON has no infinity; OpenAI's own floor for what is practically impossible is -9999.
    return {
        "token": token.token,
        "logprob": max(token.logprob, -9999.0),
        "bytes": list(token.raw),
    }


def _all_rounded(values: Mapping[str, float]) -> Json:
    return {name: round(value, 6) for name, value in values.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


@dataclass(frozen=True, slots=True)
class HttpError:
    """An error as HTTP says it."""

    status: int
    body: Json
    headers: dict[str, str]


_FORMS: tuple[tuple[type[IsthmusError], int, str, str | None], ...] = (
    (UnknownAnswer, 404, "invalid_request_error", None),
    (UnknownModelName, 404, "invalid_request_error", "model_not_found"),
    (ContextTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (InvalidRequest, 400, "invalid_request_error", None),
    (NotSupported, 400, "invalid_request_error", "not_supported"),
    (PolicyRefused, 403, "policy_refused", None),
    (Overloaded, 429, "overloaded", "overloaded"),
    (DeadlineExceeded, 503, "timeout", "deadline_exceeded"),
    (Unavailable, 503, "unavailable", "unavailable"),
    (InternalError, 500, "server_error", "internal_error"),
)
"""Class, status, type, code; the first that fits."""


def error_response(error: IsthmusError, trail: Trail | None = None) -> HttpError:
    """An error of ours in OpenAI's shape. What is not the caller's doing never gets a 4xx."""
    status, kind, code = 503, "unavailable", error.kind
    for form, form_status, form_kind, form_code in _FORMS:
        if isinstance(error, form):
            status, kind, code = form_status, form_kind, form_code or error.kind
            break
    extra = headers(trail) if trail is not None else {}
    if isinstance(error, PolicyRefused):
        code = error.reason
    if isinstance(error, Overloaded):
        extra["retry-after"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, DeadlineExceeded):
        # Its client has waited long enough; the same request would take as long again.
        extra["x-should-retry"] = "false"
    param = "messages" if isinstance(error, ContextTooLong) and not error.field else error.field
    body = error_body(error.message, kind=kind, param=param, code=code)
    if trail is not None and trail.decision is not None and trail.status is not Status.OK:
        body["isthmus"] = isthmus_object(trail)
    return HttpError(status, body, extra)


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None, code: str | None
) -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
