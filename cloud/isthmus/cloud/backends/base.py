"""What a cloud backend is: something that answers chat requests and tells how it is doing.

Life: made by its factory (cheap, nothing is loaded), `start()` (may take minutes), any number of
`generate()` at once, `close()`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from isthmus.cloud.drafts import JudgedToken
from isthmus.cloud.upstreams.config import UpstreamsConfig
from isthmus.core.chat import ChatRequest
from isthmus.core.errors import ConfigError
from isthmus.core.events import Event
from isthmus.core.misspelt import nearest
from isthmus.core.tier import Load, ModelInfo


class BackendConfig(BaseModel):
    """What a backend's factory needs, whichever it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: str = "embedded"
    model: str = "smollm2-135m"
    """A catalogue name, a folder or a file; for an upstream the name it knows."""
    url: str = ""
    """An upstream's base address, ending before `/chat/completions`."""
    urls: tuple[str, ...] = ()
    """Those of several upstreams that serve the same model, instead of `url`."""
    api_key: SecretStr | None = None
    """An upstream's key."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of an engine on the CPU; none: as many as it likes."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """How long an upstream may take to accept a connection."""
    upstreams: UpstreamsConfig = Field(default_factory=UpstreamsConfig)
    """How upstreams are found, watched and chosen."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the engine behind; names that it does not know are errors."""


def refuse_settings(config: BackendConfig, *names: str) -> None:
    """Raise `ConfigError` for a setting that this kind of backend does not read."""
    for name in names:
        if name in config.model_fields_set and getattr(config, name) is not None:
            raise ConfigError(
                f"backend.{name} is not for the {config.kind} backend; remove it",
                field=f"backend.{name}",
            )


def check_options(config: BackendConfig, known: Collection[str]) -> None:
    """Raise `ConfigError` for an option that the engine behind does not know."""
    for name in config.options:
        if name not in known:
            raise ConfigError(
                f"backend.options.{name} is not known to the {config.kind} backend"
                f"{nearest(name, known)}",
                field=f"backend.options.{name}",
            )


class Backend(Protocol):
    """Answers chat requests. Errors are core's (`isthmus.core.errors`)."""

    async def start(self) -> None:
        """Load or connect. Raises `ConfigError` or `Unavailable`."""
        ...

    def generate(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer; closing the iterator stops the work."""
        ...

    async def judge(self, request: ChatRequest) -> Sequence[JudgedToken]:
        """The tokens of the request's draft, from one prefill; only with `verifies_drafts`.

        Raises `NotSupported` or `InvalidRequest` when this draft cannot be judged.
        """
        ...

    async def health(self) -> None:
        """Return when requests can be answered; raise `Unavailable` when not."""
        ...

    def load(self) -> Load:
        """How busy it is, as far as it knows; never blocks."""
        ...

    def info(self) -> ModelInfo:
        """What it serves; valid once started. The gateway adds the price."""
        ...

    def collectors(self) -> Sequence[Any]:
        """Prometheus collectors of its own, to be served with the gateway's."""
        ...

    async def close(self) -> None:
        """Stop everything and free it. Safe to call twice."""
        ...
