"""The device's tier: an engine that loads while the agent already serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from isthmus.core.chat import ChatRequest
from isthmus.core.errors import IsthmusError, Unavailable
from isthmus.core.events import Event

if TYPE_CHECKING:
    from isthmus.engine.fallback import Fallback
    from isthmus.engine.speculation import SpeculationCount

log = logging.getLogger(__name__)


class LocalEngine(Protocol):
    """What the agent needs of an engine (`isthmus.engine.engine.Engine`)."""

    @property
    def model_name(self) -> str: ...

    @property
    def context_tokens(self) -> int: ...

    @property
    def prefill_backend(self) -> str:
        """What computes prompts."""
        ...

    @property
    def decode_backend(self) -> str:
        """What writes answers."""
        ...

    @property
    def fallbacks(self) -> Mapping[Fallback, int]:
        """How often it went on with another backend."""
        ...

    @property
    def supports_tools(self) -> bool: ...

    @property
    def supports_json(self) -> bool: ...

    @property
    def queue_depth(self) -> int:
        """Requests that wait."""
        ...

    @property
    def running(self) -> int:
        """Requests that are being answered."""
        ...

    @property
    def speculated(self) -> SpeculationCount:
        """Tokens guessed so far, and those guessed right."""
        ...

    def generate(self, request: ChatRequest) -> AsyncIterator[Event]: ...

    def close(self) -> None: ...


class DeviceState(StrEnum):
    """Where the device's model stands."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Device:
    """A `Generator` over the engine that `load` opens, in a thread, once `start` is called.

    A request that must be answered here while the model still loads waits for it, as long as its
    deadline allows.
    """

    def __init__(self, load: Callable[[], LocalEngine]) -> None:
        self._load = load
        self._loading: threading.Thread | None = None
        self._loaded = asyncio.Event()
        self._closed = False
        self.engine: LocalEngine | None = None
        self.problem: str | None = None
        """Why the model could not be loaded."""

    @property
    def state(self) -> DeviceState:
        """Where the model stands."""
        if self.engine is not None:
            return DeviceState.READY
        return DeviceState.FAILED if self.problem is not None else DeviceState.LOADING

    @property
    def ready(self) -> bool:
        """Whether it can answer now."""
        return self.engine is not None

    def describe(self) -> dict[str, str]:
        """Model and backends, once it is loaded."""
        engine = self.engine
        if engine is None:
            return {}
        return {
            "model": engine.model_name,
            "prefill_backend": engine.prefill_backend,
            "decode_backend": engine.decode_backend,
        }

    def start(self) -> None:
        """Begin to load. Needs a running event loop."""
        if self._loading is None:
            # A daemon: a load cannot be interrupted, and must not keep the process from ending.
            self._loading = threading.Thread(
                target=self._open,
                args=(asyncio.get_running_loop(),),
                name="isthmus-load-model",
                daemon=True,
            )
            self._loading.start()

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        engine, problem = None, None
        try:
            engine = self._load()
        except IsthmusError as error:
            problem = error.message
            log.warning("the model could not be loaded: %s", problem)
        except Exception as error:
            problem = f"loading failed with {type(error).__name__}; the log has the trace"
            log.exception("the model could not be loaded")
        # A loop that is closed by now has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._opened, engine, problem)

    def _opened(self, engine: LocalEngine | None, problem: str | None) -> None:
        self.problem = problem
        if self._closed and engine is not None:
            engine.close()
        else:
            self.engine = engine
        self._loaded.set()

    async def wait(self) -> None:
        """Wait until the model is loaded or has failed to."""
        await self._loaded.wait()

    async def generate(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Answer on the device. Raises `Unavailable` when there is no model, and what it raises."""
        if self.engine is None:
            await self._loaded.wait()
        if self.engine is None:
            raise Unavailable(f"the device has no model: {self.problem}")
        events = self.engine.generate(request)
        try:
            async for event in events:
                yield event
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def close(self) -> None:
        """Free the engine. A load that is under way is left to itself."""
        self._closed = True
        engine, self.engine = self.engine, None
        self.problem = self.problem or "the agent is stopping"
        self._loaded.set()
        if engine is not None:
            await asyncio.to_thread(engine.close)
