"""Native byte pair encoding gives what its definition gives, and takes no longer for long words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.engine.tokens.bpe import PlainBpe
from isthmus.kernels import _native
from isthmus.kernels.base import I32

LETTERS = b"abc"
BYTE_IDS = np.full(256, -1, np.int32)
BYTE_IDS[list(LETTERS)] = range(3)


@st.composite
def merge_tables(draw: st.DrawFn) -> I32:
    """Merges of the three letters and of what they became, in any order of rank."""
    count = draw(st.integers(0, 12))
    pairs: set[tuple[int, int]] = set()
    for made in range(count):
        token = st.integers(0, 2 + made)
        pairs.add((draw(token), draw(token)))
    ranks = draw(st.permutations(range(len(pairs))))
    rows = [
        (*pair, rank, 3 + at)
        for at, (pair, rank) in enumerate(zip(sorted(pairs), ranks, strict=True))
    ]
    return np.array(rows, np.int32).reshape(-1, 4)


@given(merges=merge_tables(), words=st.lists(st.text("abcd", max_size=30)))
def test_native_merges_are_those_of_the_definition(merges: I32, words: list[str]) -> None:
    encoded = [word.encode() for word in words]
    expected = PlainBpe(BYTE_IDS, merges).encode(encoded)
    assert _native.Bpe(BYTE_IDS, merges).encode(encoded) == expected


def test_a_long_word_is_merged_whole() -> None:
    doubling = np.array([[at, at, at, at + 1] for at in range(20)], np.int32)
    byte_ids = np.full(256, 0, np.int32)
    assert _native.Bpe(byte_ids, doubling).encode([b"a" * (1 << 20)]) == [20]


def test_tables_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="256"):
        _native.Bpe(BYTE_IDS[:255], np.empty((0, 4), np.int32))
    with pytest.raises(ValueError, match="merges"):
        _native.Bpe(BYTE_IDS, np.empty((0, 3), np.int32))
