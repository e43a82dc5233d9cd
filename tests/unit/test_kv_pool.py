"""The KV pool: who shares what, and what is forgotten first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.engine.kv import KVPool, Lease
from isthmus.engine.radix import Node
from isthmus.engine.tokens.tokenizer import Segment
from isthmus.kernels.base import KVShape

BLOCK = 4


Copy = Callable[[int, int], None]


def pool_of(blocks: int, copy: Copy = lambda source, target: None) -> KVPool:
    return KVPool(KVShape(blocks, block_tokens=BLOCK), copy)


def compute(pool: KVPool, tokens: list[int]) -> Lease:
    """What a running answer does that has computed all of `tokens`."""
    lease, covered = pool.share([*tokens, -1])
    assert covered <= len(tokens)
    assert pool.extend(lease, len(tokens))
    pool.publish(lease, tokens, len(tokens))
    return lease


def finish(pool: KVPool, tokens: list[int], segments: tuple[Segment, ...] = ()) -> list[int]:
    lease = compute(pool, tokens)
    blocks = list(lease.blocks)
    pool.keep(lease, tokens, len(tokens), segments)
    return blocks


def test_a_next_turn_takes_the_whole_conversation_over() -> None:
    pool = pool_of(8)
    blocks = finish(pool, [1, 2, 3, 4, 5, 6])
    lease, covered = pool.share([1, 2, 3, 4, 5, 6, 7, 8])
    assert covered == 6
    assert lease.blocks == blocks
    assert pool.used_tokens == 8


def test_conversations_share_whole_blocks_of_a_common_start_and_copy_the_one_they_part_in() -> None:
    copies: list[tuple[int, int]] = []
    pool = pool_of(8, lambda source, target: copies.append((source, target)))
    first = finish(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    lease, covered = pool.share([1, 2, 3, 4, 5, 60, 70])
    assert covered == 5
    assert lease.blocks[:1] == first[:1]
    assert lease.blocks[1] not in first
    assert copies == [(first[1], lease.blocks[1])]
    pool.release(lease)
    assert pool.share([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])[1] == 9


def test_a_prompt_is_shared_while_its_first_conversation_still_runs() -> None:
    pool = pool_of(8)
    running = compute(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    lease, covered = pool.share([1, 2, 3, 4, 5, 6, 7, 8, 50])
    assert covered == 8
    assert lease.blocks == running.blocks[:2]
    assert pool.used_tokens == 12


def test_a_prompt_under_way_goes_on_from_what_another_has_computed_meanwhile() -> None:
    pool = pool_of(8)
    tokens = [*range(13)]
    slow, _ = pool.share(tokens)
    assert pool.extend(slow, 3)
    own = slow.blocks[0]
    running = compute(pool, tokens)
    assert pool.advance(slow, tokens, 3) == 12
    assert slow.blocks == running.blocks[:3]
    assert own not in slow.blocks
    assert pool.used_tokens == 16


def test_the_same_block_computed_twice_is_kept_once() -> None:
    pool = pool_of(8)
    leases = [Lease(), Lease()]
    for lease in leases:
        assert pool.extend(lease, 5)
    for lease in leases:
        pool.publish(lease, [1, 2, 3, 4, 5], 5)
    assert leases[0].blocks[0] == leases[1].blocks[0]
    assert leases[0].blocks[1] != leases[1].blocks[1]
    assert pool.used_tokens == 12


def test_a_conversation_that_was_had_before_still_computes_only_what_is_new() -> None:
    pool = pool_of(16)
    finish(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])  # all of it, the first time
    finish(pool, [1, 2, 3, 4, 5, 6])  # its first turn, again
    assert pool.share([1, 2, 3, 4, 5, 6, 70, 80])[1] == 6


def test_without_room_for_a_copy_the_block_is_computed_again() -> None:
    pool = pool_of(2)
    running = compute(pool, [1, 2, 3, 4, 5, 6, 7, 8])
    lease, covered = pool.share([1, 2, 3, 4, 5, 60])
    assert covered == 4
    assert lease.blocks == running.blocks[:1]


def test_the_last_token_is_always_computed() -> None:
    pool = pool_of(8)
    finish(pool, [1, 2, 3, 4])
    assert pool.share([1, 2, 3, 4])[1] == 3
    finish(pool, [1, 2, 3, 4, 5])
    assert pool.share([1, 2, 3, 4, 5])[1] == 4


def test_the_least_recently_used_conversation_is_forgotten_first() -> None:
    pool = pool_of(3)
    for start in (10, 20, 30):
        finish(pool, list(range(start, start + 4)))
    pool.release(pool.share([10, 11, 12, 13, 14])[0])
    lease = Lease()
    assert pool.extend(lease, 4)
    assert pool.share([20, 21, 22, 23, 24])[1] == 0
    assert pool.share([10, 11, 12, 13, 14])[1] == 4
    assert pool.share([30, 31, 32, 33, 34])[1] == 4


def test_a_conversation_is_forgotten_from_its_end() -> None:
    pool = pool_of(3)
    finish(pool, [*range(10)])
    assert pool.extend(Lease(), 4)
    assert pool.share([*range(20)])[1] == 8


def test_what_a_running_answer_holds_is_not_forgotten() -> None:
    pool = pool_of(3)
    running = compute(pool, [1, 2, 3, 4, 5])
    assert not pool.extend(Lease(), 8)
    assert pool.share([1, 2, 3, 4, 5])[0].blocks == running.blocks[:1]


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
    finish(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert pool.used_tokens == 12


def test_a_pool_whose_memory_goes_forgets_everything() -> None:
    pool = pool_of(8)
    finish(pool, [*range(11)], (Segment("a"),))
    pool.forget_all()
    assert pool.used_tokens == 0
    assert pool.share([*range(11)])[1] == 0
    assert pool.continued_by((Segment("a"), Segment("<e>", is_control=True))) is None


def test_salts_share_neither_blocks_nor_the_one_they_part_in_nor_turns() -> None:
    pool = pool_of(8)
    turn = (Segment("<s>", is_control=True), Segment("hello"))
    going_on = (*turn, Segment("<e>", is_control=True))
    lease, _ = pool.share([*range(6)], "mine")
    assert pool.extend(lease, 6)
    pool.keep(lease, [*range(6)], 6, turn)
    assert pool.share([*range(9)], "theirs")[1] == 0
    assert pool.share([*range(9)])[1] == 0
    assert pool.continued_by(going_on, "theirs") is None
    assert pool.continued_by(going_on, "mine") is not None
    assert pool.share([*range(9)], "mine")[1] == 6


def test_nothing_stays_of_a_salt_whose_prefixes_are_forgotten() -> None:
    pool = pool_of(2)
    for number in range(20):
        lease, _ = pool.share([1, 2, 3, 4, 5], f"tenant {number}")
        assert pool.extend(lease, 5)
        pool.keep(lease, [1, 2, 3, 4, 5], 5)
        pool.share([1, 2, 3], f"only asks {number}")
    assert list(pool.salts) == ["tenant 19"]


def test_a_turn_is_recognised_by_its_text_only_where_a_control_token_follows() -> None:
    pool = pool_of(8)
    turn = (Segment("<s>", is_control=True), Segment("hello"))
    finish(pool, [1, 2], turn)
    known = pool.continued_by((*turn, Segment("<e>", is_control=True)))
    assert known is not None
    assert known.tokens == (1, 2)
    assert pool.continued_by((*turn, Segment(" more"))) is None
    assert pool.continued_by((Segment("<s>"), turn[1], Segment("<e>", is_control=True))) is None
    assert pool.continued_by(turn) is None


def test_a_forgotten_conversation_is_no_longer_recognised() -> None:
    pool = pool_of(1)
    finish(pool, [1, 2], (Segment("a"),))
    assert pool.extend(Lease(), 4)
    assert pool.continued_by((Segment("a"), Segment("<e>", is_control=True))) is None


class Memory:
    """What a plan's pool would hold: of each position the salt and the tokens it depends on."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], tuple[str, tuple[int, ...]]] = {}

    def write(self, lease: Lease, tokens: list[int], start: int, end: int) -> None:
        for at in range(start, end):
            cell = (lease.blocks[at // BLOCK], at % BLOCK)
            self._cells[cell] = (lease.salt, tuple(tokens[: at + 1]))

    def copy(self, source: int, target: int) -> None:
        for place in range(BLOCK):
            self._cells.pop((target, place), None)
            if (source, place) in self._cells:
                self._cells[target, place] = self._cells[source, place]

    def check(self, lease: Lease, tokens: list[int], covered: int) -> None:
        for at in range(covered):
            cell = (lease.blocks[at // BLOCK], at % BLOCK)
            assert self._cells[cell] == (lease.salt, tuple(tokens[: at + 1]))


class Running:
    def __init__(self, lease: Lease, tokens: list[int], computed: int) -> None:
        self.lease, self.tokens, self.computed = lease, tokens, computed


SEQUENCE = st.lists(st.integers(0, 1), min_size=1, max_size=18)
ACTION = st.one_of(
    st.tuples(st.sampled_from(["mine", "theirs"]), SEQUENCE),
    st.tuples(st.sampled_from(["step", "keep", "release", "advance"]), st.integers(0, 30)),
)


@settings(max_examples=100)
@given(st.integers(3, 12), st.lists(ACTION, max_size=60))
def test_a_sequence_reads_what_was_computed_for_its_own_tokens_under_its_own_salt(
    blocks: int, actions: list[tuple[str, object]]
) -> None:
    memory = Memory()
    pool = pool_of(blocks, memory.copy)
    running: list[Running] = []
    for action, what in actions:
        if action in ("mine", "theirs"):
            tokens = [*what]  # type: ignore[misc]
            lease, covered = pool.share(tokens, action)
            assert covered < len(tokens)
            running.append(Running(lease, tokens, covered))
        elif running:
            assert isinstance(what, int)
            one = running[what % len(running)]
            if action == "advance":
                one.computed = pool.advance(one.lease, one.tokens, one.computed)
            elif action == "step":
                end = min(len(one.tokens), one.computed + 1 + what % 7)
                if pool.extend(one.lease, end):
                    memory.write(one.lease, one.tokens, one.computed, end)
                    one.computed = end
                    pool.publish(one.lease, one.tokens, end)
            else:
                running.remove(one)
                if action == "keep":
                    pool.keep(one.lease, one.tokens, one.computed, (Segment(str(what)),))
                else:
                    pool.release(one.lease)
        for one in running:
            memory.check(one.lease, one.tokens, one.computed)
    for one in running:
        pool.release(one.lease)
    everything = Lease()
    assert pool.extend(everything, blocks * BLOCK)
    assert sorted(everything.blocks) == list(range(blocks))


def begins(longer: list[int], shorter: list[int]) -> bool:
    return longer[: len(shorter)] == shorter


def naively_covered(finished: list[list[int]], tokens: list[int]) -> int:
    """The longest common start with any of them."""
    best = 0
    for known in finished:
        common = 0
        for mine, its in zip(tokens[:-1], known, strict=False):
            if mine != its:
                break
            common += 1
        best = max(best, common)
    return best


@settings(max_examples=100)
@given(st.lists(SEQUENCE, max_size=12), SEQUENCE)
def test_a_pool_with_room_shares_as_much_as_a_list_of_all_sequences_would(
    sequences: list[list[int]], asked: list[int]
) -> None:
    pool = pool_of(200)
    known: list[list[int]] = []
    for tokens in sequences:
        lease, covered = pool.share([*tokens, -1])
        assert pool.extend(lease, len(tokens))
        pool.keep(lease, tokens, len(tokens))
        assert covered == naively_covered(known, [*tokens, -1])
        if not any(begins(other, tokens) for other in known):
            known = [other for other in known if not begins(tokens, other)] + [tokens]
    assert pool.share(asked)[1] == naively_covered(known, asked)


def test_the_root_of_the_tree_stays() -> None:
    with pytest.raises(ValueError, match="root"):
        Node().remove()
