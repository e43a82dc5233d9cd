"""What a tier says of itself: its model, what that can do and costs, and how busy it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from isthmus.core.money import Price


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as a backend serves it."""

    model: str
    backend: str
    context_tokens: int = 0
    """The most tokens of prompt and answer together; 0: not known."""
    price: Price = field(default_factory=Price)
    same_model_demo: bool = False
    """The cloud's model is the device's own: a demonstration, not a better answer."""
    supports_tools: bool = False
    supports_images: bool = False
    supports_json: bool = False
    verifies_drafts: bool = False
    """It can judge a draft that a request brings (`ChatRequest.draft`)."""
    continues_answers: bool = True
    """It goes on with an answer that was begun elsewhere (`ChatRequest.answer_so_far`)."""
    sha256: str = ""
    """Of the model's weights, in hexadecimal; empty: the backend does not tell."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a tier is, in requests. A maximum of 0 is not known."""

    running_requests: int = 0
    waiting_requests: int = 0
    max_running_requests: int = 0
    max_waiting_requests: int = 0
    draining: bool = False
    engines: int = 1
    """How many engines share the requests; never on the wire."""
