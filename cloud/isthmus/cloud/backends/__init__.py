"""The cloud's backends, found by name; each one's vendor library is imported when it is made."""

from __future__ import annotations

import difflib
import importlib
from typing import Final, cast

from isthmus.cloud.backends.base import Backend, BackendConfig
from isthmus.cloud.serving.config import ServingConfig
from isthmus.core.errors import ConfigError

KINDS: Final[dict[str, str]] = {
    "embedded": "the edge engine itself: no GPU, no download beyond the model",
    "openai": "any OpenAI-compatible upstream, over HTTP",
    "scripted": "no model: counts at a pace, for load tests and first steps",
    "vllm": "vLLM in this process",
}
"""The names a configuration may use, with what each is."""


def create(config: BackendConfig, serving: ServingConfig | None = None) -> Backend:
    """Make the backend that `config.kind` names; nothing is loaded before its `start()`.

    `serving` is for vLLM: in this process, or described for the server behind an upstream's
    address (`isthmus cloud serving --flags`).
    """
    serving = serving or ServingConfig()
    if config.kind not in KINDS:
        near = difflib.get_close_matches(config.kind, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"backend.kind must be one of {', '.join(KINDS)}{hint}", field="backend.kind"
        )
    if config.kind == "embedded" and serving.model_fields_set:
        raise ConfigError("[serving] is for vLLM, not for the embedded backend", field="serving")
    module = importlib.import_module(f"isthmus.cloud.backends.{config.kind}")
    if config.kind == "vllm":
        return cast(Backend, module.create(config, serving))
    return cast(Backend, module.create(config))


__all__ = ["KINDS", "Backend", "BackendConfig", "create"]
