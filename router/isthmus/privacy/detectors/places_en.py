"""Addresses in Latin and Greek letters: each number's neighbours are read word by word.

The forms are those of the United States, Canada, Britain and Australia (number, name, street's
word), and of continental Europe (the street's word before the name or inside it, number last).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors import gazetteer as g
from isthmus.privacy.detectors.address_tail import Tail, read_tail
from isthmus.privacy.detectors.numbers import IN_CONTEXT, LIKELY
from isthmus.privacy.detectors.streets import StreetReader

# Its first digit stands before what may not stand before it: only digits are then tried.
_NUMBER = re.compile(
    r"\d(?<![\w.,$€£#@/=+*<>-].)(?<!\d:.)(?<![$€£] .)"
    r"\d{0,5}(?:[A-Za-z](?![^\W_]))?(?:[-/]\d{1,5}[A-Za-z]?)?"
    r"(?![\w%°$€£])(?![.,:]\d)(?! ?[%=+*<>])"
)
_STATE_ZIP = re.compile(
    rf"(?:(?:{g.US_STATES}),? \d{{5}}(?:-\d{{4}})?|(?:{g.AU_STATES}),? \d{{4}}"
    rf"|(?:{g.CA_PROVINCES}),? [A-Z]\d[A-Z] ?\d[A-Z]\d)(?!\w)"
)
_MAY_BE_STATE = re.compile(r"[A-Z]{2,3},? (?:\d{4}|[A-Z]\d[A-Z])")  # tried at capitals alone
_TOWN_BEFORE = re.compile(r"(?<!\w)(?:[^\W\d_a-z][^\W\d_]{1,24}[ -]?){1,3},? $")
_BRITISH = re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}(?![A-Za-z0-9])")
_NAME = r"(?![a-z])[^\W\d_][\w'’-]{1,20}\.?"
# "Oak Cottage, Church Lane, Little Haywood, ": what stands before a postcode.
_PARTS_BEFORE = re.compile(rf"(?<!\w)(?:(?:\d{{1,4}} )?{_NAME}(?: {_NAME}){{0,3}},? ){{1,5}}$")
_MILITARY = re.compile(
    r"(?:(?:(?:PSC|Unit|CMR) \d{1,5},? Box \d{1,5}|US[A-Z]{1,3} [^\W\d_]{2,24}),?\s{1,2})?"
    r"(?:APO|FPO|DPO),? A[AEP] \d{5}(?:-\d{4})?",
    re.IGNORECASE,
)
_WORD_AFTER = re.compile(r",? (?:\d{1,5} )?[^\W\d_\u2e80-\uffff]")
_HOUSE_NUMBER = re.compile(
    r"(?<!\w)(?:House|H\.?|Plot|Door|Flat|Shop|Building|Villa) ?(?:No\.?|Number|#) ?:?"
    r"\d{1,5}[A-Za-z]?(?:[-/]\d{1,4})?(?!\w)"
)
_HOUSE_WORDS = ("No", "Number", "#")
_BLOCK_NUMBER = re.compile(r"[A-Z](?<![\w-].)-\d{1,4}(?=, [A-Z])")
_CORNER = re.compile(
    r"(?:the )?(?:corner|intersection) of [^\n,;:!?]{2,40}?\.? and"
    r"(?: (?![a-z])[^\W\d_][^\W_]{1,24}){1,3}"
)


class AddressDetector:
    """Postal addresses with a number: a street's, a unit's, a box's or a postcode."""

    name = "address"
    labels = frozenset[str]({Label.ADDRESS})

    def detect(self, text: str) -> Iterator[Span]:
        """Each address from its first number or name to its postcode or country."""
        small = text.islower()
        done = 0
        tails: dict[int, Tail] = {}
        for number in _NUMBER.finditer(text):
            if number.start() < done:
                continue
            if not _has_neighbours(text, *number.span()):
                continue
            reader = StreetReader(text, number.start(), number.end(), tails, small=small)
            found = reader.numbered() or reader.named()
            if found is not None:
                done = found.end
                yield Span(found.start, found.end, Label.ADDRESS, found.score)
        yield from self._alone(text)
        if any(word in text for word in _HOUSE_WORDS):
            for house in _HOUSE_NUMBER.finditer(text):
                tail = read_tail(text, house.end(), small=small)
                if tail.firm or tail.coded:
                    yield Span(house.start(), tail.end, Label.ADDRESS, LIKELY)
        for block in _BLOCK_NUMBER.finditer(text):  # "B-204, Sunshine Apartments, …"
            tail = read_tail(text, block.end(), small=small)
            if tail.coded:
                yield Span(block.start(), tail.end, Label.ADDRESS, LIKELY)

    @staticmethod
    def _alone(text: str) -> Iterator[Span]:
        """Parts that say all by themselves: a town with its postcode, a corner, a ship."""
        if "PO " in text or "po a" in text:
            for found in _MILITARY.finditer(text):
                yield Span(*found.span(), Label.ADDRESS, LIKELY)
        for maybe in _MAY_BE_STATE.finditer(text):
            low = max(0, maybe.start() - 80)
            zipped = _STATE_ZIP.match(text, maybe.start())
            town = _TOWN_BEFORE.search(text[low : maybe.start()]) if zipped else None
            if zipped and town:
                yield Span(low + town.start(), zipped.end(), Label.ADDRESS, IN_CONTEXT)
        for found in _BRITISH.finditer(text):
            low = max(0, found.start() - 96)
            before = _PARTS_BEFORE.search(text[low : found.start()])
            start = found.start() if before is None else low + before.start()
            yield Span(start, found.end(), Label.ADDRESS, IN_CONTEXT)
        if "corner of" in text or "intersection of" in text:
            for found in _CORNER.finditer(text):
                yield Span(*found.span(), Label.ADDRESS, LIKELY)


def _has_neighbours(text: str, start: int, end: int) -> bool:
    """Whether Latin or Greek words stand around a number: soon seen, and most have none."""
    if _WORD_AFTER.match(text, end):
        return True
    before = text[max(0, start - 2) : start]
    return before[1:] == " " and before[0] < "\u2e80" and not before[0].isdigit()
