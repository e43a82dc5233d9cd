"""Personal codes of letters and digits: passports, licences, plates, national identifiers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.context import ENDS_NAME, NAME_GAP, NEAR, Context
from isthmus.privacy.detectors.numbers import IN_CONTEXT, LIKELY
from isthmus.privacy.detectors.vocabulary import LICENSE_NEAR


def _dni(code: str) -> bool:
    """Spain: the letter is the number's rest by 23; X, Y, Z stand for 0, 1, 2."""
    number = code[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == code[-1]


def _nric(code: str) -> bool:
    """Singapore: a weighted sum by 11 chooses the last letter."""
    total = sum(w * int(d) for w, d in zip((2, 7, 6, 5, 4, 3, 2), code[1:8], strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(code[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "XWUTRQPNJLK"}
    return letters.get(code[0], "XWUTRQPMLKN")[total % 11] == code[8]


def _taiwanese(code: str) -> bool:
    """Taiwan: the letter's two digits, then the others by falling weights, by 10."""
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(code[0]) + 10
    digits = [first // 10, first % 10, *map(int, code[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return sum(w * d for w, d in zip(weights, digits, strict=True)) % 10 == 0


def _taiwanese_or_resident(code: str) -> bool:
    """Taiwan: 1 and 2 of citizens, 8 and 9 of residents, A to D of residents until 2021."""
    return code[1] in "ABCD" or _taiwanese(code)


def _any(code: str) -> bool:
    return bool(code)


class _Form(NamedTuple):
    """A code that is known by its form and its check alone."""

    label: Label
    pattern: re.Pattern[str]
    check: Callable[[str], bool]


def _form(label: Label, pattern: str, check: Callable[[str], bool] = _any) -> _Form:
    return _Form(label, re.compile(rf"{pattern}(?![A-Za-z0-9])"), check)


_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_WORDS_TOO = frozenset("京云黑新苏吉贵青藏川宁")
_FORMS = (
    # United Kingdom, national insurance (HMRC, NIM39110).
    _form(
        Label.NATIONAL_ID,
        r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
        r"(?: ?\d{2} ?\d{2} ?\d{2} ?|-?\d{2}-?\d{2}-?\d{2}-?)[A-D]",
    ),
    # India, permanent account number; Italy, codice fiscale; Mexico, CURP.
    _form(Label.NATIONAL_ID, r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]"),
    _form(Label.NATIONAL_ID, r"[A-Z]{6} ?\d{2}[ABCDEHLMPRST]\d{2} ?[A-Z]\d{3}[A-Z]"),
    _form(Label.NATIONAL_ID, r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d"),
    # Spain, DNI and NIE; Singapore, NRIC and FIN.
    _form(Label.NATIONAL_ID, r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]", _dni),
    _form(Label.NATIONAL_ID, r"[STFGM]\d{7}[A-Z]", _nric),
    # Taiwan; Hong Kong with its bracket.
    _form(Label.NATIONAL_ID, r"[A-Z][1289A-D]\d{8}", _taiwanese_or_resident),
    _form(Label.NATIONAL_ID, r"[A-Z]{1,2}\d{6} ?\([0-9A]\)"),
)
_LEAST_FORM_CHARS = 7
# GA 36: a province, an office, five or six letters and digits, or four and what the vehicle is.
_PLATE_CN = re.compile(
    rf"(?:[{_PROVINCES}]|WJ ?[{_PROVINCES}]?)[A-Za-z][ ·.-]{{0,2}}"
    r"(?:[A-Za-z0-9]{5,6}(?![A-Za-z0-9])|[A-Za-z0-9]{4} ?[挂学警港澳领使])"
    rf"|WJ ?[{_PROVINCES}][ ·.-]{{0,2}}\d{{4}}[A-Za-z0-9](?![A-Za-z0-9])"
)
_VEHICLE = re.compile("[车車牌]")
_MILITARY_CN = re.compile(r"[\u4e00-\u9fff]字第? ?\d{6,9}号?")

# Begins where a word does, and has a digit. A later group has one too, or is a check letter.
_CODE = re.compile(
    r"(?<![A-Za-z0-9])(?=[A-Za-z]{0,8}\d|[A-Z]{1,5}[ -]\d|[A-Z]{1,3}-[A-Z]{1,2}[ -]?\d)"
    r"[A-Za-z0-9]{1,20}"
    r"(?:-[A-Za-z0-9]{1,12}| (?=[A-Za-z]{0,3}\d)[A-Za-z0-9]{1,12}| [A-Z]{1,3}(?![A-Za-z])){0,5}"
)
_SHAPES: dict[str, re.Pattern[str]] = {
    # ICAO Doc 9303: nine characters at most; a few states print their permits longer.
    # Germany's and Britain's have letters between: C4VJ2K8H1.
    Label.PASSPORT: re.compile(r"(?=(?:[A-Z]*\d){5})[A-Z0-9]{6,11}|(?=(?:[A-Z]*\d){3})[A-Z0-9]{9}"),
    # Washington's have three digits after seven letters.
    Label.DRIVER_LICENSE: re.compile(
        r"(?=(?:[A-Z]*\d){4})[A-Z0-9]{5,20}|(?=(?:[A-Z]*\d){3})[A-Z0-9]{9,12}"
    ),
    Label.NATIONAL_ID: re.compile(r"(?=(?:[A-Z]*\d){4})[A-Z0-9]{6,19}"),
    Label.PLATE: re.compile(r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z0-9]{4,8}"),
    Label.ACCOUNT: re.compile(r"[A-Z]{1,4}\d{4,18}"),
    Label.MAC: re.compile(r"[0-9A-F]{12}"),
}
_SHAPES_AFTER = frozenset(_SHAPES) - {Label.ACCOUNT, Label.PLATE}
_LETTERED_ID = re.compile(r"[A-Z]{1,2} ?\d{6,9}")
_NAME_FIRST = re.compile("[A-Z]{1,4}[ -](?=[0-9])")
_LETTER = re.compile("[A-Za-z]")
_MIXED = re.compile("[a-z][A-Z]|[A-Z]{2}[a-z]")
_YEARS = re.compile(r"(?:19|20)\d\d(?:-(?:19|20)?\d\d)?")


class CodeDetector:
    """Codes with a form of their own, and codes of any form that a word right beside them names."""

    name = "codes"
    labels = frozenset[str](_SHAPES) | {Label.NATIONAL_ID}

    def detect(self, text: str) -> Iterator[Span]:
        """Codes that hold a digit."""
        context = Context(text)
        for found in _CODE.finditer(text):
            start, end = found.span()
            name = _NAME_FIRST.match(text, start)
            # "MAC 001B…" and "ABC 123": the letters may be the code's name, or its beginning.
            for first in (start,) if name is None else (start, name.end()):
                # Digits alone are the business of the rules for numbers.
                if end - first >= 4 and _LETTER.search(text, first, end) is not None:
                    if end - first >= _LEAST_FORM_CHARS:
                        yield from self._by_form(text, first)
                    yield from self._by_name(context, first, end)
        if not text.isascii():
            for found in _PLATE_CN.finditer(text):
                if self._is_plate(text, found):
                    yield Span(*found.span(), Label.PLATE, LIKELY)
            for found in _MILITARY_CN.finditer(text):
                yield Span(*found.span(), Label.NATIONAL_ID, LIKELY)

    @staticmethod
    def _is_plate(text: str, found: re.Match[str]) -> bool:
        digits = sum(char.isdigit() for char in found[0])
        if digits >= 2 or (digits and found[0].upper() == found[0]):
            return True
        # Letters alone may be a word after a character that is more than a province: "云SERVER".
        around = text[max(0, found.start() - 12) : found.end() + 12]
        province = found[0][0] not in _WORDS_TOO
        return found[0].isupper() and (province or _VEHICLE.search(around) is not None)

    @staticmethod
    def _by_form(text: str, start: int) -> Iterator[Span]:
        for form in _FORMS:
            found = form.pattern.match(text, start)
            if found and form.check(re.sub(r"[^A-Za-z0-9]", "", found[0]).upper()):
                yield Span(start, found.end(), form.label, LIKELY)

    def _by_name(self, context: Context, start: int, end: int) -> Iterator[Span]:
        text = context.text
        label = self._named(context, start, end)
        if label == Label.ID_CN:  # the identity card of another place
            label = Label.NATIONAL_ID if _LETTERED_ID.match(text, start) else None
        if label is None:
            return
        shape = _SHAPES[label]
        if label == Label.PLATE and _MIXED.search(text, start, end):
            return  # "plate recognition with YOLOv8"
        # The longest run of groups that has the shape: "D123 4567 and" ends before its last word.
        if _YEARS.fullmatch(text, start, end):
            return
        while end - start >= 4:
            if shape.fullmatch(re.sub(r"[ -]", "", text[start:end]).upper()):
                yield Span(start, end, label, IN_CONTEXT)
                return
            end = max(text.rfind(" ", start, end), text.rfind("-", start, end))

    @staticmethod
    def _named(context: Context, start: int, end: int) -> str | None:
        before = context.before(start)
        if before is not None and before.label == LICENSE_NEAR:
            return str(Label.DRIVER_LICENSE) if before.gap <= NEAR else None
        if before is not None and before.gap <= NAME_GAP:
            known = before.label in _SHAPES or before.label == Label.ID_CN
            passed = ENDS_NAME.search(context.text, start - before.gap, start) is not None
            return before.label if known and not passed else None
        after = context.after(end)
        if after is not None and after.gap <= 2 and after.label in _SHAPES_AFTER:
            return after.label
        return None
