"""What a decision is made from: one frozen record a request, gathered once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isthmus.core.chat import (
    ChatRequest,
    ImagePart,
    ResponseKind,
    Role,
    RoutePreference,
    ToolChoice,
)
from isthmus.core.decision import Target
from isthmus.core.money import Price
from isthmus.privacy.scan import ScanResult, scan_request
from isthmus.router.budget import BudgetState
from isthmus.router.latency import Prediction
from isthmus.router.quality import Quality, estimate


class Capability(StrEnum):
    """What a request may need of a tier beyond text in and text out."""

    TOOLS = "tools"
    IMAGES = "images"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """What the device's sensors say. A sensor that is not there is `None`, never zero."""

    battery: float | None = None
    """How full, 0 to 1."""
    charging: bool | None = None
    battery_wh: float | None = None
    """Its capacity."""
    battery_temperature_c: float | None = None
    temperature_c: float | None = None
    """The hottest part of the processor."""
    throttled: bool | None = None
    """The system holds the processor back because it is hot."""
    load: float | None = None
    """The part of the processor that is busy, 0 to 1."""
    memory_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EdgeState:
    """What is known of the device. A figure that was not measured is `None`, never zero."""

    available: bool = True
    """A model is loaded and works."""
    context_tokens: int = 8192
    """What the engine offers unless it is told otherwise."""
    capabilities: frozenset[Capability] = frozenset()
    latency: Prediction = field(default_factory=Prediction)
    """For this request."""


@dataclass(frozen=True, slots=True)
class CloudState:
    """What is known of the cloud. A figure that was not measured is `None`, never zero."""

    available: bool = True
    """A gateway is configured and was reachable when last tried."""
    consented: bool = True
    """Somebody has consented to the use of the cloud."""
    breaker_open: bool = False
    context_tokens: int | None = None
    capabilities: frozenset[Capability] | None = None
    """None: the gateway has not told."""
    price: Price = field(default_factory=Price)
    rtt_ms: float | None = None
    latency: Prediction = field(default_factory=Prediction)
    """For this request."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the conversation left behind with each tier."""

    last: Target | None = None
    """Who answered last; None: this is its first turn, or nobody remembers."""
    edge_cached_tokens: int = 0
    """So many tokens of the prompt are in the device's cache."""
    cloud_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Signals:
    """Everything that `decide` looks at. No text: it can be logged, stored and replayed."""

    preference: RoutePreference
    privacy: ScanResult
    quality: Quality
    prompt_tokens: int
    max_tokens: int | None = None
    """The longest answer that the request allows, when it says."""
    usual_answer_tokens: float | None = None
    """How long answers were of late; None: there were none."""
    needs: frozenset[Capability] = frozenset()
    edge: EdgeState = field(default_factory=EdgeState)
    cloud: CloudState = field(default_factory=CloudState)
    device: DeviceHealth = field(default_factory=DeviceHealth)
    budget: BudgetState = field(default_factory=BudgetState)
    session: Session = field(default_factory=Session)
    elapsed_ms: float = 0.0
    """How long the request is here already: gone from what it was promised."""


def gather(
    request: ChatRequest,
    *,
    edge: EdgeState,
    cloud: CloudState,
    quality: Quality | None = None,
    privacy: ScanResult | None = None,
    prompt_tokens: int | None = None,
    device: DeviceHealth | None = None,
    budget: BudgetState | None = None,
    session: Session | None = None,
    usual_answer_tokens: float | None = None,
    elapsed_ms: float = 0.0,
) -> Signals:
    """The signals of `request`.

    `quality` is what a trained file says of it, else nothing is known of the pair; `privacy` saves
    a second scan when one was made; `prompt_tokens` is the device tokenizer's count when it is at
    hand, else `estimate_tokens` stands in.
    """
    return Signals(
        preference=request.preference,
        privacy=scan_request(request) if privacy is None else privacy,
        quality=estimate(request) if quality is None else quality,
        prompt_tokens=estimate_tokens(request) if prompt_tokens is None else prompt_tokens,
        max_tokens=request.max_tokens,
        usual_answer_tokens=usual_answer_tokens,
        needs=needs_of(request),
        edge=edge,
        cloud=cloud,
        device=device or DeviceHealth(),
        budget=budget or BudgetState(),
        session=session or Session(),
        elapsed_ms=elapsed_ms,
    )


def needs_of(request: ChatRequest) -> frozenset[Capability]:
    """What the request cannot do without."""
    needs: set[Capability] = set()
    offered = bool(request.tools) and request.tool_choice is not ToolChoice.NONE
    if offered or any(m.tool_calls or m.role is Role.TOOL for m in request.messages):
        needs.add(Capability.TOOLS)
    if any(isinstance(part, ImagePart) for m in request.messages for part in m.content):
        needs.add(Capability.IMAGES)
    if request.response_format.kind is ResponseKind.JSON_OBJECT:
        needs.add(Capability.JSON_OBJECT)
    if request.response_format.kind is ResponseKind.JSON_SCHEMA:
        needs.add(Capability.JSON_SCHEMA)
    return frozenset(needs)


TOKENS_PER_MESSAGE = 6
"""What a chat template adds around one message, roughly."""
TOKENS_PER_IMAGE = 256


def estimate_tokens(request: ChatRequest) -> int:
    """The prompt's length in tokens, from its characters: meant to be high rather than low.

    Byte-level BPE takes about four ASCII characters a token, and about two UTF-8 bytes a token
    for scripts that a small vocabulary hardly covers.
    """
    images = sum(isinstance(p, ImagePart) for m in request.messages for p in m.content)
    around = TOKENS_PER_MESSAGE * (len(request.messages) + len(request.tools))
    return around + TOKENS_PER_IMAGE * images + sum(map(text_tokens, _texts(request)))


def most_tokens(request: ChatRequest) -> int:
    """What the prompt's length in tokens cannot pass: no token is shorter than a byte.

    What a template adds around messages is counted generously.
    """
    messages = len(request.messages) + len(request.tools)
    images = sum(isinstance(p, ImagePart) for m in request.messages for p in m.content)
    texts = list(_texts(request))
    written = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return written + 64 * (messages + 1) + 16 * TOKENS_PER_IMAGE * images


def _texts(request: ChatRequest) -> Iterator[str]:
    """Everything in the request that becomes tokens."""
    yield request.answer_so_far
    yield request.draft
    for message in request.messages:
        yield from (message.text, message.name or "")
        yield from (call.name + call.arguments for call in message.tool_calls)
    for tool in request.tools:
        yield from (tool.name, tool.description, *_words(tool.parameters))


def _words(schema: Mapping[str, Any]) -> Iterator[str]:
    """The keys and values of a schema, each with its punctuation; any depth."""
    pending: list[Any] = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            yield from (f'"{key}": ' for key in value)
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
        else:
            yield f'"{value}", '


def text_tokens(text: str) -> int:
    ascii_count = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    bytes_beyond_ascii = len(text.encode("utf-8", "surrogatepass")) - ascii_count
    return -(-ascii_count // 4) + -(-bytes_beyond_ascii // 2)
