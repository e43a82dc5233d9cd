"""Who owns which block of the KV pool, and which prefixes in it conversations share.

Only conversations of one salt share anything. Blocks are reference-counted: the tree of prefixes
(`radix`) holds one reference on each of its blocks, a sequence one on each of its own. A full block
enters the tree as soon as it is computed, so that a system prompt is computed once even while its
first conversation still runs. A sequence that diverges inside a block gets a copy of it. What
nobody holds is forgotten by least recent use, when blocks are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from isthmus.engine.radix import Node, Turn
from isthmus.engine.tokens.tokenizer import Segment
from isthmus.kernels.base import KVShape


@dataclass(slots=True, eq=False)
class Lease:
    """Blocks that a sequence holds, in order of position."""

    blocks: list[int] = field(default_factory=list)
    shared: int = 0
    """How many of them, from the first, are in the tree."""
    node: Node | None = None
    """The tree's node of the last shared one."""
    salt: str = ""
    """Whose tree that is."""


class KVPool:
    """Block accounting for one plan. Not thread safe: the engine's thread owns it."""

    def __init__(self, shape: KVShape, copy: Callable[[int, int], None]) -> None:
        """`copy(source, target)` copies a block's keys and values (`Plan.copy_block`)."""
        self.shape = shape
        self._copy = copy
        self._now = 0
        self.forget_all()

    @property
    def used_tokens(self) -> int:
        """Positions in blocks that are held by somebody, the tree included."""
        return (self.shape.blocks - len(self._free)) * self.shape.block_tokens

    @property
    def salts(self) -> Collection[str]:
        """Those of which something is remembered."""
        return self._roots.keys()

    def continued_by(self, segments: tuple[Segment, ...], salt: str = "") -> Turn | None:
        """The longest finished conversation that `segments` go on from after a whole turn.

        Its answer is then taken as the tokens that were sampled: tokenizing the text again might
        split it in another way. Any thread may ask while the engine's works.
        """
        best = None
        for turn in tuple(self._turns.values()):
            size = len(turn.segments)
            longer = best is None or size > len(best.segments)
            mine = turn.salt == salt
            if mine and longer and 0 < size < len(segments) and segments[size].is_control:
                best = turn if segments[:size] == turn.segments else best
        return best

    def share(self, tokens: Sequence[int], salt: str = "") -> tuple[Lease, int]:
        """A lease on what is known of `tokens` under `salt`, and how many positions it covers.

        At least the last token is left to be computed: its logits are wanted.
        """
        lease = Lease(salt=salt)
        return lease, self.advance(lease, tokens, 0)

    def advance(self, lease: Lease, tokens: Sequence[int], computed: int) -> int:
        """Take over what others have computed since beyond `computed`; the positions covered."""
        size = self.shape.block_tokens
        while (lease.shared + 1) * size < len(tokens):
            child = self._after(lease).children.get(self._block_of(tokens, lease.shared))
            if child is None:
                break
            self._owners[child.block] += 1
            self._enter(lease, child)
        start = lease.shared * size
        if start < computed:
            return computed
        wanted = tuple(tokens[start : min(start + size, len(tokens) - 1)])
        tail = self._after(lease).tail_of(wanted)
        alike, common = self._after(lease).most_alike(wanted)
        whole = len(tail.tokens) if tail is not None else 0
        if alike is not None and common > whole:
            return start + common if self._copied(lease, alike.block) else start
        if tail is None:
            return start
        # The tree's reference becomes the lease's.
        self._forget(tail)
        if lease.shared < len(lease.blocks):
            self._drop([lease.blocks[lease.shared]])
            lease.blocks[lease.shared] = tail.block
        else:
            lease.blocks.append(tail.block)
        return start + len(tail.tokens)

    def _copied(self, lease: Lease, source: int) -> bool:
        """Copy `source` into the first own block of `lease`; False when there is no room."""
        self._owners[source] += 1  # making room must not take it
        room = self.extend(lease, lease.shared * self.shape.block_tokens + 1)
        if room:
            self._copy(source, lease.blocks[lease.shared])
        self._drop([source])
        return room

    def publish(self, lease: Lease, tokens: Sequence[int], computed: int) -> None:
        """Let others share the full blocks among the first `computed` positions."""
        while (lease.shared + 1) * self.shape.block_tokens <= computed:
            known = self._block_of(tokens, lease.shared)
            parent = self._after(lease)
            node = parent.children.get(known)
            if node is None:
                node = Node(known, lease.blocks[lease.shared], parent)
                parent.children[known] = node
                self._plant(node, parent)
            self._owners[node.block] += 1
            self._enter(lease, node)

    def extend(self, lease: Lease, tokens: int) -> bool:
        """Give `lease` room for `tokens` positions in all; False when the pool is exhausted."""
        need = -(-tokens // self.shape.block_tokens) - len(lease.blocks)
        while need > len(self._free) and self._evict():
            pass
        if need > len(self._free):
            return False
        for _ in range(need):
            block = self._free.pop()
            self._owners[block] = 1
            lease.blocks.append(block)
        return True

    def keep(
        self,
        lease: Lease,
        tokens: Sequence[int],
        computed: int,
        segments: tuple[Segment, ...] = (),
    ) -> None:
        """Remember a sequence that has ended, its last block included, and end its lease.

        `segments` are its text, prompt and answer; `tokens` all of its tokens, of which the first
        `computed` are in the pool.
        """
        self.publish(lease, tokens, computed)
        last = self._after(lease)
        rest = tuple(tokens[lease.shared * self.shape.block_tokens : computed])
        if rest and not last.holds(rest):
            while (shorter := last.tail_of(rest)) is not None:
                self._forget(shorter)
                self._drop([shorter.block])
            self._now += 1
            tail = Node(rest, lease.blocks[lease.shared], last, self._now)
            last.tails.append(tail)
            self._plant(tail, last)
            self._owners[tail.block] += 1
            last = tail
        if segments and last.parent is not None:
            self._turns[last] = Turn(segments, tuple(tokens), lease.salt)
        self.release(lease)

    def release(self, lease: Lease) -> None:
        """Give the blocks of a sequence back. What of them is in the tree stays there."""
        self._drop(lease.blocks)
        lease.blocks, lease.shared, lease.node = [], 0, None

    def forget_all(self) -> None:
        """Begin anew, whatever was held: what the pool had in it is gone. No lease is worth more
        than a new one.
        """
        self._free = list(range(self.shape.blocks - 1, -1, -1))
        self._owners = np.zeros(self.shape.blocks, np.int32)
        self._roots: dict[str, Node] = {}
        self._nodes: set[Node] = set()
        self._turns: dict[Node, Turn] = {}

    def _after(self, lease: Lease) -> Node:
        return lease.node or self._roots.get(lease.salt) or Node(salt=lease.salt)

    def _plant(self, node: Node, parent: Node) -> None:
        """Remember `node`, which now follows `parent`."""
        self._nodes.add(node)
        if parent.parent is None:
            self._roots[parent.salt] = parent

    def _block_of(self, tokens: Sequence[int], index: int) -> tuple[int, ...]:
        size = self.shape.block_tokens
        return tuple(tokens[index * size : (index + 1) * size])

    def _enter(self, lease: Lease, node: Node) -> None:
        """Make `node`, on which a reference was taken, the next shared one of `lease`."""
        if lease.shared < len(lease.blocks):
            mine, lease.blocks[lease.shared] = lease.blocks[lease.shared], node.block
            if mine != node.block:
                self._drop([mine])  # the same tokens, computed twice
        else:
            lease.blocks.append(node.block)
        lease.shared += 1
        lease.node = node
        self._now += 1
        node.used = self._now

    def _evict(self) -> bool:
        """Forget the least recently used leaf that nobody holds; False when there is none."""
        loose = [n for n in self._nodes if n.is_leaf and self._owners[n.block] == 1]
        if not loose:
            return False
        oldest = min(loose, key=lambda node: node.used)
        self._forget(oldest)
        self._drop([oldest.block])
        return True

    def _forget(self, node: Node) -> None:
        node.remove()
        parent = node.parent
        if parent is not None and parent.parent is None and parent.is_leaf:
            del self._roots[parent.salt]
        self._nodes.remove(node)
        self._turns.pop(node, None)

    def _drop(self, blocks: list[int]) -> None:
        for block in blocks:
            self._owners[block] -= 1
            if self._owners[block] == 0:
                self._free.append(block)
