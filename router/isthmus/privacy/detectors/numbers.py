"""What detectors of numbers share: digits in groups, context words, checksums, scores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

CERTAIN, LIKELY, IN_CONTEXT, PLAUSIBLE = 0.99, 0.9, 0.8, 0.6
"""Scores: a checksum or a form that nothing else has; a usual form; context; form alone."""

CONTEXT_CHARS = 28
"""How far before a value its context is looked for."""


def context_words(words: str) -> re.Pattern[str]:
    # Latin words must start as words ("card" but not "discard"); Chinese has no such boundary.
    return re.compile(words, re.IGNORECASE)


def named_before(text: str, start: int, words: re.Pattern[str]) -> bool:
    return words.search(text[max(0, start - CONTEXT_CHARS) : start]) is not None


class Number(NamedTuple):
    """A number, perhaps written in groups: its digits alone, and its place."""

    digits: str
    start: int
    end: int


def layouts_of(*layouts: str, last: str = "") -> tuple[re.Pattern[str], ...]:
    """Patterns for numbers in groups of the lengths given, a space or a dash apart.

    They look ahead and consume nothing, so that among numbers in a row each one is tried as the
    first group. `last` is what may stand after the digits.
    """
    return tuple(
        re.compile(
            r"(?<!\d)(?<!\d\.)(?=("
            + "[ -]".join(rf"\d{{{length}}}" for length in layout.split())
            + last
            + r")(?!\d)(?!\.\d))"
        )
        for layout in layouts
    )


def numbers_in(text: str, layouts: tuple[re.Pattern[str], ...]) -> Iterator[Number]:
    for layout in layouts:
        for found in layout.finditer(text):
            digits = found[1].replace(" ", "").replace("-", "").upper()
            yield Number(digits, found.start(), found.end(1))


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn checksum of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0
