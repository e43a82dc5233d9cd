"""A chat request, as every tier understands it. Frozen: it is passed on, never changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isthmus.core.deadline import Deadline
from isthmus.core.tracing.base import NO_SPAN, Span


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by URL (https or data). `detail` is OpenAI's low, high or auto."""

    url: str
    detail: str = "auto"


ContentPart = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call made by the assistant. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: tuple[ContentPart, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None
    """Whether the arguments must follow the schema exactly. The device always holds them to it."""


class ToolChoice(StrEnum):
    """Whether the model may call tools. A named tool is `REQUIRED` and its name."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class ResponseKind(StrEnum):
    """The form of the answer."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of the answer, with the schema when there is one."""

    kind: ResponseKind = ResponseKind.TEXT
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults sample freely; `temperature=0` is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    """`None`: no log-probabilities; n: the chosen token's and those of the n best."""


class RouteMode(StrEnum):
    """What the caller wants of the route."""

    AUTO = "auto"
    PREFER_ON_DEVICE = "prefer_on_device"
    ONLY_ON_DEVICE = "only_on_device"
    PREFER_IN_CLOUD = "prefer_in_cloud"
    ONLY_IN_CLOUD = "only_in_cloud"


class PrivacyClass(StrEnum):
    """What the privacy gate found in a request."""

    PUBLIC = "public"
    REDACTED = "redacted"
    """Values were found that may leave as placeholders alone."""
    SENSITIVE = "sensitive"
    UNKNOWN = "unknown"
    """The scan failed: treated as sensitive."""


class Priority(StrEnum):
    """Who is served first, and refused last, where there is a queue."""

    INTERACTIVE = "interactive"
    """Somebody looks at the screen."""
    NORMAL = "normal"
    BATCH = "batch"
    """Nobody waits."""


@dataclass(frozen=True, slots=True)
class RoutePreference:
    """The caller's wishes for one request (`extra_body={"isthmus": …}` over HTTP)."""

    mode: RouteMode = RouteMode.AUTO
    ttft_slo_ms: float | None = None
    max_price_usd: float | None = None
    conversation: str | None = None
    privacy: Mapping[str, str] = field(default_factory=dict)
    """A stricter privacy policy for this request: `preset`, or an action for a label."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request for one answer."""

    request_id: str
    messages: tuple[Message, ...]
    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO
    tool_name: str | None = None
    """The tool that must be called, when `tool_choice` is `REQUIRED` and one is named."""
    parallel_tool_calls: bool | None = None
    """Whether one answer may make several calls; None leaves it to the model."""
    response_format: ResponseFormat = field(default_factory=ResponseFormat)
    deadline: Deadline = Deadline.NEVER
    preference: RoutePreference = field(default_factory=RoutePreference)
    privacy_class: PrivacyClass = PrivacyClass.PUBLIC
    answer_so_far: str = ""
    """The start of the answer, written elsewhere: continue it, do not repeat it."""
    draft: str = ""
    """What may follow `answer_so_far`, proposed elsewhere and shown to nobody yet: the cloud judges
    it, goes on behind what it accepts (`Started.draft`), and drops the rest."""
    received: str | None = None
    """What an earlier attempt at this very request brought, from behind `answer_so_far` on, once it
    had started; None before. Nothing of it is repeated."""
    received_tokens: int = 0
    """The tokens of that text."""
    priority: Priority = Priority.NORMAL
    cache_salt: str = ""
    """Keeps its prefixes apart from those of other salts in caches that tenants share. Never on the
    wire: the gateway sets it from who is calling."""
    watched: bool = False
    """The router wants to see the device's doubt: `FirstToken` and every log-probability, whatever
    the sampling asks for. Never on the wire."""
    span: Span = field(default=NO_SPAN, compare=False, repr=False)
    """What works on it belongs to this span. Never on the wire, where its `traceparent` goes beside
    the request."""
