"""What the gateway asks of a request before any work: ranges, bounds, abilities, privacy."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Final

from isthmus.cloud.limits import LimitsConfig
from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    PrivacyClass,
    ResponseKind,
    ToolChoice,
)
from isthmus.core.checks import check_sampling
from isthmus.core.decision import Reason
from isthmus.core.errors import ContextTooLong, InvalidRequest, NotSupported, PolicyRefused
from isthmus.core.tier import ModelInfo
from isthmus.v1 import gateway_pb2

_MAX_ID_CHARS: Final = 128
_BYTES_PER_TOKEN: Final = 4
_LONGEST_TOKEN: Final = 64
"""Characters, and more than any answer's tokens have on the average."""
_SURELY: Final = 4
"""No prompt's tokens have so many times the usual length."""


def check_request(request: ChatRequest, info: ModelInfo, accepted: Set[PrivacyClass]) -> None:
    """Raise `InvalidRequest`, `NotSupported` or `PolicyRefused` for what must not go on."""
    if request.privacy_class not in accepted:
        raise PolicyRefused(
            f"requests of privacy class {request.privacy_class.value!r} are not answered in the "
            "cloud; answer on the device, or redact first",
            reason=Reason.PRIVACY_LOCAL_ONLY.value,
            field="privacy_class",
        )
    if len(request.request_id) > _MAX_ID_CHARS:
        raise InvalidRequest(
            f"request_id must be at most {_MAX_ID_CHARS} characters", field="request_id"
        )
    if request.model and request.model != info.model:
        raise InvalidRequest(
            f"this gateway serves {info.model!r}; leave model empty or name that", field="model"
        )
    check_sampling(request.sampling)
    if request.max_tokens == 0:
        raise InvalidRequest("max_tokens must be at least 1", field="max_tokens")
    _check_abilities(request, info)


def bounded(
    request: ChatRequest, limits: LimitsConfig, prompt_tokens: int, remaining_s: float | None
) -> ChatRequest:
    """The request within `limits`, its deadline at most `remaining_s` from now.

    `prompt_tokens` is an estimate; what is not surely too long is left to the backend's count.
    Raises `InvalidRequest`, `ContextTooLong` or `DeadlineExceeded`.
    """
    if len(request.messages) > limits.max_messages:
        raise InvalidRequest(f"messages must be at most {limits.max_messages}", field="messages")
    if prompt_tokens > _SURELY * limits.max_prompt_tokens:
        raise too_long(limits)
    most = limits.max_completion_tokens
    if request.received_tokens > most:
        raise InvalidRequest(
            f"received_tokens must be at most {most}, as no answer has more",
            field="received_tokens",
        )
    if len(request.received or "") > _LONGEST_TOKEN * most:
        raise InvalidRequest("received is longer than any answer", field="received")
    deadline = request.deadline.at_most(remaining_s).at_most(limits.max_answer_s)
    deadline.check()
    wanted = request.max_tokens
    return replace(
        request, deadline=deadline, max_tokens=None if wanted is None else min(wanted, most)
    )


def too_long(limits: LimitsConfig) -> ContextTooLong:
    """The refusal of a prompt over the limit."""
    return ContextTooLong(
        f"this gateway takes prompts of at most {limits.max_prompt_tokens} tokens; shorten it",
        field="messages",
    )


def prompt_tokens(message: gateway_pb2.GenerateRequest) -> int:
    """About how many tokens the prompt has, from its size, without images and what was received."""
    images = sum(
        len(part.image.url)
        for turn in message.messages
        for part in turn.content
        if part.HasField("image")
    )
    size = message.ByteSize() - images - len(message.received)
    return max(0, size) // _BYTES_PER_TOKEN + 1


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
