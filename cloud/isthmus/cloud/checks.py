"""What the gateway asks of a request before any work: ranges, abilities, privacy."""

from __future__ import annotations

from collections.abc import Set

from isthmus.core.chat import ChatRequest, ImagePart, PrivacyClass, ResponseKind, ToolChoice
from isthmus.core.checks import check_sampling
from isthmus.core.decision import Reason
from isthmus.core.errors import InvalidRequest, NotSupported, PolicyRefused
from isthmus.core.tier import ModelInfo


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
    check_sampling(request.sampling)
    if request.max_tokens == 0:
        raise InvalidRequest("max_tokens must be at least 1", field="max_tokens")
    _check_abilities(request, info)


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
