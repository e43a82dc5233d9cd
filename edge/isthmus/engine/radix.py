"""A radix tree over token ids, one block of the KV pool a node.

Each salt has a tree of its own: what one tenant asked never shows in how fast another is answered.
A path from its root spells the tokens whose keys and values stand in its blocks. A *whole* node
holds a full block and never changes again; many sequences may hold it at once. A *tail* is a leaf
with the partly filled last block of a finished sequence: whoever goes on from its end takes it
over. Either may be copied by a sequence that is alike for a part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from isthmus.engine.tokens.tokenizer import Segment


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A finished conversation: how its next turn is recognised, and in which tokens."""

    segments: tuple[Segment, ...]
    """The prompt and its answer as text."""
    tokens: tuple[int, ...]
    """All of them, the last one sampled included."""
    salt: str = ""
    """Whose it is."""


@dataclass(slots=True, eq=False)
class Node:
    """A block in the tree, and what follows it."""

    tokens: tuple[int, ...] = ()
    block: int = -1
    parent: Node | None = None
    used: int = 0
    """When it was last used, in the pool's count."""
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)
    """Whole nodes, by their tokens."""
    tails: list[Node] = field(default_factory=list)
    salt: str = ""
    """Of a root: whose tree it is."""

    @property
    def is_leaf(self) -> bool:
        """Whether nothing follows it, so that it may go."""
        return not self.children and not self.tails

    def tail_of(self, tokens: tuple[int, ...]) -> Node | None:
        """The longest tail that `tokens` begin with."""
        fitting = [t for t in self.tails if tokens[: len(t.tokens)] == t.tokens]
        return max(fitting, key=lambda tail: len(tail.tokens), default=None)

    def most_alike(self, tokens: tuple[int, ...]) -> tuple[Node | None, int]:
        """What follows that begins most like `tokens`, and how many tokens they have in common."""
        best, most = None, 0
        for node in (*self.children.values(), *self.tails):
            pairs = zip(node.tokens, tokens, strict=False)
            common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if common > most:
                best, most = node, common
        return best, most

    def holds(self, tokens: tuple[int, ...]) -> bool:
        """Whether a longer or equal run of what follows begins with `tokens`."""
        following = [*self.children, *(tail.tokens for tail in self.tails)]
        return any(run[: len(tokens)] == tokens for run in following)

    def remove(self) -> None:
        """Cut it off its parent. Its block is the caller's again."""
        if self.parent is None:
            raise ValueError("the root stays")
        if self.parent.children.get(self.tokens) is self:
            del self.parent.children[self.tokens]
        else:
            self.parent.tails.remove(self)
