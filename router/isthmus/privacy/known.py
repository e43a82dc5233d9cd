"""Finding values that are known already, however they are written this time.

A value of six characters or more is looked for without case, spaces and dashes; a shorter one as it
stands, and only where it is a word of its own. One that is too short to mean anything is not
looked for.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from isthmus.privacy.normalise import normalise

_LOOSE_CHARS = 6
_FREE_LETTERS = 8
"""A longer run of Latin letters counts inside of a word too."""
_LEAST_CHARS, _LEAST_DIGITS = 2, 4
_LEAST_BEGINNING = 4
"""Fewer characters are no beginning of a value that could be told from other text."""


class Key(NamedTuple):
    """What all forms of a value have in common. `loose`: it is searched for in folded text."""

    text: str
    loose: bool

    @property
    def telling(self) -> bool:
        """Whether it is long enough to be looked for."""
        least = _LEAST_DIGITS if self.text.isdigit() else _LEAST_CHARS
        return len(self.text) >= least and any(map(str.isalnum, self.text))


def key_of(value: str) -> Key:
    """The key of a value."""
    folded = fold(value)
    return Key(folded, True) if len(folded) >= _LOOSE_CHARS else Key(value.strip(), False)


def fold(text: str) -> str:
    """`text` in its normal form, without case, spaces and dashes."""
    return normalise(text).text.translate(_FOLDED)


class _Folded(dict[int, str]):
    """What each character of a normalised text folds to, found out once."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        dropped = char in "-()" or char.isspace() or unicodedata.category(char) == "Cf"
        folded = "" if dropped else char.casefold()
        self[code] = folded
        return folded


_FOLDED = _Folded()


class Haystack:
    """A text in which known values are looked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._normal = normalise(text)
        self._folded = self._normal.text.translate(_FOLDED)
        self._places: array[int] | None = None

    def find(self, keys: Iterable[Key]) -> Iterator[tuple[int, int, Key]]:
        """Where values of these keys begin and end, overlapping ones too."""
        wanted = [key for key in keys if key.telling]
        for loose in (True, False):
            text = self._folded if loose else self._text
            for at, key in _places(text, [key for key in wanted if key.loose is loose]):
                start, end = self._original(at, at + len(key.text), key)
                if self._stands_alone(key.text, start, end):
                    yield start, end, key

    def unfinished(self, keys: Iterable[Key]) -> int | None:
        """Where the beginning of a value begins with which the text breaks off, if it does."""
        starts = []
        for key in keys:
            text = self._folded if key.loose else self._text
            head = key.text[:_LEAST_BEGINNING]
            at = text.find(head, max(0, len(text) - len(key.text) + 1))
            while at >= 0 and not key.text.startswith(text[at:]):
                at = text.find(head, at + 1)
            if at >= 0 and len(text) - at < len(key.text):
                start, _ = self._original(at, len(text), key)
                if not _joins(self._text[start - 1 : start], self._text[start]):
                    starts.append(start)
        return min(starts, default=None)

    def _original(self, start: int, end: int, key: Key) -> tuple[int, int]:
        if not key.loose:
            return start, end
        if self._places is None:
            folded = (i for i, char in enumerate(self._normal.text) for _ in _FOLDED[ord(char)])
            moved = self._normal.offsets
            self._places = array("I", folded if moved is None else (moved[i] for i in folded))
        return self._places[start], self._places[end - 1] + 1

    def _stands_alone(self, key: str, start: int, end: int) -> bool:
        """Whether a key's neighbours do not make another word or number of it."""
        if len(key) >= (_LOOSE_CHARS if key.isdigit() else _FREE_LETTERS):
            return True
        before, after = self._text[start - 1 : start], self._text[end : end + 1]
        return not (_joins(before, key[0]) or _joins(key[-1], after))


_FEW_KEYS = 64
"""So many keys are sought one after the other; more of them together, in one pass."""


def _places(text: str, keys: Sequence[Key]) -> Iterator[tuple[int, Key]]:
    """Where the keys' own texts are in `text`."""
    if len(keys) <= _FEW_KEYS:
        for key in keys:
            at = text.find(key.text)
            while at >= 0:
                yield at, key
                at = text.find(key.text, at + 1)
        return
    size = min(len(key.text) for key in keys)
    by_head: dict[str, list[Key]] = {}
    for key in keys:
        by_head.setdefault(key.text[:size], []).append(key)
    for at in range(len(text) - size + 1):
        for key in by_head.get(text[at : at + size], ()):
            if text.startswith(key.text, at):
                yield at, key


def _joins(left: str, right: str) -> bool:
    return left.isascii() and right.isascii() and left.isalnum() and right.isalnum()
