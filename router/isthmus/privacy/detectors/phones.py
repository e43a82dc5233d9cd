"""Phone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.numbers import IN_CONTEXT, LIKELY, context_words, named_before


class PhoneDetector:
    """Phone numbers: international, North American, Chinese; others where the context says so."""

    name = "phone"
    labels = frozenset[str]({Label.PHONE})
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
    CONTEXT = context_words(
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
            named = named_before(text, found.start(), self.CONTEXT)
            if named and self.DATE.match(found[0]) is None:
                yield Span(*found.span(), Label.PHONE, IN_CONTEXT)

    def _calculation(self, text: str, found: re.Match[str]) -> bool:
        before = text[max(0, found.start() - 4) : found.start()]
        return (
            self.PRODUCT_AFTER.match(text, found.end()) is not None
            or self.PRODUCT_BEFORE.search(before) is not None
        )
