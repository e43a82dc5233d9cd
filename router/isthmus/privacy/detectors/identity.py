"""Numbers that a state gives a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.numbers import (
    CERTAIN,
    IN_CONTEXT,
    LIKELY,
    PLAUSIBLE,
    context_words,
    layouts_of,
    named_before,
    numbers_in,
)


class ChineseIdDetector:
    """Identity card numbers of the People's Republic of China (GB 11643): 18 characters."""

    name = "id_cn"
    labels = frozenset[str]({Label.ID_CN})
    PROVINCES = frozenset(
        str(code)
        for first, last in ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 83))
        for code in range(first, last + 1)
        if not 71 < code < 81
    )
    WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    CHECKS = "10X98765432"
    LAYOUTS = (
        *layouts_of("18", "15", "6 8 4", "6 4 4 4", "3 3 4 4 4", "6 12", "14 4"),
        *layouts_of("17", "6 8 3", "6 4 4 3", "3 3 4 4 3", "6 11", "14 3", last="[Xx]"),
    )
    CONTEXT = context_words(
        r"身份|证件|证号|居民|(?<![a-z])(?:id(?:entity)?|resident)(?:[ _-]?(?:card|number|num|no))?"
        r"[ .:#=\"']{0,4}(?:is )?$"
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Numbers that pass the checksum, hold a region and a day, or are named by the context."""
        for digits, start, end in numbers_in(text, self.LAYOUTS):
            named = named_before(text, start, self.CONTEXT)
            if len(digits) == 15:  # the form before 1999: two digits of the year, no checksum
                score = (
                    IN_CONTEXT if named and self._plausible(f"{digits[:6]}19{digits[6:]}") else 0.0
                )
            elif self._plausible(digits) and self._checked(digits):
                score = CERTAIN
            elif named:
                score = IN_CONTEXT
            else:
                score = PLAUSIBLE if self._plausible(digits) else 0.0
            if score:
                yield Span(start, end, Label.ID_CN, score)

    def _checked(self, digits: str) -> bool:
        total = sum(w * int(d) for w, d in zip(self.WEIGHTS, digits[:17], strict=True))
        return self.CHECKS[total % 11] == digits[17]

    def _plausible(self, digits: str) -> bool:
        """Whether a province and a day of birth are where they belong."""
        if digits[:2] not in self.PROVINCES or digits[6:8] not in {"18", "19", "20"}:
            return False
        try:
            date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
        except ValueError:
            return False
        return True


class UsSsnDetector:
    """Social security numbers of the United States."""

    name = "us_ssn"
    labels = frozenset[str]({Label.US_SSN})
    FORM = re.compile(r"(?<!\d)(?<!\d[.-])(\d{3})([ -]?)(\d{2})\2(\d{4})(?!\d)(?!-\d)(?!\.\d)")
    CONTEXT = context_words(r"(?<![a-z])ssn|social[ -]security|社会安全|社安|社保号")

    def detect(self, text: str) -> Iterator[Span]:
        """Numbers with dashes that could have been issued, any form where the context names it."""
        for found in self.FORM.finditer(text):
            area, separator, group, serial = found.groups()
            issued = area not in {"000", "666"} and area < "900" and group != "00"
            if named_before(text, found.start(), self.CONTEXT):
                yield Span(*found.span(), Label.US_SSN, CERTAIN)
            elif separator == "-" and issued and serial != "0000":
                yield Span(*found.span(), Label.US_SSN, LIKELY)
