"""Which n-grams occur in a question, hashed: the words it uses, and their spelling.

Half of the bins are for pairs of words and words, half for runs of 3 to 5 characters, which a typo
changes little and which Chinese needs. A linear head is one weight a bin; its value is the sum of
the weights that occur over the root of how many do, for each half.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.question import Question

BITS = 15
HALF = 1 << BITS
BINS = 2 * HALF
"""Bins in all: words below `HALF`, characters from there on."""
_SPACE = re.compile(r"\s+")
_PRIME, _MIX = np.uint32(16777619), np.uint32(0x9E3779B1)


class Grams(NamedTuple):
    """The bins that occur, each once and in order: [words], [characters] int64."""

    words: NDArray[np.int64]
    characters: NDArray[np.int64]


def grams(question: Question) -> Grams:
    """The bins of `question`."""
    tokens = [*question.stem_tokens, *(t for option in question.option_tokens for t in option)]
    codes = [zlib.crc32(t.encode("utf-8", "surrogatepass")) for t in tokens if t.isalnum()]
    words = np.array(codes, np.uint32)
    pairs = words[:-1] * _PRIME + words[1:]
    line = _SPACE.sub(" ", question.text.lower())
    points = np.frombuffer(line.encode("utf-32-le", "surrogatepass"), np.uint32)
    runs, hashed = [], points
    for length in range(2, 6):
        hashed = hashed[:-1] * _PRIME ^ points[length - 1 :]
        if length >= 3:
            runs.append(hashed * _MIX + np.uint32(length))
    return Grams(_bins(words, pairs), _bins(*runs) + HALF)


def _bins(*hashes: NDArray[np.uint32]) -> NDArray[np.int64]:
    taken = np.zeros(HALF, np.bool_)
    for part in hashes:
        taken[(part * _MIX) >> np.uint32(32 - BITS)] = True
    return np.flatnonzero(taken)


def weigh(weights: NDArray[np.int8], found: Grams) -> NDArray[np.float32]:
    """The value of each head: `weights` [BINS, heads], to [heads], in the weights' units."""
    values = np.zeros(weights.shape[1], np.float32)
    for bins in found:
        if bins.size:
            # A sum by a product with ones, five times as quick; whole numbers, so it is exact.
            total = np.ones(bins.size, np.float32) @ weights.take(bins, axis=0).astype(np.float32)
            values += total / np.sqrt(np.float32(bins.size))
    return values
