"""`POST /v1/feedback`: a person says whether an answer was good. No text is taken."""

from __future__ import annotations

from typing import Any

from isthmus.core.errors import InvalidRequest
from isthmus.edge.fields import Field

RATINGS = {"up": 1.0, "down": 0.0}
"""What a thumb is worth as a quality."""


class UnknownAnswer(InvalidRequest):
    """No finished answer has this id."""

    kind = "answer_not_found"


def parse_feedback(body: Any) -> tuple[str, float]:
    """The request's id and how good its answer was found. Raises `InvalidRequest`.

    The id is the answer's `x-request-id`; `chatcmpl-…`, as the answer's body names it, does too.
    """
    root = Field(body).object()
    root.only("request_id", "rating")
    request_id = root.need("request_id").text().removeprefix("chatcmpl-")
    return request_id, RATINGS[root.need("rating").choice(*RATINGS)]


def unknown_answer() -> UnknownAnswer:
    """The error for an id that nothing is known of."""
    return UnknownAnswer(
        "'request_id' names no finished answer that this device remembers: it is the answer's "
        "x-request-id",
        field="request_id",
    )
