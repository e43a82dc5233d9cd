"""Byte pair encoding: neighbouring tokens become one, pair by pair in order of rank.

(Sennrich et al., arXiv 1508.07909, over bytes as GPT-2 does it; SentencePiece begins with
characters, see `isthmus.engine.tokens.spaces`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from isthmus.kernels.base import I32


class Bpe(Protocol):
    """Merges tokens. Safe to share between threads."""

    def encode(self, words: Sequence[bytes]) -> list[int]:
        """The tokens of all words, one word after the other."""
        ...

    def merge(self, tokens: I32) -> list[int]:
        """What becomes of a run of tokens; of two merges of one rank the left one comes first."""
        ...


class PlainBpe:
    """The definition: slow and short."""

    def __init__(self, byte_ids: I32, merges: I32) -> None:
        self._byte_ids: list[int] = byte_ids.tolist()
        self._merges = {
            (left, right): (rank, merged) for left, right, rank, merged in merges.tolist()
        }

    def encode(self, words: Sequence[bytes]) -> list[int]:
        """As `Bpe`."""
        return [token for word in words for token in self._encode(word)]

    def merge(self, tokens: I32) -> list[int]:
        """As `Bpe`."""
        return self._merge(tokens.tolist())

    def _encode(self, word: bytes) -> list[int]:
        return self._merge([i for i in (self._byte_ids[byte] for byte in word) if i >= 0])

    def _merge(self, tokens: list[int]) -> list[int]:
        while True:
            possible = [
                (self._merges[pair][0], at, self._merges[pair][1])
                for at, pair in enumerate(pairwise(tokens))
                if pair in self._merges
            ]
            if not possible:
                return tokens
            _, at, merged = min(possible)
            tokens[at : at + 2] = [merged]


def bpe(byte_ids: I32, merges: I32) -> Bpe:
    """The native one where it works. The tables are those of `TokenizerSpec`."""
    try:
        from isthmus.kernels.compiled import _native
    except ImportError:
        return PlainBpe(byte_ids, merges)
    return _native.Bpe(byte_ids, merges)
