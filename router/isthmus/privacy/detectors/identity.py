"""Numbers that a state gives a person, of digits alone: China, the United States, many others."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.checks import luhn, verhoeff
from isthmus.privacy.detectors.numbers import (
    CERTAIN,
    IN_CONTEXT,
    LIKELY,
    PLAUSIBLE,
    UNUSUAL,
    Number,
)


class ChineseIdRule:
    """Identity card numbers of the People's Republic of China (GB 11643): 18 characters."""

    label = Label.ID_CN
    lengths = frozenset({15, 17, 18})
    PROVINCES = frozenset(
        str(code)
        for first, last in ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 83))
        for code in range(first, last + 1)
        if not 71 < code < 81
    )
    WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    CHECKS = "10X98765432"
    LAST_X = re.compile(r"[ ._/-]?[Xx×](?![A-Za-z0-9])")
    SPLIT = frozenset({(6, 8, 4), (6, 8, 3), (6, 4, 4, 4), (6, 4, 4, 3)})

    def judge(self, number: Number) -> Span | None:
        """Numbers that pass the checksum, hold a region and a day, or are named by the context."""
        digits, end = number.digits, number.end
        if number.glue & {"(", ")"}:
            return None
        if number.glue & {".", *UNUSUAL} and number.sizes not in self.SPLIT:
            return None
        if len(digits) == 17:
            last = self.LAST_X.match(number.text, end)
            if last is None:
                return None
            digits, end = digits + "X", last.end()
        named = any(
            number.named(label) for label in (Label.ID_CN, Label.NATIONAL_ID, Label.DRIVER_LICENSE)
        )
        score = self._score(digits, named, other=number.other, groups=len(number.sizes))
        return Span(number.start, end, self.label, score) if score else None

    def _score(self, digits: str, named: bool, *, other: bool, groups: int) -> float:
        if len(digits) == 15:  # the form before 1999: two digits of the year, no checksum
            plausible = self._plausible(f"{digits[:6]}19{digits[6:]}")
            return IN_CONTEXT if named and plausible else 0.0
        plausible = self._plausible(digits)
        if plausible and self._checked(digits):
            return CERTAIN
        if named and groups <= 18:
            return LIKELY if plausible else IN_CONTEXT
        return PLAUSIBLE if plausible and not other and groups <= 5 else 0.0

    def _checked(self, digits: str) -> bool:
        total = sum(w * int(d) for w, d in zip(self.WEIGHTS, digits[:17], strict=True))
        return self.CHECKS[total % 11] == digits[17]

    def _plausible(self, digits: str) -> bool:
        """Whether a province and a day of birth are where they belong."""
        if digits[:2] not in self.PROVINCES or digits[6:8] not in {"18", "19", "20"}:
            return False
        return _a_day(digits[6:10], digits[10:12], digits[12:14])


def _a_day(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


class UsSsnRule:
    """Social security numbers of the United States."""

    label = Label.US_SSN
    lengths = frozenset({9})

    def judge(self, number: Number) -> Span | None:
        """Numbers that could have been issued: with dashes, or named by the context."""
        digits = number.digits
        # Never issued: areas 000, 666 and 900 to 999, group 00, serial 0000 (SSA, RM 10201.035).
        if digits[:3] in {"000", "666"} or digits[0] == "9":
            return None
        if digits[3:5] == "00" or digits[5:] == "0000" or number.glue & {"(", ")"}:
            return None
        if number.named(self.label, 40):
            return number.span(self.label, CERTAIN)
        if number.sizes != (3, 2, 4) or number.other:
            return None
        if number.glue == {"-"}:
            return number.span(self.label, LIKELY)
        return number.span(self.label, PLAUSIBLE) if number.alone and number.glue == {" "} else None


class NationalNumberRule:
    """Personal numbers of many countries: by a form that nothing else has, or the context."""

    label = Label.NATIONAL_ID
    lengths = frozenset(range(7, 20))

    def judge(self, number: Number) -> Span | None:
        """Numbers in a national layout with its checksum, and those that the context names."""
        # A number in one piece has no layout: most have none, and this is asked of each.
        grouped = len(number.sizes) > 1
        layout = _LAYOUTS.get((number.sizes, "".join(sorted(number.glue)))) if grouped else None
        if layout is not None and number.alone and layout(number.digits) and not number.other:
            # Macau's ends with its bracket: 1234567(8).
            end = number.end + ("(" in number.raw)
            return Span(number.start, end, self.label, LIKELY)
        if len(number.sizes) > 7 or "\n" in number.glue or number.lettered:
            return None
        if not number.named(self.label, 28):
            return None
        return number.span(self.label, IN_CONTEXT)


def _aadhaar(digits: str) -> bool:
    """India, UIDAI: a Verhoeff checksum, no leading 0 or 1."""
    return digits[0] in "23456789" and verhoeff(digits)


def _rrn(digits: str) -> bool:
    """Korea: the day of birth, then a digit for sex and century."""
    return digits[6] in "12345678" and _a_day("2000", digits[2:4], digits[4:6])


def _nir(digits: str) -> bool:
    """France, INSEE: 97 less the rest of the first thirteen digits."""
    return digits[0] in "1234" and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _personnummer(digits: str) -> bool:
    """Sweden: the day of birth and a Luhn checksum."""
    return _a_day("2000", digits[-8:-6], digits[-6:-4]) and luhn(digits[-10:])


def _belgian(digits: str) -> bool:
    """Belgium: 97 less the rest of nine digits, with a 2 before them since 2000."""
    rests = {97 - int(century + digits[:9]) % 97 for century in ("", "2")}
    return int(digits[9:]) in rests


def _itin(digits: str) -> bool:
    """United States, IRS: 9 first, then a group of 50 to 65, 70 to 88, 90 to 92 or 94 to 99."""
    return digits[0] == "9" and digits[3:5] >= "50" and digits[3:5] not in _NO_ITIN


def _any(digits: str) -> bool:
    return len(set(digits)) > 1


_NO_ITIN = frozenset({"66", "67", "68", "69", "89", "93"})
_LAYOUTS: dict[tuple[tuple[int, ...], str], Callable[[str], bool]] = {
    ((4, 4, 4), " "): _aadhaar,
    ((4, 4, 4), "-"): _aadhaar,
    ((3, 3, 3, 2), "-."): _any,  # Brazil's CPF: 123.456.789-09
    ((6, 7), "-"): _rrn,
    ((1, 2, 2, 2, 3, 3, 2), " "): _nir,
    ((6, 4), "-"): _personnummer,
    ((8, 4), "-"): _personnummer,
    ((2, 2, 2, 3, 2), "-."): _belgian,
    ((3, 4, 4, 2), "."): lambda digits: digits.startswith("756"),  # Switzerland's AHV
    ((3, 4, 7, 1), "-"): lambda digits: digits.startswith("784"),  # Emirates
    ((5, 7, 1), "-"): lambda digits: digits[0] in "1234567",  # Pakistan's CNIC: a province first
    ((3, 3, 3, 2), " -"): _any,  # Russia's SNILS: 112-233-445 95
    ((3, 2, 4), "-"): _itin,
    ((1, 3, 3, 1), "-."): _any,  # Chile's RUT: 9.345.678-5
    ((2, 3, 3, 1), "-."): _any,
    ((7, 1), "("): lambda digits: digits[0] in "1578",  # Macau
}
