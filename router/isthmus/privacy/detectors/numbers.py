"""Numbers in a text: digits in groups, each sequence of groups a candidate that rules judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.context import NEAR, Clue, Context
from isthmus.privacy.detectors.vocabulary import OTHER, PHONE_NEAR

CERTAIN, LIKELY, IN_CONTEXT, PLAUSIBLE = 0.99, 0.9, 0.8, 0.6
"""Scores: a checksum or a form that nothing else has; a usual form; context; form alone."""

OWN_GAP = 12
"""A name so near before a value makes other labels less sure of it."""

LEAST_DIGITS, MOST_DIGITS = 5, 20
MOST_GROUPS = 8
"""Of a number that others stand beside; one alone may have a group for each digit."""

TABLE_GROUPS = 64
"""Groups in a row that make a table of numbers, where a text holds a hundred thousand of them."""

TABLE_LAYOUTS = frozenset(
    {(3, 4, 4), (3, 3, 4), (3, 2, 4), (4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (6, 8, 4)}
)
"""How phones, cards and identity numbers are grouped."""


_ASCII_DIGITS = frozenset("0123456789")
_NO_GLUE: frozenset[str] = frozenset()


class Number:
    """Digits, perhaps written in groups: one or more neighbouring groups of a text."""

    def __init__(
        self, context: Context, groups: Sequence[tuple[int, int]], spelled: str = ""
    ) -> None:
        """Of the groups' places. `spelled` are the digits of one that is written in words."""
        text = context.text
        self.text, self.context = text, context
        self.start, self.end = groups[0][0], groups[-1][1]
        self.spelled = bool(spelled)
        self.digits = spelled or "".join([text[start:end] for start, end in groups])
        self.sizes = tuple([end - start for start, end in groups])
        self.raw = text[self.start : self.end]
        """As it is written, with what stands between the groups."""
        self.glue = frozenset(self.raw) - _ASCII_DIGITS if len(groups) > 1 else _NO_GLUE
        """The characters between the groups."""
        self.before = text[max(0, self.start - 4) : self.start]
        """The four characters before it."""
        self.clue = context.before(self.start)
        """The nearest word before it that says what it is."""

    @property
    def clue_after(self) -> Clue | None:
        """The nearest such word after it."""
        return self.context.after(self.end)

    @property
    def lettered(self) -> bool:
        """Whether it is the middle of a code: an ASCII letter stands right beside it."""
        before, after = self.before[-1:], self.text[self.end : self.end + 1]
        return (before.isascii() and before.isalpha()) or (after.isascii() and after.isalpha())

    @property
    def alone(self) -> bool:
        """Whether no other group of digits stands a space or a dash away."""
        around = self.text[max(0, self.start - 2) : self.start], self.text[self.end : self.end + 2]
        return not (around[0][:1].isdigit() or (around[1][:1] in " -" and around[1][1:].isdigit()))

    def named(self, label: str, within: int = 48) -> bool:
        """Whether the nearest naming word beside it says that it is `label`."""
        clue = self.clue
        if clue is not None and clue.label == label and clue.gap <= within:
            return True
        return self.context.names(label, self.start, self.end, within)

    @property
    def column(self) -> bool:
        """Whether each group is on a line of its own: mostly a list of numbers."""
        return len(self.sizes) > 2 and self.raw.count("\n") >= len(self.sizes) - 1

    @property
    def other(self) -> bool:
        """Whether the word right before it names something that concerns nobody."""
        before = self.clue
        return before is not None and before.label == OTHER and before.gap <= NEAR

    def span(self, label: str, score: float) -> Span:
        """Its span. What a near word names otherwise is less sure."""
        before = self.clue
        if (
            score < CERTAIN
            and before is not None
            and before.gap <= OWN_GAP
            and before.label not in {label, OTHER, PHONE_NEAR, Label.ACCOUNT}
        ):
            score = min(score, PLAUSIBLE)
        return Span(self.start, self.end, label, score)


class NumberRule(Protocol):
    """Says of a number whether it is a value of its label."""

    label: Label
    lengths: frozenset[int]
    """How many digits such a value has."""

    def judge(self, number: Number) -> Span | None:
        """The value's span, or None."""
        ...


# What may stand between two groups of one number. A line's end may: values get wrapped.
_ZONE = re.compile(r"\d(?:[ \t\r\n().·-]{0,4}\d){4,}")
_GROUP = re.compile(r"\d+")
# Groups that these join belong to one number: what is cut off at them would be a piece.
_TIGHT = frozenset(".-·")
_FLOAT = re.compile(r"\d{7,}\.0")


def numbers(context: Context) -> Iterator[Number]:
    """Every sequence of neighbouring groups of digits with 5 to 20 digits in all."""
    text = context.text
    for zone in _ZONE.finditer(text):
        groups = [found.span() for found in _GROUP.finditer(text, *zone.span())]
        # Whether a group is joined to the one before it.
        joints = (text[left[1] : right[0]] in _TIGHT for left, right in pairwise(groups))
        tight = [False, *joints, False]
        if len(groups) == 2 and _FLOAT.fullmatch(text, *zone.span()):
            tight[1] = False  # a table made a float of it: 13812345678.0
        for first in range(len(groups)):
            if tight[first] or _in_word(text, groups[first][0]):
                continue
            # In a long table only the usual groupings are looked for, behind its first few.
            table = len(groups) > TABLE_GROUPS and first >= MOST_GROUPS
            total = 0
            for last in range(first, min(len(groups), first + MOST_GROUPS)):
                total += groups[last][1] - groups[last][0]
                if total > MOST_DIGITS:
                    break
                # Five or six digits in many groups are a row of numbers.
                few = total < 7 and last - first > 2
                if total < LEAST_DIGITS or few or tight[last + 1]:
                    continue
                sizes = tuple([end - start for start, end in groups[first : last + 1]])
                if not table or sizes in TABLE_LAYOUTS or sizes == (total,):
                    yield Number(context, groups[first : last + 1])
        if MOST_GROUPS < len(groups) <= MOST_DIGITS:  # spread out: 1 3 8 0 0 …
            whole = Number(context, groups)
            if len(whole.digits) <= MOST_DIGITS:
                yield whole


UNUSUAL = frozenset("/_*")
"""What stands between the groups of a number that someone has disguised, or marked up."""

# Its first digit stands before what may not stand before it: only digits are then tried.
_JOINED = re.compile(
    r"\d(?<![A-Za-z0-9_.].)(?:\d{0,7}(?: ?[/_*]{1,2} ?\d{1,8}){2,19}"
    r"|\d\d/ ?\d{3}[-. ]\d{4}|(?<=0)\d{2,4} ?/ ?\d{3,8}(?:[- ]\d{2,5}){0,3})"
    r"(?!\d|[A-Za-z_.]\d)"
)


def disguised_numbers(context: Context) -> Iterator[Number]:
    """Numbers of ten digits and more in groups with slashes, underscores or asterisks between."""
    text = context.text
    if not ("/" in text or "_" in text or "*" in text):
        return
    for found in _JOINED.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, *found.span())]
        number = Number(context, groups)
        if LEAST_DISGUISED <= len(number.digits) <= MOST_DIGITS:
            yield number


LEAST_DISGUISED = 10
"""Shorter ones are dates, fractions and versions."""

_HEX_BEFORE = re.compile(r"(?:[A-Za-z]*\d[A-Za-z0-9]*|[A-Za-z0-9]*[_#])[A-Za-z]$|\d\.$")
# A comma joins groups of three (1,234,567); between other numbers it ends a field of a table.
_THOUSANDS_BEFORE = re.compile(r"(?<!\d)\d{1,3}(?:,\d{3})*,$")
_THOUSANDS = re.compile(r"\d{3}(?!\d|[-.]\d{3}[-.]\d{4}(?!\d))")


def _in_word(text: str, start: int) -> bool:
    """Whether the digits at `start` go on a word or a number: "a1b2345678", "3.1415926"."""
    before = text[start - 1] if start else " "
    if not before.isascii() or not (before.isalpha() or before in ",."):
        return False
    near = text[max(0, start - 12) : start]
    if before == ",":
        return bool(_THOUSANDS_BEFORE.search(near) and _THOUSANDS.match(text, start))
    return _HEX_BEFORE.search(near) is not None
