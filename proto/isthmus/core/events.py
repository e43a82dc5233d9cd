"""What a generation yields, on the device and in the cloud alike.

A stream is `Started`, any number of `Delta`, then one `Finished`; a failure is an exception of
`isthmus.core.errors` in its place. Closing the iterator stops the work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from isthmus.core.chat import ChatRequest
from isthmus.core.money import Usage


class FinishReason(StrEnum):
    """Why an answer ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """A candidate for one position. `token` is its text, `raw` its exact bytes."""

    token: str
    logprob: float
    raw: bytes


@dataclass(frozen=True, slots=True)
class TokenLogprob(TopLogprob):
    """The chosen token with the best candidates of its position, best first."""

    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call: `index` says which; `id` and `name` come with its first piece."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class DraftVerdict:
    """What became of the draft that a request brought."""

    judged: bool
    """Whether the model looked at it. One that was not is dropped whole."""
    accepted_bytes: int = 0
    """How much of it stands, in bytes of UTF-8, at the end of a character. The answer's first piece
    comes right behind it and does not repeat it."""
    accepted_tokens: int = 0
    """The same in the model's tokens."""
    tokens: int = 0
    """The whole draft in the model's tokens."""


@dataclass(frozen=True, slots=True)
class Started:
    """The work has begun: which model answers, and how much of the prompt was cached."""

    model: str
    prompt_tokens: int
    cached_tokens: int = 0
    same_model_demo: bool = False
    """The cloud's model is the device's own: a demonstration, not a better answer."""
    draft: DraftVerdict | None = None
    """What became of the request's draft; None when it brought none."""
    anew: bool = False
    """It does not continue the request's `answer_so_far`, which its model cannot do: what follows
    is an answer from its beginning."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """What a model says of its own doubt before it writes: its first token's distribution.

    The model's own, before a constraint, temperature and penalties change anything.
    """

    margin: float
    """Log-probability of the best token less that of the second; nats, 0 or more."""
    entropy: float
    """Of the whole distribution; nats, 0 to the logarithm of the vocabulary."""
    logprob: float
    """Of the best token; nats, 0 or less."""
    hidden: tuple[float, ...] = ()
    """The normed final hidden state at the prompt's last position; empty: the backend has none."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer: whole characters only, and how many tokens it took."""

    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    token_ids: tuple[int, ...] = ()
    """The tokens themselves, where they are known: never on the wire, tokenizers differ."""
    first_token: FirstToken | None = None
    """With the first piece of a watched request (`ChatRequest.watched`); never on the wire."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer."""

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)


Event = Started | Delta | Finished


class Generator(Protocol):
    """Whatever answers chat requests: the device, the gateway's client, a cloud backend."""

    def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer `request`. Raises an `IsthmusError`; `aclose()` on the iterator stops the work."""
        ...
