"""The detector of all values that are digits alone, and the rule for those without a form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.context import ENDS_NAME, NAME_GAP, NEAR, Context
from isthmus.privacy.detectors.numbers import (
    IN_CONTEXT,
    MOST_DIGITS,
    UNUSUAL,
    Number,
    NumberRule,
    disguised_numbers,
    numbers,
)
from isthmus.privacy.detectors.spelled import spelled_numbers
from isthmus.privacy.detectors.vocabulary import LICENSE_NEAR

_DISGUISED = frozenset({Label.PHONE, Label.BANK_CARD, Label.ID_CN, Label.NATIONAL_ID})
"""Labels whose own form, or name, is sure enough without the usual separators."""


class NamedRule:
    """Numbers of any form that a word right before them names."""

    def __init__(self, label: Label, lengths: range) -> None:
        self.label, self.lengths = label, frozenset(lengths)

    def judge(self, number: Number) -> Span | None:
        """The number, if nothing but the sentence stands between it and its name."""
        name = number.clue
        if name is None or "\n" in number.glue or len(number.sizes) > 5:
            return None
        if name.label != self.label and not (
            name.label == LICENSE_NEAR and self.label == Label.DRIVER_LICENSE and name.gap <= NEAR
        ):
            return None
        attached = number.before.lower().endswith("qq")  # QQ123456789
        if name.gap > NAME_GAP or (number.lettered and not attached):
            return None
        if ENDS_NAME.search(number.text, number.start - name.gap, number.start):
            return None
        return number.span(self.label, IN_CONTEXT)


class NumberDetector:
    """All values that are digits alone: finds the candidates once, and asks each rule."""

    name = "numbers"

    def __init__(self, rules: Sequence[NumberRule]) -> None:
        self.labels = frozenset[str](rule.label for rule in rules)
        self._rules = tuple(
            tuple(rule for rule in rules if length in rule.lengths)
            for length in range(MOST_DIGITS + 1)
        )

    def detect(self, text: str) -> Iterator[Span]:
        """What the rules take for values."""
        context = Context(text)
        for number in chain(numbers(context), spelled_numbers(context), disguised_numbers(context)):
            for rule in self._rules[len(number.digits)]:
                if number.glue & UNUSUAL and rule.label not in _DISGUISED:
                    continue
                span = rule.judge(number)
                if span is not None:
                    yield span
