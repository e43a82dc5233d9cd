"""Who owns which block of the KV pool, and which finished conversations are still in it.

A *cached prefix* is a run of tokens whose keys and values are in the pool. A new request takes
the longest one that it shares: whole blocks are shared by reference count; a prefix that the
request contains to its end is taken over with its last, partly filled block, so that a next turn
computes only what is new. Prefixes are forgotten by least recent use when blocks are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from isthmus.engine.tokenizer import Segment
from isthmus.kernels.base import KVShape


@dataclass(slots=True, eq=False)
class Lease:
    """Blocks that a sequence holds, in order of position."""

    blocks: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class CachedPrefix:
    """A finished sequence whose keys and values stay."""

    tokens: list[int]
    """Those computed: position i of the pool belongs to tokens[i]."""
    lease: Lease
    segments: tuple[Segment, ...] = ()
    """The prompt and its answer as text: how a next turn is recognised."""
    tail: tuple[int, ...] = ()
    """Tokens that end the text but were never computed: the last one sampled."""


class KVPool:
    """Block accounting for one plan. Not thread safe: the engine's thread owns it."""

    def __init__(self, shape: KVShape) -> None:
        self.shape = shape
        self._free = list(range(shape.blocks - 1, -1, -1))
        self._owners = np.zeros(shape.blocks, np.int32)
        self._prefixes: list[CachedPrefix] = []  # least recently used first

    @property
    def used_tokens(self) -> int:
        """Positions in blocks that are held by somebody."""
        return (self.shape.blocks - len(self._free)) * self.shape.block_tokens

    def continued_by(self, segments: tuple[Segment, ...]) -> CachedPrefix | None:
        """The longest finished conversation that `segments` go on from after a whole turn.

        Its answer is then taken as the tokens that were sampled: tokenizing the text again might
        split it in another way.
        """
        best = None
        for prefix in tuple(self._prefixes):  # callers' threads look while the engine's works
            size = len(prefix.segments)
            longer = best is None or size > len(best.segments)
            if longer and 0 < size < len(segments) and segments[size].is_control:
                best = prefix if segments[:size] == prefix.segments else best
        return best

    def extend(self, lease: Lease, tokens: int) -> bool:
        """Give `lease` room for `tokens` positions in all; False when the pool is exhausted."""
        need = -(-tokens // self.shape.block_tokens) - len(lease.blocks)
        while need > len(self._free) and self._prefixes:
            self.release(self._prefixes.pop(0).lease)
        if need > len(self._free):
            return False
        for _ in range(need):
            block = self._free.pop()
            self._owners[block] = 1
            lease.blocks.append(block)
        return True

    def share(self, tokens: list[int]) -> tuple[Lease, int]:
        """A lease on the longest cached prefix of `tokens`, and how many positions it covers.

        At least the last token is left to be computed: its logits are wanted.
        """
        best, covered = None, 0
        for prefix in self._prefixes:
            common = _common(prefix.tokens, tokens[:-1])
            if common > covered:
                best, covered = prefix, common
        if best is None:
            return Lease(), 0
        self._prefixes.remove(best)
        if covered == len(best.tokens):
            return best.lease, covered
        self._prefixes.append(best)
        covered -= covered % self.shape.block_tokens
        blocks = best.lease.blocks[: covered // self.shape.block_tokens]
        self._owners[blocks] += 1
        return Lease(list(blocks)), covered

    def keep(self, prefix: CachedPrefix) -> None:
        """Remember a finished sequence, in place of older ones that it contains."""
        for older in [p for p in self._prefixes if _contains(prefix.tokens, p.tokens)]:
            self._prefixes.remove(older)
            self.release(older.lease)
        spare = prefix.lease.blocks[-(-len(prefix.tokens) // self.shape.block_tokens) :]
        del prefix.lease.blocks[len(prefix.lease.blocks) - len(spare) :]
        self._drop(spare)
        self._prefixes.append(prefix)

    def release(self, lease: Lease) -> None:
        """Give the blocks of a sequence back."""
        self._drop(lease.blocks)
        lease.blocks = []

    def _drop(self, blocks: list[int]) -> None:
        for block in blocks:
            self._owners[block] -= 1
            if self._owners[block] == 0:
                self._free.append(block)


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens two sequences share from the start."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:size]) != np.asarray(b[:size]))
    return int(differ[0]) if len(differ) else size


def _contains(longer: list[int], shorter: list[int]) -> bool:
    return len(shorter) <= len(longer) and longer[: len(shorter)] == shorter
