"""The cloud's backends, found by name; each one's vendor library is imported when it is made."""

from __future__ import annotations

import importlib
from typing import Final, cast

from isthmus.cloud.backends.base import Backend, BackendConfig
from isthmus.cloud.serving.config import ServingConfig
from isthmus.core.errors import ConfigError
from isthmus.core.misspelt import nearest

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
        raise ConfigError(
            f"backend.kind must be one of {', '.join(KINDS)}{nearest(config.kind, KINDS)}",
            field="backend.kind",
        )
    if config.kind in {"embedded", "scripted"} and serving.model_fields_set:
        raise ConfigError(
            f"[serving] is for vLLM, not for the {config.kind} backend", field="serving"
        )
    module = importlib.import_module(f"isthmus.cloud.backends.{config.kind}")
    if config.kind == "vllm":
        return cast(Backend, module.create(config, serving))
    return cast(Backend, module.create(config))


__all__ = ["KINDS", "Backend", "BackendConfig", "create"]
