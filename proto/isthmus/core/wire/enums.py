"""Enums between core's names and the wire's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from isthmus.core import chat, events
from isthmus.core.decision import Status, Target
from isthmus.core.errors import InvalidRequest
from isthmus.v1 import chat_pb2, gateway_pb2, outcome_pb2

ROLES: Final = {
    chat.Role.SYSTEM: chat_pb2.ROLE_SYSTEM,
    chat.Role.DEVELOPER: chat_pb2.ROLE_DEVELOPER,
    chat.Role.USER: chat_pb2.ROLE_USER,
    chat.Role.ASSISTANT: chat_pb2.ROLE_ASSISTANT,
    chat.Role.TOOL: chat_pb2.ROLE_TOOL,
}
TOOL_CHOICES: Final = {
    chat.ToolChoice.AUTO: chat_pb2.TOOL_CHOICE_AUTO,
    chat.ToolChoice.NONE: chat_pb2.TOOL_CHOICE_NONE,
    chat.ToolChoice.REQUIRED: chat_pb2.TOOL_CHOICE_REQUIRED,
}
RESPONSE_KINDS: Final = {
    chat.ResponseKind.TEXT: chat_pb2.RESPONSE_KIND_TEXT,
    chat.ResponseKind.JSON_OBJECT: chat_pb2.RESPONSE_KIND_JSON_OBJECT,
    chat.ResponseKind.JSON_SCHEMA: chat_pb2.RESPONSE_KIND_JSON_SCHEMA,
}
PRIVACY_CLASSES: Final = {
    chat.PrivacyClass.PUBLIC: chat_pb2.PRIVACY_CLASS_PUBLIC,
    chat.PrivacyClass.REDACTED: chat_pb2.PRIVACY_CLASS_REDACTED,
    chat.PrivacyClass.SENSITIVE: chat_pb2.PRIVACY_CLASS_SENSITIVE,
    chat.PrivacyClass.UNKNOWN: chat_pb2.PRIVACY_CLASS_UNKNOWN,
}
PRIORITIES: Final = {
    chat.Priority.INTERACTIVE: gateway_pb2.PRIORITY_INTERACTIVE,
    chat.Priority.NORMAL: gateway_pb2.PRIORITY_NORMAL,
    chat.Priority.BATCH: gateway_pb2.PRIORITY_BATCH,
}
FINISH_REASONS: Final = {
    events.FinishReason.STOP: gateway_pb2.FINISH_REASON_STOP,
    events.FinishReason.LENGTH: gateway_pb2.FINISH_REASON_LENGTH,
    events.FinishReason.TOOL_CALLS: gateway_pb2.FINISH_REASON_TOOL_CALLS,
    events.FinishReason.CONTENT_FILTER: gateway_pb2.FINISH_REASON_CONTENT_FILTER,
}
TARGETS: Final = {
    Target.EDGE: outcome_pb2.TARGET_EDGE,
    Target.CLOUD: outcome_pb2.TARGET_CLOUD,
}
STATUSES: Final = {
    Status.OK: outcome_pb2.OUTCOME_STATUS_OK,
    Status.CANCELLED: outcome_pb2.OUTCOME_STATUS_CANCELLED,
    Status.REFUSED: outcome_pb2.OUTCOME_STATUS_REFUSED,
    Status.FAILED: outcome_pb2.OUTCOME_STATUS_FAILED,
}

_K = TypeVar("_K")


def name_of(numbers: Mapping[_K, Any], number: int, field: str, unset: _K | None = None) -> _K:
    """The core name of an enum's number; 0 is `unset` where a default exists."""
    if number == 0 and unset is not None:
        return unset
    for name, known in numbers.items():
        if known == number:
            return name
    raise InvalidRequest(f"{field} is not set or not a value that is known here", field=field)
