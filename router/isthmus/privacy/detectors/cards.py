"""Payment cards (ISO/IEC 7812), bank accounts (ISO 13616), mobile devices (3GPP TS 23.003)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.checks import luhn
from isthmus.privacy.detectors.context import Context
from isthmus.privacy.detectors.numbers import (
    CERTAIN,
    IN_CONTEXT,
    LIKELY,
    PLAUSIBLE,
    UNUSUAL,
    Number,
)
from isthmus.privacy.detectors.vocabulary import words


class BankCardRule:
    """Payment cards: an issuer's prefix with a Luhn checksum, or the context."""

    label = Label.BANK_CARD
    lengths = frozenset(range(12, 20))
    ISSUED = re.compile(
        r"4\d{12}(?:\d{3})?(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
        r"|35\d{14}|(?:1800|2131)\d{11}|6\d{15}(?:\d{3})?|5[0678]\d{14}(?:\d{3})?"
    )
    LAYOUTS = frozenset(
        {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (6, 13), (6, 10), (4, 4, 5), (4, 4, 4)}
    )

    def judge(self, number: Number) -> Span | None:
        """Cards of 12 to 19 digits, whole or in groups."""
        digits = number.digits
        if len(set(digits)) == 1 or number.glue & {"(", ")"}:
            return None
        usual = self._usual(number.sizes)
        if number.column and not number.named(self.label):
            return None
        if number.glue & {".", *UNUSUAL} and not (usual and len(number.sizes) > 2):
            return None
        if luhn(digits) and usual and self.ISSUED.fullmatch(digits):
            if len(digits) == 13 and number.other:  # as long as an article's number
                return None
            return number.span(self.label, CERTAIN)
        if "." in number.glue:
            return None
        if not usual and len(number.sizes) > 5:
            return None
        # A failed checksum does not veto where the context says what it is.
        if number.named(self.label, 32) and (
            len(digits) >= 15 or luhn(digits) or digits[0] in "3456"
        ):
            return number.span(self.label, LIKELY if len(digits) in {16, 19} else IN_CONTEXT)
        if number.named(Label.ACCOUNT, 16) and len(digits) >= 15 and digits[0] in "3456":
            # China's cards alone begin with 62 (ISO/IEC 7812: UnionPay).
            return number.span(self.label, LIKELY if digits[:2] == "62" else IN_CONTEXT)
        return None

    def _usual(self, sizes: tuple[int, ...]) -> bool:
        """In one piece, in fours with a shorter rest, in ones or twos; perhaps cut by a line."""
        if len(sizes) <= 2 or sizes in self.LAYOUTS:
            return True
        return len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0] and sizes[0] in {1, 2, 4}


class ImeiRule:
    """Serial numbers of mobile devices: 15 digits with a Luhn checksum, 16 with a version."""

    label = Label.IMEI
    lengths = frozenset({15, 16, 17})
    LAYOUTS = frozenset({(2, 6, 6, 1), (6, 2, 6, 1), (8, 6, 1), (2, 6, 6, 2), (6, 2, 6, 2)})

    def judge(self, number: Number) -> Span | None:
        """Named by the context, or of a usual body and with the checksum."""
        if number.named(self.label, 24) and len(number.digits) < 17:
            return number.span(self.label, CERTAIN)
        valid = len(number.digits) == 15 and luhn(number.digits)
        if valid and number.sizes in self.LAYOUTS:
            return number.span(self.label, LIKELY)
        if valid and len(number.sizes) == 1 and number.digits[:2] in {"35", "86"}:
            return None if number.other else number.span(self.label, PLAUSIBLE)
        return None


_IBAN_CHARS = {
    entry[:2]: int(entry[2:])
    for entry in words(
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27"
        " DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22"
        " IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19"
        " MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31"
        " SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    )
}
"""How long each country's numbers are (ISO 13616's registry)."""


NAMED = 0.95
LEAST_IBAN_DIGITS = 5


class IbanDetector:
    """International bank account numbers (ISO 13616), whole or in groups of four."""

    name = "iban"
    labels = frozenset[str]({Label.IBAN})
    FORM = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[ -]?\d{2}(?=(?:[ \n-]{0,2}[A-Za-z0-9]){11})")

    def detect(self, text: str) -> Iterator[Span]:
        """Numbers of a country's length with the checksum, or named by the context."""
        context = Context(text)
        for found in self.FORM.finditer(text):
            country = found[0][:2].upper()
            length = _IBAN_CHARS.get(country)
            if length is None:
                continue
            end = self._end(text, found.start(), length)
            if end is None:
                continue
            raw = text[found.start() : end]
            value = re.sub(r"[^A-Za-z0-9]", "", raw).upper()
            # Every country's has digits: "at 77 Massachusetts Ave" has none.
            if sum(map(str.isdigit, value[4:])) < LEAST_IBAN_DIGITS:
                continue
            if self._checked(value):
                yield Span(found.start(), end, Label.IBAN, CERTAIN)
            elif context.names(Label.IBAN, found.start(), end, 32):
                # Surer than the telephone numbers that its groups may look like.
                yield Span(found.start(), end, Label.IBAN, NAMED)

    @staticmethod
    def _end(text: str, start: int, length: int) -> int | None:
        """Where `length` letters and digits end, if nothing goes on there."""
        seen = 0
        for at in range(start, min(len(text), start + 3 * length)):
            if text[at].isascii() and text[at].isalnum():
                seen += 1
                if seen == length:
                    after = text[at + 1 : at + 2]
                    return None if after.isascii() and after.isalnum() else at + 1
            elif text[at] not in " -\n":
                return None
        return None

    @staticmethod
    def _checked(value: str) -> bool:
        """ISO 7064, mod 97-10: the first four characters last, letters as 10 to 35."""
        return int("".join(str(int(char, 36)) for char in value[4:] + value[:4])) % 97 == 1
