"""One tier's share of an answer: what it computed, what of it was seen, how it ended, its price."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.core.decision import Target
from isthmus.core.events import Delta, DraftVerdict, Started
from isthmus.core.money import Usage
from isthmus.core.tracing.base import NO_SPAN, Span


class LegEnd(StrEnum):
    """What became of one tier's work on an answer."""

    RUNNING = "running"
    ANSWERED = "answered"
    """It wrote the end of the answer."""
    FAILED = "failed"
    LOST = "lost"
    """The other tier was quicker to show something: this one was stopped."""
    DOUBTED = "doubted"
    """It doubted its own answer, and the other tier went on."""
    STOPPED = "stopped"
    """The answer ended from outside: the client went away, or the limits were reached."""


@dataclass(slots=True)
class Leg:
    """One tier's share of an answer."""

    target: Target
    expected_prompt_tokens: int = 0
    """What the prompt is taken to have when a tier is stopped before it tells."""
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    """Computed, whether anybody saw them or not."""
    shown_tokens: int = 0
    """Those of them that are in the answer."""
    draft: DraftVerdict | None = None
    """What the cloud made of the device's draft."""
    draft_stands: bool = False
    """What it wrote and did not show is in the answer: the cloud let it stand."""
    sent_bytes: int = 0
    """What left the device for it."""
    end: LegEnd = LegEnd.RUNNING
    error_kind: str = ""
    same_model_demo: bool = False
    prefill_backend: str | None = None
    decode_backend: str | None = None
    """The device's, last; the cloud does not tell its own."""
    span: Span = NO_SPAN
    began_s: float = field(default_factory=time.monotonic)
    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None

    @property
    def queued_ms(self) -> float:
        """From the leg's begin until the tier set to work: what it waited in line for."""
        return 0.0 if self.started_s is None else (self.started_s - self.began_s) * 1000

    @property
    def usage(self) -> Usage:
        """What this tier computed."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def ttft_ms(self) -> float | None:
        """From the leg's begin to the first piece that the tier wrote, held back or not."""
        if self.first_token_s is None:
            return None
        return (self.first_token_s - self.began_s) * 1000

    @property
    def writing_ms(self) -> float | None:
        """From the first piece that the tier wrote to its last."""
        if self.first_token_s is None or self.last_token_s is None:
            return None
        return (self.last_token_s - self.first_token_s) * 1000

    @property
    def tpot_ms(self) -> float | None:
        """Time per token that it wrote after the first."""
        writing_ms = self.writing_ms
        if writing_ms is None or self.completion_tokens < 2:
            return None
        return writing_ms / (self.completion_tokens - 1)

    @property
    def accepted_tokens(self) -> int:
        """Tokens of the device's draft that the cloud let stand."""
        return 0 if self.draft is None else self.draft.accepted_tokens

    @property
    def in_answer(self) -> bool:
        """Whether a part of the answer is its own."""
        return self.shown_tokens > 0 or self.draft_stands

    @property
    def dropped_tokens(self) -> int:
        """Computed for nobody."""
        return max(0, self.completion_tokens - self.shown_tokens)

    @property
    def billed(self) -> Usage:
        """What the cloud will ask to be paid for. A call that failed with nothing is free; one that
        was stopped is not, for its prompt was computed by then or is about to be.
        """
        if self.target is Target.EDGE:
            return Usage()
        if self.completion_tokens or self.end is LegEnd.ANSWERED:
            return self.usage
        stopped = self.end in {LegEnd.LOST, LegEnd.STOPPED} and self.sent_bytes > 0
        prompt_tokens = self.prompt_tokens or self.expected_prompt_tokens
        return Usage(prompt_tokens, 0, self.cached_tokens) if stopped else Usage()

    def started(self, event: Started) -> None:
        """The tier has begun."""
        self.started_s = time.monotonic()
        self.model = event.model
        self.prompt_tokens = event.prompt_tokens
        self.cached_tokens = event.cached_tokens
        self.same_model_demo = event.same_model_demo
        self.draft = event.draft

    def wrote(self, delta: Delta) -> float | None:
        """The tier has written a piece; whether it is shown is another matter.

        Tells how long after the piece before, in seconds; None for the first.
        """
        self.completion_tokens += delta.tokens
        if not delta.tokens or not (delta.text or delta.tool_calls):
            return None
        before_s, self.last_token_s = self.last_token_s, time.monotonic()
        if before_s is None:
            self.first_token_s = self.last_token_s
            self.span.event("first token")
            return None
        return self.last_token_s - before_s

    def finished(self, usage: Usage) -> None:
        """The tier's own count stands over what was counted piece by piece."""
        self.end = LegEnd.ANSWERED
        self.prompt_tokens = usage.prompt_tokens or self.prompt_tokens
        self.cached_tokens = usage.cached_tokens or self.cached_tokens
        unseen = self.dropped_tokens
        self.completion_tokens = usage.completion_tokens or self.completion_tokens
        self.shown_tokens = max(0, self.completion_tokens - unseen)

    def ran_on(self, prefill_backend: str, decode_backend: str) -> None:
        """The device computes with these by now."""
        self.prefill_backend = prefill_backend
        self.decode_backend = decode_backend
