"""The router's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """What the policy may be tuned with. Raises `ConfigError` with the field when out of range."""

    escalate_threshold: float = 0.35
    """A request of which the cloud is expected to gain this much in quality (its probability of a
    good answer less the device's) goes there. 0 escalates all that gain, above 1 none."""
    answer_tokens: int = 256
    """The length that an answer is taken to have, in tokens, when the request sets no limit."""
    answer_reserve_tokens: int = 64
    """What must be left of a context for the answer, in tokens, when the request sets no limit."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.escalate_threshold) or self.escalate_threshold < 0:
            raise ConfigError(
                "must be a finite number of at least 0 (above 1: never escalate)",
                field="router.escalate_threshold",
            )
        for name in ("answer_tokens", "answer_reserve_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError("must be at least 1 token", field=f"router.{name}")
