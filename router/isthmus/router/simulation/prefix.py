"""The cloud's prefix cache: blocks of past prompts, the least recently used given up first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from isthmus.router.simulation.requests import BLOCK_TOKENS


@dataclass(slots=True)
class PrefixCache:
    """Room for `capacity_tokens` in all GPUs together, behind a balancer that knows prefixes."""

    capacity_tokens: int
    blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def cached_tokens(self, blocks: Sequence[int]) -> int:
        """How much of this prompt is cached; afterwards all of it is."""
        hits = 0
        for block in blocks:
            if block not in self.blocks:
                break
            hits += 1
        for block in blocks:
            self.blocks[block] = None
            self.blocks.move_to_end(block)
        while len(self.blocks) * BLOCK_TOKENS > self.capacity_tokens:
            self.blocks.popitem(last=False)
        return hits * BLOCK_TOKENS
