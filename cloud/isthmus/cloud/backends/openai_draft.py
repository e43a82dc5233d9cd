"""Judging a draft by an OpenAI-compatible server of vLLM: its `prompt_logprobs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from isthmus.cloud.drafts import JudgedToken, ends_of

JUDGING: Final[dict[str, Any]] = {
    "stream": False,
    "stream_options": None,
    "prompt_logprobs": 0,
    "max_tokens": 1,
    "temperature": 0,
    "logprobs": False,
    "top_logprobs": None,
}
"""What makes a request for an answer one for log-probabilities: those of the prompt's own tokens,
and of nothing else. vLLM refuses them in a stream."""


def read_judged(body: bytes, draft: str) -> list[JudgedToken] | None:
    """The tokens of `draft`, with which the prompt ended; None when the answer does not tell them.

    vLLM tells each token's text, with U+FFFD for a part of a character: a draft that has one cannot
    be found again. A template may have cut the draft's last spaces.
    """
    try:
        rows = json.loads(body)["prompt_logprobs"]
        # No token of a text holds less than a byte of it.
        told = [_own(row) for row in rows[1:][-len(draft.encode()) :]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    raw = [text.encode() for text, _, _ in told]
    for kept in (draft, draft.rstrip()):
        ends = ends_of(raw, kept)
        if ends is not None:
            last = zip(ends, told[-len(ends) :], strict=True)
            return [JudgedToken(end, logprob, best) for end, (_, logprob, best) in last]
    return None


def _own(row: Mapping[str, Mapping[str, Any]]) -> tuple[str, float, bool]:
    """Text, log-probability and whether none is likelier, of the token that is in the prompt.

    With `prompt_logprobs` 0 it is the one in the row.
    """
    (one,) = row.values()
    return str(one["decoded_token"]), float(one["logprob"]), one.get("rank") == 1
