"""What one request, one answer and one connection may take: the section `[limits]`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LimitsConfig(BaseModel):
    """Bounds of the gateway. Beyond them a request is refused, an answer or a connection ends."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_messages: int = Field(default=4_096, ge=1)
    """Messages of a conversation."""
    max_prompt_tokens: int = Field(default=262_144, ge=1)
    """Tokens of a prompt, as the backend counts them; far longer ones never reach it."""
    max_completion_tokens: int = Field(default=32_768, ge=1)
    """Tokens of an answer; one that would be longer ends there."""
    max_answer_s: float = Field(default=600.0, gt=0)
    """The longest that a call may take, queue and all; no deadline is later."""
    max_backend_waiting: int = Field(default=16, ge=0)
    """Requests that may wait in the backend's own queue; while more do, others wait here, where
    priorities and deadlines count."""
    replay_s: float = Field(default=60.0, ge=0)
    """How long an answer that ended is kept, for its device to ask for it again."""
    replay_max_answers: int = Field(default=10_000, ge=0)
    """The most answers that are kept so."""
    replay_max_bytes: int = Field(default=64 * 2**20, ge=0)
    """The most memory that they take."""
    max_connection_age_s: float = Field(default=900.0, gt=0)
    """After about so long a connection is closed once its streams have ended, so that its device
    comes back to whichever gateway has room."""
