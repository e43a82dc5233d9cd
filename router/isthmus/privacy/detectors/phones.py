"""Phone numbers: international, Chinese, North American; others by their form and the context."""

from __future__ import annotations

import re
from itertools import pairwise

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.numbers import (
    IN_CONTEXT,
    LIKELY,
    OWN_GAP,
    PLAUSIBLE,
    UNUSUAL,
    Number,
)
from isthmus.privacy.detectors.vocabulary import OTHER, PHONE_NEAR, words

_COUNTRY_CODES = words(
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63"
    " 64 65 66 81 82 84 86 90 91 92 93 94 95 98"
)
"""ITU-T E.164's codes of one and two digits; every other one has three."""


class PhoneRule:
    """Numbers that can be dialled. 7 digits to 15 (ITU-T E.164, clause 6)."""

    label = Label.PHONE
    lengths = frozenset(range(7, 18))

    def judge(self, number: Number) -> Span | None:
        """Numbers in a usual form, and what a phone's word stands beside."""
        if number.spelled:
            return self._spelled(number)
        if number.glue & UNUSUAL:
            return self._disguised(number)
        score = self._form(number)
        if score < LIKELY and self._named(number):
            score = IN_CONTEXT
        if (
            not score
            or self._calculated(number)
            or self._a_date(number)
            or (number.other and score <= LIKELY and not self._plus(number))
        ):
            return None
        span = number.span(self.label, score)
        return Span(self._from(number), self._to(number), span.label, span.score)

    def _disguised(self, number: Number) -> Span | None:
        """A mobile of China or a number of North America, grouped as they are, or digit by digit.

        Between the groups stands what few write there: 138/1234/5678. Where an area code is
        written so (Germany's 089/1234567), the context has to name the number.
        """
        digits, sizes = number.digits, number.sizes
        code = digits[:-11] in {"", "86", "0086"} and _MOBILE_CN.fullmatch(digits[-11:])
        chinese = code and (sizes[-3:] == (3, 4, 4) or set(sizes) == {1})
        american = _NANP.fullmatch(digits) and sizes[-3:] == (3, 3, 4)
        area = digits[0] == "0" and "/" in number.glue and not number.glue & {"_", "*"}
        if not (chinese or american or (area and number.named(self.label, 12))):
            return None
        span = number.span(self.label, LIKELY if chinese or american else IN_CONTEXT)
        return Span(self._from(number), span.end, span.label, span.score)

    def _form(self, number: Number) -> float:
        digits, sizes = number.digits, number.sizes
        lettered = _LETTER_BEFORE.search(number.before) is not None
        if self._plus(number):
            code = digits[:2] in _COUNTRY_CODES or digits[0] in "17"
            fits = 8 <= len(digits) <= 15 and digits[0] != "0" and len(sizes) <= 7
            return LIKELY if fits and (code or digits[:2] not in _UNUSED) else 0.0
        if digits.startswith("00") and 11 <= len(digits) <= 17 and not number.glue & {"."}:
            return self._abroad(number)
        if lettered and not number.named(self.label, 1):
            return 0.0
        if digits.startswith("011") and sizes[0] == 3 and len(digits) > 12 and len(sizes) > 2:
            # How North America dials abroad: 011 44 20 7946 0958.
            return LIKELY if digits[3] != "0" and not number.glue & {".", "\n"} else 0.0
        score = self._chinese(number)
        return score if score == LIKELY else max(score, self._american(number), self._trunk(number))

    @staticmethod
    def _abroad(number: Number) -> float:
        """Dialled with the international prefix: 0086…, 001-…, 00 44 …"""
        digits = number.digits[2:]
        if _MOBILE_CN.fullmatch(digits.removeprefix("86")) or number.sizes[:2] in {(3, 3), (2, 2)}:
            return LIKELY
        return PLAUSIBLE if digits[:1] in _FIRST_CODES and len(number.sizes) > 1 else 0.0

    @staticmethod
    def _chinese(number: Number) -> float:
        digits, sizes = number.digits, number.sizes
        if _MOBILE_CN.fullmatch(digits):
            # In any grouping, even one that a line's end cut; but no row of loose numbers.
            even = len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0] <= 2
            grouped = (len(sizes) <= 4 or even) and not number.glue & {"(", ")"}
            if number.column and not number.named(Label.PHONE):
                return 0.0
            dotted = "." in number.glue and sizes not in {(3, 4, 4), (1,) * 11}
            return LIKELY if grouped and not dotted else 0.0
        if "\n" in number.glue:
            return 0.0
        if digits.startswith("86") and _MOBILE_CN.fullmatch(digits[2:]):
            return LIKELY if len(sizes) <= 5 else 0.0
        if _SERVICE_CN.fullmatch(digits) and sizes in {(3, 3, 4), (3, 4, 3), (3, 7)}:
            return LIKELY
        if _LANDLINE_CN.fullmatch(digits):
            area = 3 if digits[1] in "12" else 4
            if sizes[0] == area and len(sizes) <= 3:
                return LIKELY
            return PLAUSIBLE if len(sizes) == 1 and len(digits) >= 11 else 0.0
        # With a dash before the extension: 0571-87654321-8012.
        if number.glue == {"-"} and len(sizes) == 3 and 1 <= sizes[2] <= 5:
            local = digits[: -sizes[2]]
            if _LANDLINE_CN.fullmatch(local) and sizes[0] == (3 if digits[1] in "12" else 4):
                return LIKELY
        if digits.startswith("86") and _LANDLINE_CN.fullmatch("0" + digits[2:]):
            return LIKELY if len(sizes) in {3, 4} and sizes[0] == 2 else 0.0
        return 0.0

    @staticmethod
    def _american(number: Number) -> float:
        digits, sizes, glue = number.digits, number.sizes, number.glue
        if "\n" in glue:
            return 0.0
        if sizes in {(3, 3, 4), (1, 3, 3, 4), (3, 7), (3, 3, 3, 4), (6, 4)}:
            local = digits[-10:]
            prefix = digits[:-10]
            issued = local[0] in "23456789" and local[3] in "23456789"
            if prefix not in {"", "1", "001"} or glue >= {".", "-"}:
                return 0.0
            if sizes in {(3, 7), (6, 4)}:
                return LIKELY if _PAREN.search(number.before) and ")" in glue else 0.0
            if glue <= {" "}:
                return LIKELY if issued and number.alone else 0.0
            return LIKELY
        if sizes == (3, 4) and digits.startswith("555"):
            return LIKELY
        return 0.0

    @staticmethod
    def _trunk(number: Number) -> float:
        """National forms of other countries: a zero, then two to five groups."""
        digits, sizes, glue = number.digits, number.sizes, number.glue
        if digits[0] != "0" or digits[1] == "0" or not 9 <= len(digits) <= 12 or "\n" in glue:
            return 0.0
        if len(sizes) == 1:
            # 07700900123: a British mobile; others stand too much alone to tell.
            return PLAUSIBLE if _MOBILE_UK.fullmatch(digits) else 0.0
        groups = [int(group) for group in re.findall(r"\d+", number.raw)]
        counted = all(right - left == 1 for left, right in pairwise(groups))
        if sizes == (5, 4):  # a postcode of the United States
            return 0.0
        if sizes[0] < 2 or len(sizes) > 5 or min(sizes) < 2 or (counted and len(sizes) > 1):
            return 0.0
        if max(sizes) == 2 and not number.alone:
            return 0.0
        name = number.clue
        if name is not None and name.label == Label.ACCOUNT and name.gap <= OWN_GAP:
            return PLAUSIBLE  # "account number 0123 4567 8901"
        if "." in glue:
            return LIKELY if sizes == (2, 2, 2, 2, 2) or ")" in glue else 0.0
        return LIKELY

    def _named(self, number: Number) -> bool:
        """Whether a phone's word stands by a number that could be one."""
        sizes = number.sizes
        if number.glue & {"\n", "."} and len(set(number.glue)) > 1:
            return False
        if "\n" in number.glue or len(number.digits) > 15 or not self._whole(number):
            return False
        # One digit alone is a count ("555 1234 2"), unless the number starts with it.
        if len(sizes) > 1 and (1 in sizes[1:] or len(sizes) > 6) and max(sizes) > 2:
            return False
        before, after = number.clue, number.clue_after
        free = before is None or before.gap > OWN_GAP or before.label in {OTHER, PHONE_NEAR}
        # "781 1704 office", but "account 7811704, office 7811705" has a name of its own.
        if (
            free
            and after is not None
            and after.gap <= 3
            and after.label in {self.label, PHONE_NEAR}
        ):
            return True
        if before is None:
            return False
        near = before.label == PHONE_NEAR and before.gap <= 4 and len(sizes) > 1
        return near or (before.label == self.label and before.gap <= 24)

    @staticmethod
    def _whole(number: Number) -> bool:
        """Whether no other number stands between the word and this one."""
        before = number.clue
        gap = 0 if before is None else before.gap
        between = number.text[number.start - gap : number.start]
        return not any(char.isdigit() for char in between) or _LISTED.fullmatch(between) is not None

    @staticmethod
    def _plus(number: Number) -> bool:
        before = number.before
        return before.endswith(("+", "+(")) and not _SUM.search(before)

    def _calculated(self, number: Number) -> bool:
        return (
            _PRODUCT_AFTER.match(number.text, number.end) is not None
            or _PRODUCT_BEFORE.search(number.before) is not None
        )

    @staticmethod
    def _a_date(number: Number) -> bool:
        return len(number.digits) in {7, 8, 12, 14} and _DATE.match(number.raw) is not None

    @staticmethod
    def _from(number: Number) -> int:
        """Where the number starts with its plus and its bracket."""
        start = number.start
        if number.raw.count(")") > number.raw.count("(") and number.text[start - 1] == "(":
            start -= 1
        if start and number.text[start - 1] == "+":
            start -= 1
            if start and number.text[start - 1] == "(" and ")" in number.raw:
                start -= 1
        return start

    @staticmethod
    def _to(number: Number) -> int:
        """Where the number ends with its extension."""
        extension = _EXTENSION.match(number.text, number.end)
        return number.end if extension is None else extension.end()

    def _spelled(self, number: Number) -> Span | None:
        digits = number.digits
        before = number.clue
        told = before is not None and before.label == self.label
        other = before is not None and before.label not in {self.label, OTHER}
        if told or (not other and len(digits) in {10, 11} and digits[0] != "0"):
            return number.span(self.label, IN_CONTEXT if told else PLAUSIBLE)
        return None


_FIRST_CODES = frozenset("123456789")
_UNUSED = frozenset({"83", "89"})
_MOBILE_CN = re.compile(r"1[3-9]\d{9}")
_SERVICE_CN = re.compile(r"[48]00\d{7}")
_LANDLINE_CN = re.compile(r"0(?:10|2[0-57-9]|[3-9]\d{2})[2-8]\d{6,7}")
_NANP = re.compile(r"1?[2-9]\d{2}[2-9]\d{6}")
_MOBILE_UK = re.compile(r"07\d{9}|0[12]\d{9}")
# "call 555 0101 or 555 0102": the word names each number of the list.
_LISTED = re.compile(
    r"[^\d\n]{0,12}(?=\(?(?:\d[ ().-]{0,3}){7})[\d ().-]{7,20}(?:,| or| and|/|;|、|或|和)[ ]?"
)
_EXTENSION = re.compile(
    r"(?: ?(?:x|ext\.?|extension|#|转|轉|分机(?:号)?[:]?|-) ?\d{1,6})(?![\d-])", re.IGNORECASE
)
_LETTER_BEFORE = re.compile(r"[A-Za-z_#@]$|[A-Za-z0-9_-]/$")
_PAREN = re.compile(r"\($")
_SUM = re.compile(r"[A-Za-z0-9)]\+\(?$|[0-9)] \+\(?$")
_DATE = re.compile(
    r"(?:19|20)\d{2}[-. ]?[01]\d[-. ]?[0-3]\d|[0-3]?\d[-. ][0-3]?\d[-. ](?:19|20)\d{2}"
    r"|(?:19|20)\d{2} ?- ?(?:19|20)\d{2}$"
)
_PRODUCT_AFTER = re.compile(
    r" ?[*×÷^] ?[\d(]| [+=] ?[\d(]| ?(?:[%元块円万亿人个名件吨]|美元|usd|dollars|kg|km)",
    re.IGNORECASE,
)
_PRODUCT_BEFORE = re.compile(r"[\d)] ?[*×÷^] ?$|[\d)] [+-] $|[$€£¥￥] ?$")
