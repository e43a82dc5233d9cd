"""Tokens used and what they cost. Money is `Decimal` in prices, whole micro-dollars in sums."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

MICRO_USD_PER_USD = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in dollars per million tokens."""

    input_usd_per_mtok: Decimal = Decimal(0)
    output_usd_per_mtok: Decimal = Decimal(0)
    cached_usd_per_mtok: Decimal | None = None
    """Of the prompt's tokens that were not computed again; None: as the others."""

    def cost_micro_usd(self, usage: Usage) -> int:
        """The price of `usage` in micro-dollars, rounded half up once at the end."""
        # Dollars per million tokens are micro-dollars per token: no factor is needed.
        exact = (
            self.input_usd_per_mtok * usage.prompt_tokens
            + self.output_usd_per_mtok * usage.completion_tokens
        )
        if self.cached_usd_per_mtok is not None:
            cached = min(usage.cached_tokens, usage.prompt_tokens)
            exact += (self.cached_usd_per_mtok - self.input_usd_per_mtok) * cached
        return int(exact.to_integral_value(rounding=ROUND_HALF_UP))


def usd(micro_usd: int) -> float:
    """Micro-dollars as dollars, for showing only."""
    return micro_usd / MICRO_USD_PER_USD
