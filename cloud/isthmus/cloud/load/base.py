"""What a load is made of: orders with their places in time, and a target that answers them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """One request that is to be sent, whatever became of those before it."""

    mark: str
    """Names it in the text of its answer (`isthmus.cloud.load.script`)."""
    at_s: float
    """When, counted from the start of the run."""
    tokens: int
    cancel_after: int | None = None
    """The caller goes away when it has this many tokens."""
    counted: bool = True
    """Its times are recorded; not while a run warms up."""


class Target(Protocol):
    """Something that answers orders."""

    def ask(self, order: Order) -> AsyncGenerator[str, None]:
        """The pieces of the answer's text. Raises core's errors; closing it cancels the call.

        Its end means that the answer was said to be complete.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def standing(streams: int, *, tokens: int, over_s: float, name: str = "s") -> Iterator[Order]:
    """`streams` answers that are under way when a measurement begins: each at another place.

    They come within the first `over_s` seconds, have 1 to `tokens` tokens left, and are not
    counted. With arrivals behind them a load starts as it goes on.
    """
    for number in range(streams):
        part = (number + 1) / streams
        yield Order(f"{name}-{number}", part * over_s, max(1, round(part * tokens)), counted=False)


def poisson(
    rate_per_s: float,
    *,
    requests: int,
    tokens: int,
    from_s: float = 0.0,
    cancel_share: float = 0.0,
    name: str = "m",
    seed: int = 0,
) -> Iterator[Order]:
    """`requests` arrivals of a Poisson process: independent of one another, `rate_per_s` a second.

    The first comes after `from_s`. `cancel_share` of the callers go away at a random place of their
    answer. The same seed gives the same orders.
    """
    chance = random.Random(seed)
    at_s = from_s
    for number in range(requests):
        at_s += chance.expovariate(rate_per_s)
        leaves = chance.random() < cancel_share
        yield Order(
            mark=f"{name}-{seed}-{number}",
            at_s=at_s,
            tokens=tokens,
            cancel_after=chance.randint(1, max(1, tokens - 1)) if leaves else None,
        )
