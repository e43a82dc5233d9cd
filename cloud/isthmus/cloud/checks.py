"""What the gateway asks of a request before any work: ranges, abilities, privacy."""

from __future__ import annotations

import math
from collections.abc import Set

from isthmus.core.chat import ChatRequest, ImagePart, PrivacyClass, ResponseKind, ToolChoice
from isthmus.core.decision import Reason
from isthmus.core.errors import InvalidRequest, NotSupported, PolicyRefused
from isthmus.core.tier import ModelInfo

_MAX_STOP_TEXTS = 16
_MAX_TOP_LOGPROBS = 20


def check_request(request: ChatRequest, info: ModelInfo, accepted: Set[PrivacyClass]) -> None:
    """Raise `InvalidRequest`, `NotSupported` or `PolicyRefused` for what must not go on."""
    if request.privacy_class not in accepted:
        raise PolicyRefused(
            f"requests of privacy class {request.privacy_class.value!r} are not answered in the "
            "cloud; answer on the device, or redact first",
            reason=Reason.PRIVACY_LOCAL_ONLY.value,
            field="privacy_class",
        )
    if request.model and request.model != info.model:
        raise InvalidRequest(
            f"this gateway serves {info.model!r}; leave model empty or name that", field="model"
        )
    _check_sampling(request)
    _check_abilities(request, info)


def _check_sampling(request: ChatRequest) -> None:
    sampling = request.sampling
    _in_range("temperature", sampling.temperature, 0, 2)
    _in_range("top_p", sampling.top_p, 0, 1, open_low=True)
    _in_range("min_p", sampling.min_p, 0, 1)
    _in_range("repetition_penalty", sampling.repetition_penalty, 0, 10, open_low=True)
    _in_range("presence_penalty", sampling.presence_penalty, -2, 2)
    _in_range("frequency_penalty", sampling.frequency_penalty, -2, 2)
    if request.max_tokens == 0:
        raise InvalidRequest("max_tokens must be at least 1", field="max_tokens")
    if len(sampling.stop) > _MAX_STOP_TEXTS or not all(sampling.stop):
        raise InvalidRequest(
            f"stop must be at most {_MAX_STOP_TEXTS} texts, none of them empty", field="stop"
        )
    if sampling.top_logprobs is not None and sampling.top_logprobs > _MAX_TOP_LOGPROBS:
        raise InvalidRequest(
            f"top_logprobs must be at most {_MAX_TOP_LOGPROBS}", field="top_logprobs"
        )


def _check_abilities(request: ChatRequest, info: ModelInfo) -> None:
    wants_tools = bool(request.tools) and request.tool_choice is not ToolChoice.NONE
    if wants_tools and not info.supports_tools:
        raise NotSupported(f"{info.model!r} cannot call tools here", field="tools")
    if request.response_format.kind is not ResponseKind.TEXT and not info.supports_json:
        raise NotSupported(f"{info.model!r} cannot be held to JSON here", field="response_format")
    if not info.supports_images:
        for i, message in enumerate(request.messages):
            if any(isinstance(part, ImagePart) for part in message.content):
                raise NotSupported(
                    f"{info.model!r} does not read images", field=f"messages[{i}].content"
                )


def _in_range(field: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    above = value > low if open_low else value >= low
    if not (math.isfinite(value) and above and value <= high):
        bracket = "(" if open_low else "["
        raise InvalidRequest(f"{field} must be in {bracket}{low}, {high}]", field=field)
