"""Payment cards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.numbers import (
    CERTAIN,
    IN_CONTEXT,
    context_words,
    layouts_of,
    luhn,
    named_before,
    numbers_in,
)


class BankCardDetector:
    """Payment cards: an issuer's prefix with a Luhn checksum, or the context."""

    name = "bank_card"
    labels = frozenset[str]({Label.BANK_CARD})
    ISSUED = re.compile(
        r"4\d{12}(?:\d{3})?(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
        r"|35(?:2[89]|[3-8]\d)\d{12,15}|(?:1800|2131)\d{11}|6\d{15,18}|5[0678]\d{14,17}"
    )
    LAYOUTS = layouts_of("12,19", "4 4 4 4", "4 4 4 4 1,3", "4 6 4,5")
    CONTEXT = context_words(
        r"(?<![a-z])(?:cards?|visa|master ?card|amex|debit|credit|unionpay|maestro)(?![a-z])"
        r"|卡号|银行卡|信用卡|储蓄卡|借记卡|银联|账号|账户|帐号|卡[ :]{0,3}$"
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Cards of 12 to 19 digits, whole or in a card's usual groups."""
        for digits, start, end in numbers_in(text, self.LAYOUTS):
            valid = luhn(digits)
            score = 0.0
            if valid and self.ISSUED.fullmatch(digits):
                score = CERTAIN
            elif (valid or len(digits) >= 16) and named_before(text, start, self.CONTEXT):
                score = IN_CONTEXT
            if score and len(set(digits)) > 1:
                yield Span(start, end, Label.BANK_CARD, score)
