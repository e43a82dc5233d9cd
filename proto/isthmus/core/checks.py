"""What both tiers ask of a request, whoever made it."""

from __future__ import annotations

import math

from isthmus.core.chat import Sampling
from isthmus.core.errors import InvalidRequest

_MAX_STOP_TEXTS = 16
_MAX_TOP_LOGPROBS = 20


def check_sampling(sampling: Sampling) -> None:
    """Raise `InvalidRequest`, which names the field, for what no sampler can work with."""
    _in_range("temperature", sampling.temperature, 0, 2)
    _in_range("top_p", sampling.top_p, 0, 1, open_low=True)
    _in_range("min_p", sampling.min_p, 0, 1)
    _in_range("repetition_penalty", sampling.repetition_penalty, 0, 10, open_low=True)
    _in_range("presence_penalty", sampling.presence_penalty, -2, 2)
    _in_range("frequency_penalty", sampling.frequency_penalty, -2, 2)
    if len(sampling.stop) > _MAX_STOP_TEXTS or not all(sampling.stop):
        raise InvalidRequest(
            f"stop must be at most {_MAX_STOP_TEXTS} texts, none of them empty", field="stop"
        )
    if sampling.top_logprobs is not None and sampling.top_logprobs > _MAX_TOP_LOGPROBS:
        raise InvalidRequest(
            f"top_logprobs must be at most {_MAX_TOP_LOGPROBS}", field="top_logprobs"
        )


def _in_range(field: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    above = value > low if open_low else value >= low
    if not (math.isfinite(value) and above and value <= high):
        bracket = "(" if open_low else "["
        raise InvalidRequest(f"{field} must be in {bracket}{low}, {high}]", field=field)
