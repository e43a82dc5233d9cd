"""E-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.numbers import CERTAIN


class EmailDetector:
    """E-mail addresses, found from their @ outwards."""

    name = "email"
    labels = frozenset[str]({Label.EMAIL})
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
