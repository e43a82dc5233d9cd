"""Which questions a file was trained on, so that figures on them are told to flatter it.

A Bloom filter over the questions' hashes: a byte a question, never their text. It knows every
question that it was made of, and takes one of fifty others for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.router.learned.section import Section

SECTION = "seen"
BITS_EACH, PROBES = 8, 5
LEAST_SHARE = 0.1
"""The share of known questions from which on figures are told to flatter: well above what a filter
takes for known by mistake."""
_MIXERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The questions of a training, by `isthmus.router.learned.train.Rows.key`."""

    bits: NDArray[np.int8]
    """[bytes]"""

    @classmethod
    def of(cls, keys: NDArray[np.int64]) -> Seen:
        """The filter that knows `keys`."""
        unique = np.unique(keys)
        bits = np.zeros(-(-max(1, len(unique)) * BITS_EACH // 8) * 8, np.bool_)
        bits[_places(unique, len(bits)).ravel()] = True
        return cls(np.packbits(bits).view(np.int8))

    def knows(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each question was trained on, as far as the filter tells: [rows]."""
        bits = np.unpackbits(self.bits.view(np.uint8)).astype(bool)
        return np.asarray(bits[_places(keys, len(bits))].all(axis=1))

    def section(self) -> Section:
        """What `read` reads."""
        return Section({}, {"bits": self.bits})


def read(sections: Mapping[str, Section]) -> Seen | None:
    """The filter of a trained file; None: it says nothing of what it was trained on."""
    held = sections.get(SECTION)
    bits = None if held is None else held.arrays.get("bits")
    if bits is None or bits.dtype != np.int8 or bits.ndim != 1 or not bits.size:
        return None
    return Seen(bits)


def _places(keys: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """[rows, PROBES]: by double hashing."""
    one, two = ((keys.astype(np.uint64) * np.uint64(m)) >> np.uint64(24) for m in _MIXERS)
    probes = np.arange(PROBES, dtype=np.uint64)
    places = (one[:, None] + probes * (two[:, None] | np.uint64(1))) % np.uint64(bits)
    return places.astype(np.int64)
