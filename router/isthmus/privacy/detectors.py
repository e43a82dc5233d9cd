r"""The detectors of structured values, for English and Chinese text alike.

A value's neighbours are looked at for digits, never with `\b`: that knows no boundary between
Chinese and ASCII. Every repetition is bounded, so the time is linear in the text. Words near a
value (its context) carry what its form alone does not prove.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from isthmus.privacy.base import Detector, Label, Span

CERTAIN, LIKELY, IN_CONTEXT, PLAUSIBLE = 0.99, 0.9, 0.8, 0.6
"""Scores: a checksum or a form that nothing else has; a usual form; context; form alone."""

CONTEXT_CHARS = 28
"""How far before a value its context is looked for."""


def _context(words: str) -> re.Pattern[str]:
    # Latin words must start as words ("card" but not "discard"); Chinese has no such boundary.
    return re.compile(words, re.IGNORECASE)


def _before(text: str, start: int, words: re.Pattern[str]) -> bool:
    return words.search(text[max(0, start - CONTEXT_CHARS) : start]) is not None


class EmailDetector:
    """E-mail addresses, found from their @ outwards."""

    name = "email"
    LOCAL = (
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-"
        + "".join(chr(code) for code in range(0xC0, 0x250) if chr(code).isalpha())
    )
    LOCAL_CHARS = 64
    DOMAIN = re.compile(
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
        r"(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})"
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Addresses with a dotted domain."""
        at = text.find("@")
        while at >= 0:
            local = text[max(0, at - self.LOCAL_CHARS) : at]
            length = len(local) - len(local.rstrip(self.LOCAL))
            # What only introduces an address is not part of it: "to=a@b.org", "'a@b.org'".
            local = local[len(local) - length :].lstrip("'`/=|{}.*!?#&")
            domain = self.DOMAIN.match(text, at + 1)
            if local and domain:
                yield Span(at - len(local), domain.end(), Label.EMAIL, CERTAIN)
            at = text.find("@", at + 1)


class PhoneDetector:
    """Phone numbers: international, North American, Chinese; others where the context says so."""

    name = "phone"
    EXTENSION = r"(?: ?(?:x|ext\.?|转) ?\d{1,6})?"
    FORMS = tuple(
        re.compile(form)
        for form in (
            # +44 7700 921 916, +41 (0)71 526 99 04
            r"(?<![A-Za-z0-9)])(?<!\d )\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)" + EXTENSION,
            # 13812345678: stands beside anything but digits
            r"(?<!\d)(?<!\d[.,])(?:(?:00)?86)?1[3-9]\d{9}(?!\d)(?![.,]\d)",
            # 138-1234-5678, 138 12345678, 86 138 1234 5678
            r"(?<!\d)(?<!\d[.-])(?:(?:00)?86[ -]{1,2})?1[3-9]\d[ .-]{0,2}\d{4}[ .-]{0,2}\d{4}"
            r"(?!\d)(?![.-]\d)",
            # 010-12345678, (0571) 8765 4321, 021 6543210
            r"(?<!\d)(?<!\d[.-])(?:\(0\d{2,3}\) ?|0[1-9]\d{1,2}[ -])[2-9]\d{2,3}[ -]?\d{4}"
            r"(?!\d)(?![.-]\d)" + EXTENSION,
            # 541-714-1388, (602)272-9781, 001-755-329-4431x042, 930.167.3943
            r"(?<!\d)(?<!\d[.-])(?:(?:\+|00)?1[ .-]?)?(?:\(\d{3}\)[ .-]?|\d{3}[.-]|[2-9]\d{2} )"
            r"\d{3}[ .-]\d{4}(?!\d)(?![.-]\d)" + EXTENSION,
        )
    )
    LOOSE = re.compile(r"(?<!\d)(?<!\d[.,])\(?\d(?:[ ().-]{0,2}\d){6,13}(?!\d)(?![.,]\d)")
    CONTEXT = _context(
        r"(?<![a-z])(?:tele?(?:phone)?|phones?|mobile|cell(?:phone)?|fax|hotline|whats ?app|desk"
        r"|call(?: (?:me|us|him|her|them))?|dial|reach me|text me|messages to)"
        r"(?:(?: number| no| at| on| is| to)|[ .:#=\"']){0,6}$"
        r"|(?:电话|手机|手机号码?|座机|传真|热线|致电|拨打|来电|联系方式)[^\d\n]{0,8}$"
    )
    DATE = re.compile(
        r"(?:19|20)\d{2}[-. ]?[01]\d[-. ]?[0-3]\d|[0-3]?\d[-. ][0-3]?\d[-. ](?:19|20)\d{2}"
    )
    PRODUCT_AFTER = re.compile(r" ?[*×÷^] ?[\d(]| [+=] ?[\d(]| ?(?:[%元块円]|美元|usd|dollars)")
    PRODUCT_BEFORE = re.compile(r"[\d)] ?[*×÷^] ?$|[\d)] [+-] $|[$€£¥￥] ?$")

    def detect(self, text: str) -> Iterator[Span]:
        """Numbers in a usual form, then those that a phone's word stands before."""
        for form in self.FORMS:
            for found in form.finditer(text):
                if not self._calculation(text, found):
                    yield Span(*found.span(), Label.PHONE, LIKELY)
        for found in self.LOOSE.finditer(text):
            if self.DATE.match(found[0]) is None and _before(text, found.start(), self.CONTEXT):
                yield Span(*found.span(), Label.PHONE, IN_CONTEXT)

    def _calculation(self, text: str, found: re.Match[str]) -> bool:
        before = text[max(0, found.start() - 4) : found.start()]
        return (
            self.PRODUCT_AFTER.match(text, found.end()) is not None
            or self.PRODUCT_BEFORE.search(before) is not None
        )


class _Number(NamedTuple):
    """A number, perhaps written in groups: its digits alone, and its place."""

    digits: str
    start: int
    end: int


def _layouts(*layouts: str, last: str = "") -> tuple[re.Pattern[str], ...]:
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


def _numbers(text: str, layouts: tuple[re.Pattern[str], ...]) -> Iterator[_Number]:
    for layout in layouts:
        for found in layout.finditer(text):
            digits = found[1].replace(" ", "").replace("-", "").upper()
            yield _Number(digits, found.start(), found.end(1))


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn checksum of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


class BankCardDetector:
    """Payment cards: an issuer's prefix with a Luhn checksum, or the context."""

    name = "bank_card"
    ISSUED = re.compile(
        r"4\d{12}(?:\d{3})?(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
        r"|35(?:2[89]|[3-8]\d)\d{12,15}|(?:1800|2131)\d{11}|6\d{15,18}|5[0678]\d{14,17}"
    )
    LAYOUTS = _layouts("12,19", "4 4 4 4", "4 4 4 4 1,3", "4 6 4,5")
    CONTEXT = _context(
        r"(?<![a-z])(?:cards?|visa|master ?card|amex|debit|credit|unionpay|maestro)(?![a-z])"
        r"|卡号|银行卡|信用卡|储蓄卡|借记卡|银联|账号|账户|帐号|卡[ :]{0,3}$"
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Cards of 12 to 19 digits, whole or in a card's usual groups."""
        for digits, start, end in _numbers(text, self.LAYOUTS):
            valid = luhn(digits)
            score = 0.0
            if valid and self.ISSUED.fullmatch(digits):
                score = CERTAIN
            elif (valid or len(digits) >= 16) and _before(text, start, self.CONTEXT):
                score = IN_CONTEXT
            if score and len(set(digits)) > 1:
                yield Span(start, end, Label.BANK_CARD, score)


class ChineseIdDetector:
    """Identity card numbers of the People's Republic of China (GB 11643): 18 characters."""

    name = "id_cn"
    PROVINCES = frozenset(
        str(code)
        for first, last in ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 83))
        for code in range(first, last + 1)
        if not 71 < code < 81
    )
    WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    CHECKS = "10X98765432"
    LAYOUTS = (
        *_layouts("18", "15", "6 8 4", "6 4 4 4", "3 3 4 4 4", "6 12", "14 4"),
        *_layouts("17", "6 8 3", "6 4 4 3", "3 3 4 4 3", "6 11", "14 3", last="[Xx]"),
    )
    CONTEXT = _context(
        r"身份|证件|证号|居民|(?<![a-z])(?:id(?:entity)?|resident)(?:[ _-]?(?:card|number|num|no))?"
        r"[ .:#=\"']{0,4}(?:is )?$"
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Numbers that pass the checksum, hold a region and a day, or are named by the context."""
        for digits, start, end in _numbers(text, self.LAYOUTS):
            named = _before(text, start, self.CONTEXT)
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
    FORM = re.compile(r"(?<!\d)(?<!\d[.-])(\d{3})([ -]?)(\d{2})\2(\d{4})(?!\d)(?!-\d)(?!\.\d)")
    CONTEXT = _context(r"(?<![a-z])ssn|social[ -]security|社会安全|社安|社保号")

    def detect(self, text: str) -> Iterator[Span]:
        """Numbers with dashes that could have been issued, any form where the context names it."""
        for found in self.FORM.finditer(text):
            area, separator, group, serial = found.groups()
            issued = area not in {"000", "666"} and area < "900" and group != "00"
            if _before(text, found.start(), self.CONTEXT):
                yield Span(*found.span(), Label.US_SSN, CERTAIN)
            elif separator == "-" and issued and serial != "0000":
                yield Span(*found.span(), Label.US_SSN, LIKELY)


DEFAULT_DETECTORS: tuple[Detector, ...] = (
    EmailDetector(),
    PhoneDetector(),
    BankCardDetector(),
    ChineseIdDetector(),
    UsSsnDetector(),
)
