"""The cloud's backends, found by name; each one's vendor library is imported when it is made."""

from __future__ import annotations

import difflib
import importlib
from typing import Final, cast

from isthmus.cloud.backends.base import Backend, BackendConfig
from isthmus.core.errors import ConfigError

KINDS: Final[dict[str, str]] = {
    "embedded": "the edge engine itself: no GPU, no download beyond the model",
    "openai": "any OpenAI-compatible upstream, over HTTP",
    "vllm": "vLLM in this process",
}
"""The names a configuration may use, with what each is."""


def create(config: BackendConfig) -> Backend:
    """Make the backend that `config.kind` names; nothing is loaded before its `start()`."""
    if config.kind not in KINDS:
        near = difflib.get_close_matches(config.kind, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"backend.kind must be one of {', '.join(KINDS)}{hint}", field="backend.kind"
        )
    module = importlib.import_module(f"isthmus.cloud.backends.{config.kind}")
    return cast(Backend, module.create(config))


__all__ = ["KINDS", "Backend", "BackendConfig", "create"]
