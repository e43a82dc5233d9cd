"""The edge engine as a cloud backend: the default, for a demo and for small clouds without a GPU.

The only module of the gateway that imports the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.cloud.backends.base import BackendConfig, check_options, refuse_settings
from isthmus.cloud.drafts import JudgedToken, ends_of
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import NotSupported, Unavailable
from isthmus.core.events import Event
from isthmus.core.tier import Load, ModelInfo

if TYPE_CHECKING:
    from isthmus.engine.engine import Engine


class EmbeddedBackend:
    """One engine in this process. Reads `model`, `threads` and the option `backend`."""

    def __init__(self, config: BackendConfig) -> None:
        refuse_settings(config, "url", "urls", "upstreams", "api_key", "connect_timeout_s")
        check_options(config, ["backend"])
        self._config = config
        self._engine: Engine | None = None
        self._sha256 = ""

    async def start(self) -> None:
        """Load the model. Raises the engine's errors when it is not there or not readable."""
        from isthmus.engine.engine import Engine
        from isthmus.engine.sources.catalogue import sha256_known

        config = self._config
        compute = str(config.options.get("backend", "auto"))
        # Side by side: a file that no catalogue knows takes a second a gigabyte to sum.
        self._engine, self._sha256 = await asyncio.gather(
            asyncio.to_thread(Engine.open, config.model, backend=compute, threads=config.threads),
            asyncio.to_thread(sha256_known, config.model),
        )

    def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer with the engine."""
        return self._opened().generate(request)

    async def judge(self, request: ChatRequest) -> list[JudgedToken]:
        """The draft's tokens by one prefill, which the answer then finds in the cache."""
        told = await self._opened().judge(request)
        ends = ends_of([raw for raw, _, _ in told], request.draft)
        if ends is None:
            raise NotSupported("the model's tokenizer changes the draft's text", field="draft")
        last = told[-len(ends) :]
        return [JudgedToken(end, lp, best) for end, (_, lp, best) in zip(ends, last, strict=True)]

    async def health(self) -> None:
        """Healthy once the model is loaded."""
        self._opened()

    def load(self) -> Load:
        """What the engine runs and queues."""
        engine = self._opened()
        return Load(running_requests=engine.running, waiting_requests=engine.queue_depth)

    def info(self) -> ModelInfo:
        """The engine's model."""
        engine = self._opened()
        return ModelInfo(
            model=engine.model_name,
            backend="embedded",
            context_tokens=engine.context_tokens,
            supports_tools=engine.supports_tools,
            supports_json=engine.supports_json,
            verifies_drafts=True,
            sha256=self._sha256,
        )

    def collectors(self) -> Sequence[Any]:
        """None: the engine's figures are the agent's to show."""
        return ()

    async def close(self) -> None:
        """Stop the engine and free its memory."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    def _opened(self) -> Engine:
        if self._engine is None:
            raise Unavailable("the embedded backend is not started")
        return self._engine


def create(config: BackendConfig) -> EmbeddedBackend:
    """The registry's factory."""
    return EmbeddedBackend(config)
