"""The router's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """What the policy may be tuned with. Raises `ConfigError` with the field when out of range."""

    difficulty_threshold: float = 0.35
    """A request whose difficulty reaches this goes to the cloud. 0 escalates all, above 1 none."""
    answer_tokens: int = 256
    """The length that an answer is taken to have, in tokens, when the request sets no limit."""
    answer_reserve_tokens: int = 64
    """What must be left of a context for the answer, in tokens, when the request sets no limit."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.difficulty_threshold) or self.difficulty_threshold < 0:
            raise ConfigError(
                "must be a finite number of at least 0 (above 1: never escalate)",
                field="router.difficulty_threshold",
            )
        for name in ("answer_tokens", "answer_reserve_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError("must be at least 1 token", field=f"router.{name}")
