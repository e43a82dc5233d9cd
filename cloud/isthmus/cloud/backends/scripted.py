"""An engine that counts at a pace instead of thinking: for load, faults and first steps.

It says `isthmus.cloud.load.script`'s text, as many tokens as were asked for, and goes on from an
answer begun elsewhere. What it did can be read from its journal, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isthmus.cloud.backends.base import BackendConfig, check_options, refuse_settings
from isthmus.cloud.drafts import JudgedToken
from isthmus.cloud.load import script
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import ConfigError, InvalidRequest, NotSupported
from isthmus.core.events import Delta, Event, Finished, FinishReason, Started
from isthmus.core.money import Usage
from isthmus.core.tier import Load, ModelInfo

_PROMPT_TOKENS = 8
_CONTEXT_TOKENS = 1 << 20


class CountingOptions(BaseModel):
    """`[backend.options]` of the scripted backend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_token_ms: float = Field(default=0.0, ge=0)
    """How long it "reads" the prompt."""
    tokens_per_s: float = Field(default=0.0, ge=0)
    """The pace of one answer; 0: as fast as it is taken."""
    tokens: int = Field(default=64, ge=1)
    """Of an answer whose request sets no limit."""
    journal: Path | None = None
    """A file that gets a line when an answer begins and one when it ends or is stopped."""


class CountingBackend:
    """Counts; see the module."""

    def __init__(self, config: BackendConfig) -> None:
        refuse_settings(
            config, "url", "urls", "upstreams", "api_key", "threads", "connect_timeout_s"
        )
        check_options(config, CountingOptions.model_fields)
        try:
            self._options = CountingOptions.model_validate(config.options)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise ConfigError(
                f"backend.options.{name}: {error.errors()[0]['msg']}",
                field=f"backend.options.{name}",
            ) from None
        self._journal: int | None = None
        self._running = 0

    async def start(self) -> None:
        """Open the journal. Raises `ConfigError` where it cannot be written."""
        if self._options.journal is None:
            return
        try:
            self._journal = os.open(
                self._options.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
            )
        except OSError as error:
            raise ConfigError(
                f"backend.options.journal cannot be written ({error.strerror})",
                field="backend.options.journal",
            ) from error

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Count from where the answer is, at the pace."""
        options, mark = self._options, script.mark_of(request)
        tokens = options.tokens if request.max_tokens is None else request.max_tokens
        pause_s = 1.0 / options.tokens_per_s if options.tokens_per_s else 0.0
        said = 0
        how = "stopped"
        self._running += 1
        self._note(mark, "began", 0)
        try:
            due_s = time.monotonic() + options.first_token_ms / 1e3
            await asyncio.sleep(options.first_token_ms / 1e3)
            yield Started("scripted", _PROMPT_TOKENS)
            for piece in script.rest(mark, request.answer_so_far, tokens):
                # By the clock, so that a busy machine makes bursts and not a slower engine.
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                due_s += pause_s
                said += 1
                yield Delta(piece)
            how = "whole"
            stopped = FinishReason.STOP if request.max_tokens is None else FinishReason.LENGTH
            yield Finished(stopped, Usage(_PROMPT_TOKENS, said))
        except ValueError:
            raise InvalidRequest(
                "answer_so_far is not the start of the scripted answer", field="answer_so_far"
            ) from None
        finally:
            self._running -= 1
            self._note(mark, how, said)

    async def judge(self, request: ChatRequest) -> Sequence[JudgedToken]:
        """Never."""
        raise NotSupported("the scripted backend judges no drafts", field="draft")

    async def health(self) -> None:
        """Always well."""

    def load(self) -> Load:
        """What is running."""
        return Load(running_requests=self._running)

    def info(self) -> ModelInfo:
        """A model that counts."""
        return ModelInfo("scripted", backend="scripted", context_tokens=_CONTEXT_TOKENS)

    def collectors(self) -> Sequence[Any]:
        """None."""
        return ()

    async def close(self) -> None:
        """Close the journal."""
        journal, self._journal = self._journal, None
        if journal is not None:
            os.close(journal)

    def _note(self, mark: str, what: str, said: int) -> None:
        if self._journal is not None:
            line = {"mark": mark, "what": what, "said": said, "at_s": time.monotonic()}
            os.write(self._journal, json.dumps(line).encode() + b"\n")


def create(config: BackendConfig) -> CountingBackend:
    """The registry's factory."""
    return CountingBackend(config)
