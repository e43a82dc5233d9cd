"""The KV pool: who shares what, and what is forgotten first."""

from __future__ import annotations

import random

from isthmus.engine.kv import CachedPrefix, KVPool, Lease
from isthmus.engine.tokenizer import Segment
from isthmus.kernels.base import KVShape


def pool_of(blocks: int) -> KVPool:
    return KVPool(KVShape(blocks, block_tokens=4))


def finish(pool: KVPool, tokens: list[int], segments: tuple[Segment, ...] = ()) -> CachedPrefix:
    lease, _ = pool.share([*tokens, -1])
    assert pool.extend(lease, len(tokens))
    prefix = CachedPrefix(list(tokens), lease, segments)
    pool.keep(prefix)
    return prefix


def test_a_next_turn_takes_the_whole_conversation_over() -> None:
    pool = pool_of(8)
    finish(pool, [1, 2, 3, 4, 5, 6])
    lease, covered = pool.share([1, 2, 3, 4, 5, 6, 7, 8])
    assert covered == 6
    assert len(lease.blocks) == 2
    assert pool.used_tokens == 8


def test_conversations_share_whole_blocks_of_a_common_start() -> None:
    pool = pool_of(8)
    first = finish(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    lease, covered = pool.share([1, 2, 3, 4, 5, 60, 70])
    assert covered == 4
    assert lease.blocks == first.lease.blocks[:1]
    assert pool.extend(lease, 7)
    assert lease.blocks[1] not in first.lease.blocks
    pool.release(lease)
    assert pool.share([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])[1] == 9


def test_the_last_token_is_always_computed() -> None:
    pool = pool_of(8)
    finish(pool, [1, 2, 3, 4])
    _, covered = pool.share([1, 2, 3, 4])
    assert covered == 0  # three are shared, which is no whole block
    finish(pool, [1, 2, 3, 4, 5])
    assert pool.share([1, 2, 3, 4, 5])[1] == 4


def test_the_least_recently_used_conversation_is_forgotten_first() -> None:
    pool = pool_of(3)
    for start in (10, 20, 30):
        finish(pool, list(range(start, start + 4)))
    lease = Lease()
    assert pool.extend(lease, 4)
    assert pool.share([10, 11, 12, 13, 14])[1] == 0
    assert pool.share([30, 31, 32, 33, 34])[1] == 4


def test_an_exhausted_pool_says_so_and_takes_nothing() -> None:
    pool = pool_of(2)
    lease = Lease()
    assert pool.extend(lease, 8)
    other = Lease()
    assert not pool.extend(other, 1)
    assert other.blocks == []
    pool.release(lease)
    assert pool.extend(other, 8)


def test_a_longer_conversation_replaces_its_own_start() -> None:
    pool = pool_of(8)
    finish(pool, [1, 2, 3, 4])
    finish(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert pool.used_tokens == 12


def test_a_turn_is_recognised_by_its_text_only_where_a_control_token_follows() -> None:
    pool = pool_of(8)
    turn = (Segment("<s>", is_control=True), Segment("hello"))
    kept = finish(pool, [1, 2], turn)
    assert pool.continued_by((*turn, Segment("<e>", is_control=True))) is kept
    assert pool.continued_by((*turn, Segment(" more"))) is None
    assert pool.continued_by((Segment("<s>"), turn[1], Segment("<e>", is_control=True))) is None
    assert pool.continued_by(turn) is None


def test_blocks_are_never_lost_nor_given_out_twice() -> None:
    rng = random.Random(4)
    pool = pool_of(12)
    held: list[tuple[Lease, list[int]]] = []
    for _ in range(2000):
        if held and rng.random() < 0.5:
            lease, tokens = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.5:
                pool.keep(CachedPrefix(tokens, lease))
            else:
                pool.release(lease)
        else:
            tokens = [rng.randrange(2) for _ in range(rng.randrange(1, 14))]
            lease, covered = pool.share(tokens)
            assert covered < len(tokens)
            if pool.extend(lease, len(tokens)):
                held.append((lease, tokens))
            else:
                pool.release(lease)
        own = [lease.blocks[len(tokens[:-1]) // 4 :] for lease, tokens in held]
        last = [block for blocks in own for block in blocks]
        assert len(last) == len(set(last))
    for lease, _ in held:
        pool.release(lease)
    everything = Lease()
    assert pool.extend(everything, 48)
    assert sorted(everything.blocks) == list(range(12))
